"""The account of a streamed VMDK: do its grain directory and tables describe the grains that came?"""

from __future__ import annotations

import array
import bisect
import secrets
import sys
from typing import TYPE_CHECKING

from converters.errors import CorruptImage
from converters.vmdk.layout import FLAG_ZEROED_GRAINS, TABLE_BYTES, TABLE_ENTRIES, SparseExtentHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converters.sink import Buffer

_PRIME = (1 << 61) - 1
MAX_COPIES = 2  # the directory and its tables, and their redundant copies
_ZERO_TABLE = bytes(TABLE_BYTES)


def parse_entries(data: Buffer, count: int) -> Sequence[int]:
    """Return the first `count` entries (sectors, 32 bits) of a grain table or grain directory."""
    entries = array.array("I")
    entries.frombytes(data[: count * entries.itemsize])
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


class GrainLedger:
    """Compares grains with tables, whichever come first, in memory of 44 bytes per table at most.

    The grains of one table are summed up as `sum(key[i] * sector[i]) mod 2^61-1`, `i` being the place in the
    table and `key` random numbers drawn anew for each image. Two different tables have the same sum with a
    probability of 2^-61, and nobody can look for such a pair beforehand.
    """

    def __init__(self, header: SparseExtentHeader) -> None:
        self._table_count = header.table_count
        # 0 and, where the flag says so, 1 mean a grain of zeros that is not in the stream.
        self._first_sector = 2 if header.flags & FLAG_ZEROED_GRAINS else 1
        self._keys = [secrets.randbelow(_PRIME - 1) + 1 for _ in range(TABLE_ENTRIES)]
        self._grains = array.array("Q")  # sum, by index of the table
        # Sector of each table in the stream, ascending as the stream is read, and its sum.
        self._table_sectors, self._table_sums = array.array("Q"), array.array("Q")
        self._directories: dict[int, Sequence[int]] = {}  # sector of the directory -> sectors of its tables

    def add_grain(self, grain: int, sector: int) -> None:
        """Note that the marker of grain number `grain` stands at `sector` of the stream."""
        table, place = divmod(grain, TABLE_ENTRIES)
        if not self._grains:
            self._grains.frombytes(bytes(self._grains.itemsize * self._table_count))
        self._grains[table] = (self._grains[table] + self._keys[place] * sector) % _PRIME

    def add_table(self, sector: int, data: Buffer) -> None:
        """Note the grain table that stands at `sector` of the stream, behind those noted before.

        Raises:
            CorruptImage: there are more tables than a disk of this size can have.
        """
        if bytes(data) == _ZERO_TABLE:
            return
        first = self._first_sector
        pairs = zip(self._keys, parse_entries(data, TABLE_ENTRIES), strict=True)
        total = sum(key * entry for key, entry in pairs if entry >= first) % _PRIME
        if total:
            if len(self._table_sums) >= MAX_COPIES * self._table_count:
                raise CorruptImage(f"the VMDK has more grain tables than its {self._table_count} can be")
            self._table_sectors.append(sector)
            self._table_sums.append(total)

    def add_directory(self, sector: int, data: Buffer) -> Sequence[int]:
        """Note the grain directory that stands at `sector` of the stream; return its entries.

        Raises:
            CorruptImage: it is too short, or there are too many.
        """
        if len(self._directories) >= MAX_COPIES:
            raise CorruptImage("the VMDK has too many grain directories")
        entries = parse_entries(data, self._table_count)
        if len(entries) < self._table_count:
            raise CorruptImage(f"the grain directory has less than {self._table_count} entries")
        self._directories[sector] = entries
        return entries

    def disagreement(self, directory_sector: int) -> str | None:
        """Return in words how the directory at that sector differs from the grains; `None`: it does not."""
        directory = self._directories.get(directory_sector)
        if directory is None:
            return f"there is no grain directory at sector {directory_sector}"
        for index, sector in enumerate(directory):
            if (self._grains[index] if self._grains else 0) != self._sum_of_table(sector):
                return f"grain table {index} does not list the grains that came"
        return None

    def _sum_of_table(self, sector: int) -> int:
        at = bisect.bisect_left(self._table_sectors, sector) if sector else len(self._table_sectors)
        found = at < len(self._table_sectors) and self._table_sectors[at] == sector
        return self._table_sums[at] if found else 0
