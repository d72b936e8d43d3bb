"""Whose turn it is where an archive can only be read in one go: that of the disk that comes first. Pure.

A disk that begins while one before it is still to be read passes that one by, and costs one more download of
the whole archive. After a cut connection, both ask again at times of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Longer than the pause that the transfer pool makes before it tries a disk again: a disk that was cut asks
# again within it. One that does not, has failed for good, or was cancelled, and holds up nobody for longer.
WANTED_SECONDS: Final = 10.0


class Turns:
    """The disks of one export that want to be read. The caller holds the lock."""

    def __init__(self) -> None:
        self._wanted: dict[str, float] = {}  # when each was asked for, or was cut, last

    def want(self, key: str, now: float) -> None:
        """Note that a disk is to be read; `now` on the monotonic clock."""
        self._wanted[key] = now

    def done(self, key: str) -> None:
        """Note that a disk has been read, or that its reader has lost interest."""
        self._wanted.pop(key, None)

    def may_begin(self, before: Iterable[str], now: float) -> bool:
        """Tell whether a disk may begin, as far as those that come before it are concerned."""
        return not any(now - self._wanted.get(key, now - WANTED_SECONDS) < WANTED_SECONDS for key in before)
