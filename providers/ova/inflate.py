"""Inflating a gzip file as it comes, within a limit. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from providers.errors import ArchiveInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say: with gzip's header (RFC 1952)
STEP_BYTES = 1024 * 1024


def inflate(chunks: Iterable[bytes | memoryview], limit: int, what: str) -> Iterator[bytes]:
    """Yield what a gzip file of one or more members holds, in pieces of at most `STEP_BYTES`.

    Raises:
        ArchiveInvalid: it is no gzip file, ends early, or holds more than `limit` bytes.
    """
    inflater = zlib.decompressobj(_GZIP)
    begun = False
    total = 0
    for chunk in chunks:
        data = bytes(chunk)
        while data:
            if inflater.eof:
                data = data.lstrip(b"\0")  # padding, as gzip itself allows
                if not data:
                    break
                inflater = zlib.decompressobj(_GZIP)
            begun = True
            try:
                piece = inflater.decompress(data, STEP_BYTES)
            except zlib.error as exc:
                raise ArchiveInvalid(f"{what} is not the gzip file that the descriptor says it is") from exc
            total += len(piece)
            if total > limit:
                raise ArchiveInvalid(f"{what} inflates to more than the {limit} bytes that its disk can need")
            if piece:
                yield piece
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if begun and not inflater.eof:
        raise ArchiveInvalid(f"{what} ends inside its gzip stream")
