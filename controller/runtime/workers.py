"""Threads that take keys from a queue, have them reconciled, and turn the outcome into queue calls.

The only place that calls forget, add_after, add_rate_limited and done. What a key means is not known here.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from controller.runtime.clock import Clock, SystemClock

if TYPE_CHECKING:
    from controller.runtime.workqueue import WorkQueue

log = structlog.get_logger(__name__)

# A pass takes seconds; when all workers are in passes of this length, they wait for what never comes.
WEDGED_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile asks for when it did not fail.

    Attributes:
        requeue_after: Seconds until the key is wanted again; `None` waits for the next event.
    """

    requeue_after: float | None = None


Reconcile: TypeAlias = Callable[[str], Result]


class WorkerPool:
    """`count` threads that call `reconcile(key)` for the keys of a queue.

    Promises: a returned `Result` forgets the key's failures and, if it says so, brings the key back later;
    an exception brings the key back after the limiter's delay (at the latest after `retry_within` seconds if
    it has such an attribute: what failed then was not the key's fault) and leaves one line in the log (a
    warning without a traceback when the exception has `retryable = True`: such failures are expected); the
    key is given back either way. What a reconcile binds to the log's context stays for the lines of its key.
    A worker ends when the queue is shut down, and never otherwise.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue,
        reconcile: Reconcile,
        count: int,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{name}-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads; once."""
        for thread in self._threads:
            thread.start()

    def shut_down(self, timeout: float | None = None) -> bool:
        """Shut the queue down and wait for the workers to finish the keys that they have.

        Keys that are still pending are left: the process ends or has lost its lease, and whoever goes on
        finds them by listing.

        Args:
            timeout: Seconds to wait in all; `None` waits for ever.

        Returns:
            Whether all threads have ended.
        """
        self._stopping.set()
        self._queue.shut_down()
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def trouble(self) -> str:
        """Return in words why no keys are worked on; empty: all is well, or not started."""
        if self._stopping.is_set():
            return ""
        dead = [thread for thread in self._threads if thread.ident is not None and not thread.is_alive()]
        if dead:
            return f"{len(dead)} of {len(self._threads)} workers of {self._name} have died"
        ages = self._queue.in_work()
        if len(ages) >= len(self._threads) and min(ages) > WEDGED_SECONDS:
            return f"no worker of {self._name} has come back for {min(ages):.0f} s"
        return ""

    def _run(self) -> None:
        while True:
            key, shutdown = self._queue.get()
            if shutdown:
                return
            if key is None:
                continue
            if self._stopping.is_set():
                self._queue.done(key)
            else:
                with contextlib.suppress(BaseException):  # at worst the log itself is broken; go on working
                    self._process(key)

    def _process(self, key: str) -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(controller=self._name, key=key)
        try:
            after = self._reconcile(key).requeue_after
        except BaseException as exc:  # noqa: BLE001  # a worker lives on, whatever a reconcile does
            self._queue.add_rate_limited(key, getattr(exc, "retry_within", math.inf))
            self._log_failure(key, exc)
        else:
            self._queue.forget(key)
            if after is not None:
                self._queue.add_after(key, after)
        finally:
            self._queue.done(key)

    def _log_failure(self, key: str, exc: BaseException) -> None:
        failures = self._queue.num_requeues(key)
        if getattr(exc, "retryable", False):
            log.warning(
                "reconcile failed, will retry",
                error=str(exc),
                error_type=type(exc).__name__,
                failures=failures,
            )
        else:
            log.error("reconcile failed unexpectedly, will retry", exc_info=exc, failures=failures)
