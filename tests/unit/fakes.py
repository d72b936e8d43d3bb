"""Fakes that any unit test may need."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTUALLY_SECONDS = 60.0  # only a failing test waits that long
_POLL_SECONDS = 0.002


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self._seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds


class NoJitter(random.SystemRandom):
    """Randomness for delays that a test wants to know exactly."""

    def random(self) -> float:
        return 0.0


def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; fail if it never does."""
    pause = threading.Event()
    for _ in range(int(EVENTUALLY_SECONDS / _POLL_SECONDS)):
        if condition():
            return
        pause.wait(_POLL_SECONDS)
    raise AssertionError("it never came true")
