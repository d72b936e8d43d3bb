"""Whole reads and writes at an offset; the kernel may do either in part. They raise `OSError`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converters.sink import Buffer

_IOV_MAX = 1024  # buffers per call, limits.h of Linux


def pread_exactly(fd: int, length: int, offset: int) -> bytes:
    """Return exactly `length` bytes.

    Raises:
        OSError: reading failed, or the file ends before.
    """
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, "the file ended before its end")
        data += more
    return data


def pwritev_all(fd: int, buffers: Sequence[Buffer], offset: int) -> None:
    """Write all of the buffers, one behind the other.

    Raises:
        OSError: writing failed; some of the bytes may be written.
    """
    pending = list(buffers)
    while pending:
        written = os.pwritev(fd, pending[:_IOV_MAX], offset)
        offset += written
        done = 0
        while done < len(pending) and written >= len(pending[done]):
            written -= len(pending[done])
            done += 1
        del pending[:done]
        if written:
            pending[0] = memoryview(pending[0])[written:]
