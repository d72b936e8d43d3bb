"""Reading a tar archive forward, from a stream or by jumps: headers and where members are. No file is made.

Source of the formats: POSIX.1-2008 `pax` (ustar and extended headers), and GNU tar's manual, "Basic Tar
Format" (long names, base-256 numbers). Names are only names here: to be compared, never to be used as paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from providers.errors import ArchiveInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
MAX_MEMBERS = 4096  # a disk of 4 TB in chunks of 1 GB
MAX_NAME_BYTES = 4096  # Linux: PATH_MAX
MAX_EXTENSION_BYTES = 64 * 1024  # of one extended header
MAX_SIZE = 2**62
_REGULAR = b"0\x007"  # regular file, the same in the oldest form, contiguous file
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
_SHOWN = 100


class Source(Protocol):
    """Bytes that can be read forward only."""

    @property
    def position(self) -> int:
        """Bytes read or skipped so far."""
        ...

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, or what is left when that is less."""
        ...

    def skip(self, length: int) -> None:
        """Pass over so many bytes; beyond the end, the next `read` returns nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in the archive.

    Attributes:
        name: As the archive has it, without `./` before it.
        offset: Where its bytes begin in the archive.
        size: How many there are.
    """

    name: str
    offset: int
    size: int


def members(source: Source) -> Iterator[Member]:
    """Yield the regular files in the order of the archive.

    At each step the source stands at the first byte of the member; the caller may read of it what it likes,
    and no further.

    Raises:
        ArchiveInvalid: what comes is no tar archive, or one that is damaged or beyond a limit.
    """
    count = 0
    name: str | None = None
    size: int | None = None
    while (header := _next_header(source)) is not None:
        count += 1
        if count > MAX_MEMBERS:
            raise ArchiveInvalid(f"the archive has more than {MAX_MEMBERS} members")
        kind, length = header[156:157], _size(header[124:136])
        if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
            content = _extension(source, length)
            if kind == _GNU_NAME:
                name = _text(content.rstrip(b"\0"))
            elif kind == _PAX:
                records = _pax_records(content)
                name = records.get("path", name)
                size = _pax_size(records)
            continue
        if kind == _GNU_SPARSE:
            raise ArchiveInvalid("the archive holds a sparse member, which OVF does not have")
        member = Member(
            _plain(name if name is not None else _ustar_name(header)),
            source.position,
            length if size is None else size,
        )
        name = size = None
        if kind in _REGULAR:
            yield member
        end = member.offset + member.size
        source.skip(end + -end % BLOCK - source.position)


def _next_header(source: Source) -> bytes | None:
    """Return the next header; `None` at the end, with or without the two blocks of zeros that mark it."""
    at = source.position
    header = source.read(BLOCK)
    if not header or (len(header) == BLOCK and not any(header)):
        if not at:
            raise ArchiveInvalid("the archive is empty")
        return None
    if len(header) < BLOCK:
        raise ArchiveInvalid(f"the archive ends inside a header, at byte {at + len(header)}")
    stored = header[148:156].strip(b" \0")
    blanked = header[:148] + b" " * 8 + header[156:]
    # Some old writers summed signed characters.
    sums = sum(blanked), sum(byte - 256 if byte > 127 else byte for byte in blanked)  # noqa: PLR2004
    if not stored or stored.strip(b"01234567") or int(stored, 8) not in sums:
        what = (
            "what was downloaded is no tar archive" if not at else f"the archive has no header at byte {at}"
        )
        raise ArchiveInvalid(what)
    return header


def _extension(source: Source, length: int) -> bytes:
    if length > MAX_EXTENSION_BYTES:
        raise ArchiveInvalid(f"the archive has an extended header of {length} bytes")
    content = source.read(length)
    if len(content) < length:
        raise ArchiveInvalid("the archive ends inside an extended header")
    source.skip(-length % BLOCK)
    return content


def _pax_records(content: bytes) -> dict[str, str]:
    """Return the records, each `<length> <key>=<value>` and a line end; the length counts all of it."""
    records = {}
    at = 0
    while at < len(content) and content[at:].strip(b"\0"):
        digits, space, _ = content[at : at + 12].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = content[at : at + length]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not equals or not record.endswith(b"\n") or len(record) != length:
            raise ArchiveInvalid("the archive has a damaged extended header")
        records[_text(key)] = _text(value[:-1])
        at += length
    if any(key.startswith("GNU.sparse") for key in records):
        raise ArchiveInvalid("the archive holds a sparse member, which OVF does not have")
    return records


def _pax_size(records: dict[str, str]) -> int | None:
    text = records.get("size")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > len(str(MAX_SIZE)) or int(text) > MAX_SIZE:
        raise ArchiveInvalid("the archive says that a member has an impossible size")
    return int(text)


def _size(field: bytes) -> int:
    """Return the size in a header: octal digits, or a binary number behind a byte of 0x80 (GNU)."""
    if field[0] == 0x80:  # noqa: PLR2004  # GNU's mark of a positive number
        value = int.from_bytes(field[1:], "big")
    else:
        digits = field.strip(b" \0").partition(b"\0")[0].rstrip(b" ")
        if digits.strip(b"01234567"):
            raise ArchiveInvalid("the archive has a header whose size is no number")
        value = int(digits or b"0", 8)
    if value > MAX_SIZE:
        raise ArchiveInvalid("the archive has a header with an impossible size")
    return value


def _ustar_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # POSIX; GNU's own form has other things in the prefix's place
        prefix = header[345:500].partition(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    return _text(name)


def _text(raw: bytes) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise ArchiveInvalid(f"the archive has a member with a name of {len(raw)} bytes: {raw[:_SHOWN]!r}")
    return raw.decode("utf-8", "replace")


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
