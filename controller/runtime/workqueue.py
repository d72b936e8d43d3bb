"""A work queue with the promises of client-go's `util/workqueue`.

What may not live here: threads (see `workers`) and anything that knows what a key stands for.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from controller.runtime.backoff import ControllerRateLimiter, RateLimiter
from controller.runtime.clock import Clock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable


class QueueMetrics(Protocol):
    """What a queue tells about itself, under client-go's names.

    Calls are made under the queue's lock: they must be quick and must not call the queue.
    """

    def add(self) -> None:
        """Count a key that became pending (duplicates are not counted)."""
        ...

    def latency(self, seconds: float) -> None:
        """Observe how long a key was pending before a worker got it."""
        ...

    def work_duration(self, seconds: float) -> None:
        """Observe how long a worker kept a key."""
        ...

    def retry(self) -> None:
        """Count a delayed addition."""
        ...

    def bind(
        self, depth: Callable[[], int], unfinished: Callable[[], float], longest: Callable[[], float]
    ) -> None:
        """Take the three figures that are only true at the moment of asking.

        Args:
            depth: Keys that wait for a worker.
            unfinished: Sum of the seconds that keys now in work have been there.
            longest: The longest of them.
        """
        ...


class WorkQueue:
    """Keys that have something to be done, each at most once, each with at most one worker.

    Promises, for any number of producers and workers:

    * Fair: keys are handed out in the order in which they became pending.
    * Stingy: a key that is added several times before it is handed out is handed out once.
    * Exclusive: a key is never with two workers. Added while a worker has it, it becomes pending again when
      that worker calls `done`; so the last change is never lost.
    * Delayed keys become pending at their time, not before; of several delays of a key the earliest counts.
    * After `shut_down` nothing can be added; what is pending is still handed out, delayed keys are dropped.

    Every key that `get` returned must be given back by `done`, whatever happened.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        limiter: RateLimiter | None = None,
        metrics: QueueMetrics | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._limiter = limiter or ControllerRateLimiter(self._clock)
        self._metrics = metrics
        self._lock = threading.Lock()
        self._pending_changed = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._pending: deque[str] = deque()
        self._dirty: set[str] = set()  # needs work: pending, or to become so when its worker is done
        self._processing: dict[str, float] = {}  # with a worker, since
        self._pending_since: dict[str, float] = {}
        self._delayed: list[tuple[float, int, str]] = []  # heap of (due, tie-breaker, key)
        self._due: dict[str, float] = {}  # the one valid heap entry per key; others are stale
        self._sequence = itertools.count()
        self._shutting_down = False
        self._draining = False
        if metrics is not None:
            metrics.bind(self.__len__, self.unfinished_work, self.longest_running)

    def __len__(self) -> int:
        with self._lock:
            self._promote_due()
            return len(self._pending)

    @property
    def shutting_down(self) -> bool:
        """Whether `shut_down` or `shut_down_with_drain` has been called."""
        with self._lock:
            return self._shutting_down

    def add(self, key: str) -> None:
        """Make `key` pending. No effect when it already is, or after shutdown."""
        with self._lock:
            self._promote_due()
            self._add(key, self._clock.monotonic())

    def add_after(self, key: str, delay: float) -> None:
        """Make `key` pending in `delay` seconds; at once when that is not positive."""
        with self._lock:
            if self._shutting_down:
                return
            if self._metrics is not None:
                self._metrics.retry()
            now = self._clock.monotonic()
            self._promote_due()
            if delay <= 0:
                self._add(key, now)
                return
            due = now + delay
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._delayed, (due, next(self._sequence), key))
            if self._delayed[0][0] == due:
                self._pending_changed.notify()  # one waiter has to wake earlier than it meant to

    def add_rate_limited(self, key: str, longest: float = math.inf) -> None:
        """Make `key` pending after the limiter's delay: it has failed once more.

        For `longest` see `RateLimiter.when`.
        """
        self.add_after(key, self._limiter.when(key, longest))

    def forget(self, key: str) -> None:
        """Drop the failures of `key` from the limiter; the queue itself is not touched."""
        self._limiter.forget(key)

    def num_requeues(self, key: str) -> int:
        """Return how often `key` was added by `add_rate_limited` since it was forgotten."""
        return self._limiter.num_requeues(key)

    def get(self, timeout: float | None = None) -> tuple[str | None, bool]:
        """Wait for a pending key and take it.

        Args:
            timeout: Seconds to wait at most; `None` waits until there is a key or the queue shuts down.

        Returns:
            `(key, False)`; `(None, True)` when the queue is shut down and empty: the worker should end;
            `(None, False)` when the time is over.
        """
        with self._lock:
            deadline = None if timeout is None else self._clock.monotonic() + timeout
            try:
                return self._get(deadline)
            finally:
                # This thread may have been the one that was waiting for the next delayed key, or it swallowed
                # a wake-up while its own time ran out: another waiter has to look.
                if self._pending or self._delayed:
                    self._pending_changed.notify()

    def done(self, key: str) -> None:
        """Give back a key. If it was added meanwhile, it becomes pending now."""
        with self._lock:
            self._promote_due()
            started = self._processing.pop(key, None)
            if started is None:
                return
            now = self._clock.monotonic()
            if self._metrics is not None:
                self._metrics.work_duration(now - started)
            if key in self._dirty:
                self._pending.append(key)
                self._pending_changed.notify()
            elif not self._pending and not self._processing:
                self._emptied.notify_all()

    def shut_down(self) -> None:
        """Refuse new keys, hand out what is pending, then send the workers home. Ends a running drain."""
        with self._lock:
            self._draining = False
            self._shut_down()

    def shut_down_with_drain(self, timeout: float | None = None) -> bool:
        """Shut down and wait until every pending key was handed out and given back.

        Returns:
            Whether the queue is empty; False when the time was over or `shut_down` ended the wait.
        """
        with self._lock:
            self._draining = True
            self._shut_down()
            self._emptied.wait_for(lambda: not self._draining or self._is_empty(), timeout)
            return self._is_empty()

    def unfinished_work(self) -> float:
        """Return the sum of the seconds that keys now in work have been there."""
        with self._lock:
            now = self._clock.monotonic()
            return sum(now - started for started in self._processing.values())

    def longest_running(self) -> float:
        """Return the seconds that the key longest in work has been there; 0 when there is none."""
        with self._lock:
            now = self._clock.monotonic()
            return max((now - started for started in self._processing.values()), default=0.0)

    def in_work(self) -> list[float]:
        """Return of each key that is with a worker for how many seconds it has been there."""
        with self._lock:
            now = self._clock.monotonic()
            return [now - started for started in self._processing.values()]

    # Below, the caller holds the lock.

    def _add(self, key: str, since: float) -> None:
        if self._shutting_down or key in self._dirty:
            return
        self._dirty.add(key)
        self._pending_since[key] = since
        if self._metrics is not None:
            self._metrics.add()
        if key not in self._processing:
            self._pending.append(key)
            self._pending_changed.notify()

    def _promote_due(self) -> None:
        """Move delayed keys whose time has come to the pending ones.

        Every public method does so first, so that the order is the one that a timer would have made.
        """
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key, due)

    def _get(self, deadline: float | None) -> tuple[str | None, bool]:
        while True:
            self._promote_due()
            if self._pending:
                return self._take(), False
            if self._shutting_down:
                return None, True
            now = self._clock.monotonic()
            if deadline is not None and now >= deadline:
                return None, False
            ends = [
                end for end in (deadline, self._delayed[0][0] if self._delayed else None) if end is not None
            ]
            self._pending_changed.wait(min(ends) - now if ends else None)

    def _take(self) -> str:
        key = self._pending.popleft()
        self._dirty.discard(key)
        now = self._clock.monotonic()
        self._processing[key] = now
        since = self._pending_since.pop(key, now)
        if self._metrics is not None:
            self._metrics.latency(now - since)
        return key

    def _shut_down(self) -> None:
        self._promote_due()
        self._shutting_down = True
        self._delayed.clear()
        self._due.clear()
        self._pending_changed.notify_all()
        self._emptied.notify_all()

    def _is_empty(self) -> bool:
        return not self._pending and not self._processing
