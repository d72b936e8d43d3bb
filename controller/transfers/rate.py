"""How fast something goes, for showing it to people."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.runtime.clock import Clock

RATE_WINDOW_SECONDS = 30.0
RATE_SAMPLE_SECONDS = 0.5


class MovingRate:
    """Bytes per second over the last `RATE_WINDOW_SECONDS`. Not thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock.monotonic(), 0)])

    def note(self, total: int) -> None:
        """Tell that `total` bytes are done by now."""
        now = self._clock.monotonic()
        if now - self._samples[-1][0] >= RATE_SAMPLE_SECONDS:
            self._samples.append((now, total))

    def per_second(self) -> int:
        """Return the rate now; it falls to 0 when nothing is noted any more."""
        now = self._clock.monotonic()
        while len(self._samples) > 1 and now - self._samples[0][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()
        start, first = self._samples[0]
        return int((self._samples[-1][1] - first) / (now - start)) if now > start else 0
