"""The transfer pool itself: threads, limits, turns, attempts."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from controller.scratch import Scratch, ScratchError, ScratchFull
from controller.transfers.jobs import DiskFile, DiskJob, TransferState, TransferStatus
from controller.transfers.rate import MovingRate
from controller.transfers.reading import DiskReader, Run
from controller.transfers.room import Room
from controller.transfers.throttle import Throttle
from converters.errors import DiskFull
from providers.errors import DiskNotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from structlog.typing import FilteringBoundLogger

    from controller.runtime.clock import Clock

NO_ROOM = (DiskFull, ScratchFull)

_log = structlog.get_logger(__name__)


class TransferPool:
    """Runs jobs within limits, one thread per running job; keyed by import UID and disk index.

    * At most `limit` jobs run at once, and at most `source_limit` of one source.
    * Whose turn it is: the import with the fewest running jobs, then the one served longest ago. So the disks
      of one VM run in parallel, and sixty of them do not stand before everyone else.
    * An import begins when the scratch volume has room for it beside what those that have begun will still
      need, see `controller.transfers.room`. A job that meets a full volume gives its room back and waits in
      the queue until there is more.
    * A disk that its source has to prepare first waits in the queue, where it takes no thread but counts as
      one that is read from its source. Every `start` looks again, when it is time.
    * A failed job stays failed until `retry_failures`; then it waits in the queue, whatever else runs.
    * A source is read no faster than its jobs say, whatever their number.
    * A complete image on the scratch volume is a job done, also after a restart of the process.
    * A job leaves nothing on the scratch volume unless it succeeds.

    Thread-safe; no method blocks on a transfer but `shut_down`.

    Args:
        scratch: Where images go.
        clock: For rates and time limits.
        limit: Jobs that run at once.
        on_change: Called with the import's UID, in a thread of the pool, whenever one of its jobs has ended,
            in whatever way; must return soon.
        on_bytes: Called with the job and the number of bytes whenever some have come from its source; must be
            cheap.
    """

    def __init__(
        self,
        scratch: Scratch,
        clock: Clock,
        *,
        limit: int,
        on_change: Callable[[str], None],
        on_bytes: Callable[[DiskJob, int], None] = lambda _job, _count: None,
    ) -> None:
        self._scratch = scratch
        self._clock = clock
        self._limit = limit
        self._on_change = on_change
        self._lock = threading.Lock()
        self._reader = DiskReader(scratch, on_bytes, self._note_progress)
        self._runs: dict[tuple[str, int], Run] = {}
        self._sequence = itertools.count()
        self._throttles: dict[str, Throttle] = {}  # by source
        self._served: dict[str, int] = {}  # import -> when it was served last, in the order of sequence
        self._closing = False

    def start(self, *jobs: DiskJob) -> None:
        """See to it that jobs run: nothing happens to one that is running or done.

        The limits that they tell of their source count from now on, also for those that run or wait already.
        The jobs of one import are to be started together, so that the room they need is known. One whose
        image has another size than the job says starts again: the source's disk was resized. While a
        cancelled job is still ending, nothing starts; `on_change` tells when. Jobs that wait for room look
        whether there is some. Nothing happens to a failed job, see `retry_failures`.

        Raises:
            controller.scratch.ScratchError: the scratch volume cannot be read.
        """
        missing = [job for job in jobs if not self._is_complete(job)]
        with self._lock:
            if self._closing:
                return
            for job in missing:
                key = job.import_uid, job.disk_index
                run = self._runs.get(key)
                if run is None and not self._is_complete(job):  # it may have ended since
                    self._runs[key] = Run(job, MovingRate(self._clock), next(self._sequence))
                elif run and run.status is TransferStatus.QUEUED:
                    run.job = job
                self._throttle(job).bytes_per_second = job.source_bytes_per_second
            self._dispatch()

    def state(self, import_uid: str, disk_index: int) -> TransferState | None:
        """Return what is known of a job; `None`: it was never started, or cancelled.

        Raises:
            controller.scratch.ScratchError: the scratch volume cannot be read.
        """
        with self._lock:
            run = self._runs.get((import_uid, disk_index))
            if run is not None:
                return TransferState(
                    run.status,
                    run.bytes_done,
                    run.job.size_bytes,
                    run.rate.per_second() if run.status is TransferStatus.RUNNING else 0,
                    run.error,
                    needed_bytes=run.needed_bytes if run.status is TransferStatus.QUEUED else 0,
                    preparing=run.preparing,
                    look_again=max(0.0, run.due - self._clock.monotonic()),
                )
        record = self._scratch.record(import_uid, disk_index)
        if record is None:
            return None
        file = DiskFile(self._scratch.path(import_uid, disk_index), record.size_bytes, record.digest)
        return TransferState(TransferStatus.DONE, record.size_bytes, record.size_bytes, result=file)

    def rates(self) -> Counter[str]:
        """Return bytes of virtual disks per second that are being read now, by `source_key`."""
        rates: Counter[str] = Counter()
        with self._lock:
            for run in self._runs.values():
                if run.status is TransferStatus.RUNNING:
                    rates[run.job.source_key] += run.rate.per_second()
        return rates

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are: `running`, `queued`, `waiting_for_room`, `failed`."""
        counts = {"running": 0, "queued": 0, "waiting_for_room": 0, "failed": 0}
        with self._lock:
            for run in self._runs.values():
                waits = "failed" if run.error else "waiting_for_room" if run.needed_bytes else "queued"
                counts["running" if run.status is TransferStatus.RUNNING else waits] += 1
        return counts

    def cancel(self, import_uid: str) -> bool:
        """Stop every job of an import; return whether none runs any more.

        Does not wait: call it again, `on_change` tells when. Failures are forgotten, images are kept.
        """
        with self._lock:
            running = []
            for key, run in list(self._runs.items()):
                if run.job.import_uid != import_uid:
                    continue
                if run.status is TransferStatus.RUNNING:
                    running.append(run)
                else:
                    del self._runs[key]
        self._halt(running)
        return not running

    def retry_failures(self, import_uid: str, disks: Collection[int], seconds: float) -> None:
        """Queue failed jobs of an import again; the first `start` after so many seconds tries them."""
        with self._lock:
            for index in disks:
                run = self._runs.get((import_uid, index))
                if run and run.status is TransferStatus.FAILED:
                    again = Run(run.job, MovingRate(self._clock), next(self._sequence))
                    again.error, again.due = run.error, self._clock.monotonic() + seconds
                    self._runs[import_uid, index] = again

    def discard(self, import_uid: str) -> None:
        """Remove everything of an import from the scratch volume; only after `cancel` returned True.

        Raises:
            RuntimeError: a job of it still runs.
            controller.scratch.ScratchError: the scratch volume refuses.
        """
        with self._lock:
            if any(run.job.import_uid == import_uid for run in self._runs.values()):
                raise RuntimeError(f"import {import_uid} has jobs: cancel comes before discard")
            self._served.pop(import_uid, None)
        self._scratch.remove(import_uid)
        with self._lock:
            self._dispatch()

    def shut_down(self, timeout: float) -> bool:
        """Stop everything and wait up to `timeout` seconds; return whether all threads have ended.

        No job starts any more. Complete images are kept, the rest is read again after a restart.
        """
        deadline = self._clock.monotonic() + timeout
        with self._lock:
            self._closing = True
            running = [run for run in self._runs.values() if run.status is TransferStatus.RUNNING]
        self._halt(running)
        threads = [run.thread for run in running if run.thread is not None]
        for thread in threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _halt(self, runs: list[Run]) -> None:
        for run in runs:
            run.stop.set()
            stream = run.stream  # set before `stop` is looked at, see `_transfer`
            if stream is not None:
                stream.close()

    def _dispatch(self) -> None:
        """Start whatever the limits allow; the lock is held."""
        if self._closing:
            return
        running = [run for run in self._runs.values() if run.status is TransferStatus.RUNNING]
        per_import = Counter(run.job.import_uid for run in running)
        preparing = [run for run in self._runs.values() if run.preparing]
        per_source = Counter(run.job.source_key for run in {*running, *preparing})
        now = self._clock.monotonic()
        queued = [run for run in self._runs.values() if run.status is TransferStatus.QUEUED]
        self._look_for_room(queued)
        for _ in range(self._limit - len(running)):
            waiting = [
                run
                for run in queued
                if not run.needed_bytes
                and run.due <= now
                and per_source[run.job.source_key] - bool(run.preparing) < _limit(run)
            ]
            if not waiting:
                return
            run = min(waiting, key=lambda run: self._turn(run, per_import))
            uid = run.job.import_uid
            thread = threading.Thread(
                target=self._work, args=(run,), name=f"transfer-{uid}-{run.job.disk_index}", daemon=True
            )
            thread.start()  # first: where there is none to be had, the job stays queued
            run.thread, run.status = thread, TransferStatus.RUNNING
            run.rate = MovingRate(self._clock)
            self._served[uid] = next(self._sequence)
            per_import[uid] += 1
            per_source[run.job.source_key] += not run.preparing
            queued.remove(run)
            self._look_for_room(queued)

    def _look_for_room(self, queued: list[Run]) -> None:
        """Find out which of the queued jobs must wait for room; the lock is held."""
        for run in queued:
            run.needed_bytes = 0
        if not queued:
            return
        try:
            free = self._scratch.free_bytes()
            occupied = self._scratch.uids() | self._active()
            outstanding = self._outstanding()
        except ScratchError:
            return  # whoever begins is told
        begun = outstanding.keys() & occupied
        reserved = sum(outstanding[uid] for uid in begun)
        for run in queued:
            uid = run.job.import_uid
            room = Room(
                free,
                reserved=reserved - outstanding[uid] if uid in begun else reserved,
                alone=not occupied - {uid},
            )
            run.needed_bytes = room.missing_for(
                outstanding[uid], begun=uid in begun, insufficient=run.insufficient
            )

    def _active(self) -> set[str]:
        """Return the imports of which a disk is read, or is prepared by its source."""
        return {
            run.job.import_uid
            for run in self._runs.values()
            if run.status is TransferStatus.RUNNING or run.preparing
        }

    def _outstanding(self) -> Counter[str]:
        """Return what each import's jobs will still put on the scratch volume, as far as that is known.

        A job that met a full volume holds nobody up while it waits.
        """
        outstanding: Counter[str] = Counter()
        for run in self._runs.values():
            job = run.job
            if run.status is TransferStatus.RUNNING:
                expected = max(job.expected_bytes, run.insufficient or 0)
                allocated = self._scratch.allocated_bytes(job.import_uid, job.disk_index)
                outstanding[job.import_uid] += max(0, expected - allocated)
            elif run.status is TransferStatus.QUEUED and run.insufficient is None:
                outstanding[job.import_uid] += job.expected_bytes
        return outstanding

    def _is_complete(self, job: DiskJob) -> bool:
        record = self._scratch.record(job.import_uid, job.disk_index)
        return record is not None and record.size_bytes == job.size_bytes

    def _throttle(self, job: DiskJob) -> Throttle:
        return self._throttles.setdefault(job.source_key, Throttle(self._clock))

    def _turn(self, run: Run, per_import: Counter[str]) -> tuple[int, int, int]:
        uid = run.job.import_uid
        return per_import[uid], self._served.get(uid, -1), run.sequence

    def _work(self, run: Run) -> None:
        """Run one job to its end; the target of its thread."""
        job = run.job
        structlog.contextvars.bind_contextvars(**job.log_context)  # of this thread, which has no other job
        log = _log.bind(uid=job.import_uid, disk=job.disk_index)
        started = self._clock.monotonic()
        if not run.preparing:
            log.info("transfer started", bytes=job.size_bytes, source=job.source_key)
        error: Exception | None = None
        try:
            self._reader.read(run, self._throttle(job))
        except Exception as exc:  # noqa: BLE001  # whatever it is, it ends the job and not the pool
            error = exc
        _tell_end(log, run, error, round(self._clock.monotonic() - started, 1))
        with self._lock:
            if error is None or run.stop.is_set():
                del self._runs[job.import_uid, job.disk_index]
            elif isinstance(error, DiskNotReady):
                run.status, run.preparing, run.error = TransferStatus.QUEUED, str(error), None
                run.due = self._clock.monotonic() + error.retry_after
            elif isinstance(error, NO_ROOM):
                run.status, run.insufficient, run.error = TransferStatus.QUEUED, self._free_bytes(), None
            else:
                run.status, run.preparing, run.error = TransferStatus.FAILED, "", error
            self._dispatch()
            closing = self._closing
        if not closing:
            self._on_change(job.import_uid)

    def _note_progress(self, run: Run, done: int) -> None:
        with self._lock:
            run.bytes_done = max(run.bytes_done, done)
            run.rate.note(run.bytes_done)

    def _free_bytes(self) -> int:
        try:
            return self._scratch.free_bytes()
        except ScratchError:
            return 0


def _limit(run: Run) -> int:
    return max(1, run.job.source_limit)


def _tell_end(log: FilteringBoundLogger, run: Run, error: Exception | None, seconds: float) -> None:
    if error is None:
        log.info("transfer done", bytes=run.job.size_bytes, seconds=seconds)
    elif run.stop.is_set():
        log.info("transfer cancelled", seconds=seconds)
    elif isinstance(error, DiskNotReady):
        log.debug("disk is being prepared", what=str(error))
    elif isinstance(getattr(error, "reason", None), str):
        log.warning("transfer failed", reason=error.reason, error=str(error), seconds=seconds)  # type: ignore[attr-defined]
    else:
        log.error("transfer failed", reason="InternalError", seconds=seconds, exc_info=error)
