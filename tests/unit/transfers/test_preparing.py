"""Disks that their source has to prepare before they can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from controller.phases import export
from controller.phases.base import Advance, Wait
from controller.transfers import TransferPool, TransferStatus
from providers.errors import DiscardNotDone, DiskNotReady
from providers.model import PowerState
from tests.unit.fakes import FakeClock, eventually
from tests.unit.transfers.exporting import context
from tests.unit.transfers.streams import Crowd, FakeStream, Source, job, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.scratch import Scratch

SNAPSHOT = DiskNotReady("a snapshot is made", retry_after=5)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def transfers(scratch: Scratch, changes: list[str], clock: FakeClock) -> Iterator[TransferPool]:
    transfers = TransferPool(scratch, clock, limit=2, on_change=changes.append)
    yield transfers
    assert transfers.shut_down(timeout=60)


def preparing(transfers: TransferPool, uid: str = "a") -> str:
    """Wait until the job has met a disk that is not ready; return what the source does."""

    def told() -> bool:
        state = transfers.state(uid, 0)
        return bool(state and state.preparing and state.status is TransferStatus.QUEUED)

    eventually(told)
    state = transfers.state(uid, 0)
    assert state is not None
    return state.preparing


def test_a_disk_that_is_not_ready_is_looked_at_again_when_it_is_time(
    transfers: TransferPool, clock: FakeClock
) -> None:
    source = Source(SNAPSHOT, DiskNotReady("it is uploaded", retry_after=5), FakeStream())
    task = job(source.open, "a")
    transfers.start(task)
    assert preparing(transfers) == "a snapshot is made"
    transfers.start(task)
    assert source.opened == 1
    clock.advance(5)
    transfers.start(task)
    eventually(lambda: source.opened == 2)
    assert preparing(transfers) == "it is uploaded"
    clock.advance(5)
    transfers.start(task)
    assert settled(transfers, "a").status is TransferStatus.DONE


def test_waiting_for_a_disk_takes_no_thread_but_counts_for_its_source(
    transfers: TransferPool, clock: FakeClock, crowd: Crowd
) -> None:
    source = Source(SNAPSHOT)
    transfers.start(job(source.open, "a", source="cloud", limit=1))
    preparing(transfers)
    transfers.start(crowd.job("b.0", source="cloud", limit=1))
    transfers.start(crowd.job("c.0", source="other"), crowd.job("d.0", source="other"))
    eventually(lambda: crowd.has_begun(2))
    assert set(crowd.began) == {"c.0", "d.0"}
    crowd.release_all()
    settled(transfers, "c")
    settled(transfers, "d")
    clock.advance(5)
    transfers.start(job(source.open, "a", source="cloud", limit=1))
    eventually(lambda: source.opened == 2)
    assert "b.0" not in crowd.began


def test_a_disk_that_is_due_and_finds_no_thread_free_is_not_asked_for_again_and_again(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock, crowd: Crowd
) -> None:
    ctx = context(transfers, scratch, Cloud(Source(SNAPSHOT), removals=0))
    export.run(ctx)
    preparing(transfers)
    transfers.start(crowd.job("b.0"), crowd.job("c.0"))  # as many as there are threads
    eventually(lambda: crowd.has_begun(2))
    clock.advance(5)
    waits = export.run(ctx)
    assert isinstance(waits, Wait)
    assert waits.after == 10


def test_a_disk_that_is_not_ready_can_be_cancelled(transfers: TransferPool) -> None:
    transfers.start(job(Source(SNAPSHOT).open, "a"))
    preparing(transfers)
    assert transfers.cancel("a")
    assert transfers.state("a", 0) is None


class Cloud:
    """What the Export step sees of a provider that prepares its disks and removes slowly."""

    def __init__(self, source: Source, removals: int) -> None:
        self._source = source
        self._removals = removals

    def power_state(self, _vm: object) -> PowerState:
        return PowerState.OFF

    def open_disk(self, _vm: object, _disk: object, export_id: str) -> FakeStream:
        assert export_id == "a-1"
        return self._source.open()

    def discard_export(self, _vm: object, export_id: str, *, complete: bool) -> None:
        assert (export_id, complete) == ("a-1", True)
        self._removals -= 1
        if self._removals >= 0:
            raise DiscardNotDone("volume x is being deleted", retry_after=3)


def test_the_export_waits_quietly_and_says_what_the_source_does(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock
) -> None:
    ctx = context(transfers, scratch, Cloud(Source(SNAPSHOT, FakeStream()), removals=2))
    export.run(ctx)
    preparing(transfers)
    waits = export.run(ctx)
    assert isinstance(waits, Wait)
    assert (waits.reason, waits.trouble, waits.after) == ("PreparingDisks", False, 5)
    assert "disk vda: a snapshot is made" in waits.message
    clock.advance(5)
    export.run(ctx)
    settled(transfers, "a")
    for _ in range(2):
        waits = export.run(ctx)
        assert isinstance(waits, Wait)
        assert (waits.reason, waits.trouble, waits.after) == ("DiscardingExport", False, 3)
        assert waits.message == "volume x is being deleted"
    assert isinstance(export.run(ctx), Advance)
