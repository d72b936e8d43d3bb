"""The C library's heap, told to keep memory that is needed again at once."""

from __future__ import annotations

import contextlib
import ctypes

# mallopt(3), malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The grains and chunks of some batches. By default 128 KiB: whenever a batch of grains was written, its
# memory would go back to the kernel, and every page be cleared and mapped again for the next batch. That took
# half of the system time of a decoding.
_KEPT_BYTES = 4 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let each arena of the heap keep up to 4 MiB that are free. Idempotent, for the whole process."""
    with contextlib.suppress(AttributeError):  # a C library other than glibc has its own ways
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
