"""Tar archives in memory, and a source to read them from."""

from __future__ import annotations

import io
import tarfile
from typing import Literal


class BytesSource:
    """A `providers.ova.tar.Source` over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def read(self, length: int) -> bytes:
        piece = self._data[self.position : self.position + length]
        self.position += len(piece)
        return piece

    def skip(self, length: int) -> None:
        self.position += length


def archive(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def header(name: str, size: int = 0, kind: bytes = b"0", form: Literal[0, 1, 2] = 1) -> bytes:
    """Return the header of one member, by default as GNU tar writes it."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(form)


def with_field(block: bytes, at: int, value: bytes) -> bytes:
    """Return a header with other bytes at a place, its checksum made to fit."""
    changed = block[:at] + value + block[at + len(value) :]
    blanked = changed[:148] + b" " * 8 + changed[156:]
    return changed[:148] + b"%06o\0 " % sum(blanked) + changed[156:]
