"""Where decoders write, and how they tell how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import threading
    from pathlib import Path

Buffer: TypeAlias = bytes | bytearray | memoryview

SECTOR_BYTES = 512

# Called with the number of bytes of the virtual disk, from its beginning, that lie behind the decoder. It
# never goes back; from the decoder's own thread. Of formats that have to be stored before they are converted,
# storing counts as the first half.
Progress: TypeAlias = Callable[[int], None]


class Sink(Protocol):
    """A raw image that is being written; `converters.raw.SparseRawFile` is the one there is."""

    @property
    def path(self) -> Path:
        """The file, for converters that write it themselves."""
        ...

    @property
    def size_bytes(self) -> int:
        """Virtual size of the image."""
        ...

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write buffers, one behind the other, to a range that was not written before; from any thread."""
        ...

    def adopt(self, stop: threading.Event) -> None:
        """Accept what another program has written to `path` as the whole image; ends early at `stop`."""
        ...
