"""What can go wrong between a stream of bytes and a raw image, as types with a reason.

Every error has `reason` (CamelCase, part of the API: it stands in conditions) and `retryable`. The providers'
errors have the same shape and no common base: the two packages do not know each other. An `OSError` or a
library's own exception never leaves this package: it is raised again as one of these, `from` the original.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the kernel says when there is no room: on the file system, in the quota. EFBIG is none of them: making
# room does not help a file that is larger than the file system can have.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class ConversionError(Exception):
    """Base of all errors of a conversion.

    Attributes:
        reason: CamelCase word for conditions and Events.
        retryable: Whether the same disk, read again, may succeed without anybody changing anything.
    """

    reason: ClassVar[str] = "ConversionFailed"
    retryable: ClassVar[bool] = True


class TruncatedImage(ConversionError):
    """Surfaces when the bytes end before the image does: a cut connection that looked like an end."""

    reason = "TruncatedImage"


class CorruptImage(ConversionError):
    """Surfaces when the image contradicts itself or its format; the message says where."""

    reason = "CorruptImage"
    retryable = False


class UnsupportedFormat(ConversionError):
    """Surfaces when the format, or something the image makes use of, is not one that can be converted."""

    reason = "UnsupportedFormat"
    retryable = False


class SizeMismatch(ConversionError):
    """Surfaces when the image's virtual size is not the one that the source announced."""

    reason = "SizeMismatch"
    retryable = False


class ChecksumMismatch(ConversionError):
    """Surfaces when the bytes are not those whose checksum the source gave. Read again, they may be."""

    reason = "ChecksumMismatch"


class DiskFull(ConversionError):
    """Surfaces when the scratch volume has no room left."""

    reason = "DiskFull"


class ScratchFailed(ConversionError):
    """Surfaces when the scratch volume refuses a read or a write for another reason than room."""

    reason = "ScratchFailed"


class ConverterFailed(ConversionError):
    """Surfaces when `qemu-img` cannot be run or ends with an error; the message carries its own words."""

    reason = "ConverterFailed"


class Cancelled(ConversionError):
    """Surfaces when the caller's stop event ended the conversion."""

    reason = "Cancelled"


@contextmanager
def scratch_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into `DiskFull` or `ScratchFailed`; `what` begins the message.

    Raises:
        DiskFull: no space, no quota.
        ScratchFailed: any other refusal of the operating system.
    """
    try:
        yield
    except OSError as exc:
        raise from_os_error(exc, what) from exc


def from_os_error(exc: OSError, what: str) -> DiskFull | ScratchFailed:
    """Return the typed error that `exc` means; `what` begins the message."""
    kind = DiskFull if exc.errno in NO_ROOM else ScratchFailed
    return kind(f"{what}: {exc.strerror or exc}")
