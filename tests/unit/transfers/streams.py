"""Disks to be read that wait, break or lie as a test wants, and looking at what came of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from controller.transfers import DiskJob, TransferPool, TransferState, TransferStatus
from providers.errors import TransferInterrupted
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.scratch import Scratch

BLOCK = 65536
SIZE = 40 * BLOCK
DISK = b"".join(bytes([n]) * BLOCK for n in range(40))
UID = "import-1"


class FakeStream:
    """A raw disk that comes in blocks; it may wait in its middle, or break there."""

    def __init__(
        self,
        data: bytes = DISK,
        *,
        gate: threading.Event | None = None,
        breaks_after: int | None = None,
        length: int | None = None,
        checksum: tuple[str, str] | None = None,
    ) -> None:
        self.format = "raw"
        self.length = length
        self.checksum = checksum
        self.reports: list[float] = []
        self.closed = threading.Event()
        self.asked = False
        self.reading = threading.Event()
        self._data = data
        self._gate = gate
        self._breaks_after = breaks_after

    def chunks(self) -> Iterator[bytes]:
        self.asked = True
        for at in range(0, len(self._data), BLOCK):
            if self._breaks_after is not None and at >= self._breaks_after:
                raise TransferInterrupted("the connection broke")
            if at == len(self._data) // 2 and self._gate is not None:
                self.reading.set()
                while not self._gate.wait(0.005):
                    if self.closed.is_set():
                        raise TransferInterrupted("closed")
            yield self._data[at : at + BLOCK]

    def report(self, fraction: float) -> None:
        self.reports.append(fraction)

    def close(self) -> None:
        self.closed.set()


class Source:
    """Opens streams and counts them; each opening takes the next stream, the last one for ever."""

    def __init__(self, *streams: FakeStream | Exception) -> None:
        self.opened = 0
        self._streams = streams or (FakeStream(),)

    def open(self) -> FakeStream:
        stream = self._streams[min(self.opened, len(self._streams) - 1)]
        self.opened += 1
        if isinstance(stream, Exception):
            raise stream
        return stream


def job(
    open_disk: Callable[[], FakeStream],
    uid: str = UID,
    index: int = 0,
    size: int = SIZE,
    source: str = "vc",
    limit: int = 99,
) -> DiskJob:
    return DiskJob(uid, index, size, source, limit, open_disk)


def settled(transfers: TransferPool, uid: str = UID, index: int = 0) -> TransferState:
    """Wait until a job is done or failed."""

    def ended() -> TransferState | None:
        state = transfers.state(uid, index)
        return state if state and state.status in (TransferStatus.DONE, TransferStatus.FAILED) else None

    eventually(ended)
    state = ended()
    assert state is not None
    return state


def files(scratch: Scratch, uid: str = UID) -> set[str]:
    folder = scratch.path(uid, 0).parent
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


class Crowd:
    """Jobs that run until they are released, and the order in which they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def job(self, name: str, source: str = "vc", limit: int = 99) -> DiskJob:
        uid, _, index = name.partition(".")
        gate = self.gates[name] = threading.Event()

        def open_disk() -> FakeStream:
            with self._lock:
                self.began.append(name)
            return FakeStream(gate=gate)

        return job(open_disk, uid, int(index), source=source, limit=limit)

    def has_begun(self, count: int) -> bool:
        return len(self.began) == count

    def release(self, name: str) -> None:
        self.gates[name].set()

    def release_all(self) -> None:
        for gate in self.gates.values():
            gate.set()
