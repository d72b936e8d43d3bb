"""A limit on how fast one source is read, shared by all its disks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.runtime.clock import Clock

BURST_SECONDS = 1.0  # what was not used in the last second may be used now


class Throttle:
    """Lets bytes pass at a rate; who takes more than there is waits afterwards. Thread-safe.

    Attributes:
        bytes_per_second: The rate; `None` for no limit. May be set at any time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due = 0.0  # when what was taken so far would have passed at the rate
        self.bytes_per_second: int | None = None

    def take(self, count: int, stop: threading.Event) -> None:
        """Note that so many bytes were read; wait as long as they are too many, or until `stop` is set."""
        rate = self.bytes_per_second
        if rate is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            self._due = max(self._due, now - BURST_SECONDS) + count / rate
            wait = self._due - now
        if wait > 0:
            stop.wait(wait)
