"""The one place that reads a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the controller sees it."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC. For showing and storing, never for measuring."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never goes backwards. For measuring and waiting."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)  # noqa: TID251  # this is the place that asks

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()
