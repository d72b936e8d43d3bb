"""Who may begin to fill the scratch volume. Pure: `TransferPool` gathers the facts."""

from __future__ import annotations

from dataclasses import dataclass

# A disk that met a full volume is not read again for less than this beyond what did not suffice.
MARGIN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """The scratch volume, as one import finds it.

    Attributes:
        free: Bytes that can be written now.
        reserved: Of these, what other imports that have begun will still need.
        alone: Whether no other import has anything on the volume.
    """

    free: int
    reserved: int
    alone: bool

    def missing_for(self, wanted: int, *, begun: bool, insufficient: int | None) -> int:
        """Return how many free bytes a job waits for; 0: it may begin.

        An import begins when there is room for all of its disks, and is not held up then: two that have one
        disk each on a volume which has no room for their others would wait for each other. What a source says
        of a disk's size is often too much (it counts blocks of zeros); so an import that has the volume for
        itself may try.

        Args:
            wanted: What all of the import's disks will still need, as far as their source knows.
            begun: Whether one of the import's disks was begun before.
            insufficient: Bytes that were free for this disk when it met a full volume.
        """
        if insufficient is not None:
            needed = self.reserved + insufficient + MARGIN_BYTES
        elif begun or self.alone:
            return 0
        else:
            needed = self.reserved + wanted
        return needed if self.free < needed else 0
