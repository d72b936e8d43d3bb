"""Reading one disk: attempts, each a new stream into a new file."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

import converters
from controller.runtime.lease import NotLeader
from controller.scratch import DiskRecord, Scratch
from controller.transfers.jobs import DiskJob, TransferStatus
from converters.errors import Cancelled, TruncatedImage
from converters.raw import SparseRawFile
from converters.stream import checked
from providers.errors import TransferInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.transfers.rate import MovingRate
    from controller.transfers.throttle import Throttle
    from providers.base import DiskStream

# A dropped connection is worth a few quick attempts. What outlasts them is for the state machine's back-off.
ATTEMPTS = 4
FENCE_SECONDS = 1.0  # between two looks whether this replica may act again
RETRY_WAIT = wait_exponential_jitter(initial=1, max=8)  # 1 + 2 + 4 s, each up to 1 s more
DROPPED_CONNECTION = (TransferInterrupted, TruncatedImage)

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Run:
    """A job on its way; guarded by the pool's lock.

    Attributes:
        stream: What is being read; to be closed by whoever sets `stop`.
        insufficient: Bytes that were free for it when it met a full volume.
        needed_bytes: Free bytes that it waits for.
        preparing: What the source does before the disk can be read.
        error: Why it failed; kept until its bytes come.
        due: When to look whether it has done it, or to try again (monotonic seconds).
    """

    job: DiskJob
    rate: MovingRate
    sequence: int
    status: TransferStatus = TransferStatus.QUEUED
    stop: threading.Event = field(default_factory=threading.Event)
    stream: DiskStream | None = None
    thread: threading.Thread | None = None
    bytes_done: int = 0
    error: Exception | None = None
    insufficient: int | None = None
    needed_bytes: int = 0
    preparing: str = ""
    due: float = 0.0


class DiskReader:
    """Reads disks into complete images on the scratch volume.

    Args:
        scratch: Where images go.
        on_bytes: Called with the job and the number of bytes whenever some have come from its source.
        on_progress: Called with the run and the bytes of its virtual disk that are read.
    """

    def __init__(
        self,
        scratch: Scratch,
        on_bytes: Callable[[DiskJob, int], None],
        on_progress: Callable[[Run, int], None],
    ) -> None:
        self._scratch = scratch
        self._on_bytes = on_bytes
        self._on_progress = on_progress

    def read(self, run: Run, throttle: Throttle) -> None:
        """Read a disk, with a few more attempts when its connection drops; leaves nothing unless it succeeds.

        Raises:
            Exception: whatever the provider, the converter or the scratch volume said last.
        """
        log = _log.bind(uid=run.job.import_uid, disk=run.job.disk_index)

        def tell(attempt: RetryCallState) -> None:
            outcome = attempt.outcome
            error = outcome.exception() if outcome is not None else None
            log.warning("transfer interrupted", attempt=attempt.attempt_number, error=str(error))

        Retrying(
            retry=retry_if_exception_type(DROPPED_CONNECTION),
            stop=stop_after_attempt(ATTEMPTS) | stop_when_event_set(run.stop),
            wait=RETRY_WAIT,
            sleep=sleep_using_event(run.stop),
            before_sleep=tell,
            reraise=True,
        )(self._attempt, run, throttle)

    def _attempt(self, run: Run, throttle: Throttle) -> None:
        """Make one attempt: a new stream into a new file."""
        if run.stop.is_set():  # during the pause between two attempts
            raise Cancelled("stopped")
        job = run.job
        key = job.import_uid, job.disk_index
        committed = False
        try:
            partial = self._scratch.prepare(*key)
            stream = job.open()
            try:
                run.stream = stream
                run.preparing, run.error = "", None
                if run.stop.is_set():  # while it was being opened: then nobody has closed it
                    raise Cancelled("stopped")
                digest = self._decode(run, stream, throttle, partial)
            finally:
                run.stream = None
                stream.close()
            self._commit(run, DiskRecord(job.size_bytes, digest))
            committed = True
        finally:
            if not committed:
                self._scratch.discard(*key)

    def _commit(self, run: Run, record: DiskRecord) -> None:
        """Put the image in place, as soon as this replica may: hours of reading are not lost with the lease.

        Either the lease is renewed, and nobody has acted meanwhile, or the process gives up and stops this.
        """
        while True:
            try:
                self._scratch.commit(run.job.import_uid, run.job.disk_index, record)
            except NotLeader:
                if run.stop.wait(FENCE_SECONDS):
                    raise
            else:
                return

    def _chunks(self, run: Run, stream: DiskStream, throttle: Throttle) -> Iterator[bytes | memoryview]:
        """Pass on what comes, counted, no faster than the source may be read."""
        for chunk in stream.chunks():
            self._on_bytes(run.job, len(chunk))
            throttle.take(len(chunk), run.stop)
            yield chunk

    def _decode(self, run: Run, stream: DiskStream, throttle: Throttle, partial: Path) -> str:
        size = run.job.size_bytes

        def on_progress(done: int) -> None:
            self._on_progress(run, done)
            stream.report(done / size if size else 1.0)

        with SparseRawFile(partial, size) as sink:
            converters.decode(
                stream.format,
                checked(self._chunks(run, stream, throttle), stream.length, stream.checksum),
                sink,
                expected_size=size,
                on_progress=on_progress,
                stop=run.stop,
                length=stream.length,
            )
            return sink.finish()
