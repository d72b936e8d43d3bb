"""What goes into the transfer pool and what can be learned from it. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from providers.base import DiskStream


class TransferStatus(StrEnum):
    """Where a job is."""

    QUEUED = "Queued"
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class DiskJob:
    """One disk to be read.

    Attributes:
        import_uid: UID of the import.
        disk_index: Place of the disk in its VM.
        size_bytes: Virtual size.
        source_key: Names the source whose limit counts.
        source_limit: Disks read from that source at once; at least 1.
        open: Starts reading the disk. Called anew for every attempt, in a thread of the pool.
        expected_bytes: What the image will take on the scratch volume, about; 0 where nobody knows.
        source_bytes_per_second: How fast the source may be read, over all its disks; the job that was started
            last tells. `None` for as fast as it gives.
        log_context: What the lines of its log carry besides the import's UID and the disk's index.
    """

    import_uid: str
    disk_index: int
    size_bytes: int
    source_key: str
    source_limit: int
    open: Callable[[], DiskStream]
    expected_bytes: int = 0
    source_bytes_per_second: int | None = None
    log_context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A complete raw image: durable, of exactly the virtual size.

    Attributes:
        digest: `sparse-sha256-64k:<hex>`, see `converters.digest`.
    """

    path: Path
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class TransferState:
    """What is known of a job now.

    Attributes:
        bytes_done: Bytes of the virtual disk, from its beginning, that are read; never less than before while
            the job runs.
        bytes_total: Virtual size.
        bytes_per_second: Moving rate of `bytes_done`.
        error: Why it failed, also while it waits to be tried again and until its bytes come then; an error
            with `reason` and `retryable`, or a defect.
        result: The image, once done.
        needed_bytes: Free bytes on the scratch volume that a queued job waits for; 0: it waits for its turn.
        preparing: What the source does before the disk can be read; empty: nothing.
        look_again: Seconds after which `start` looks whether it has done it, or tries a failed job again.
    """

    status: TransferStatus
    bytes_done: int
    bytes_total: int
    bytes_per_second: int = 0
    error: Exception | None = None
    result: DiskFile | None = None
    needed_bytes: int = 0
    preparing: str = ""
    look_again: float = 0.0
