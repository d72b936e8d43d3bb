"""Disks that fail in the middle of an export: told at once, tried again in time, whatever else runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from controller.phases import export
from controller.phases.base import Advance, Wait
from controller.transfers import TransferPool, TransferStatus
from converters.errors import CorruptImage
from providers.errors import AuthenticationFailed, Unreachable
from providers.model import PowerState
from tests.unit.fakes import FakeClock, eventually
from tests.unit.transfers.exporting import context, noted
from tests.unit.transfers.streams import FakeStream, Source, settled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from controller.scratch import Scratch
    from providers.model import SourceDisk
    from tests.unit.transfers.streams import Crowd

AWAY = Unreachable("esx-7 does not answer")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def transfers(scratch: Scratch, changes: list[str], clock: FakeClock) -> Iterator[TransferPool]:
    transfers = TransferPool(scratch, clock, limit=4, on_change=changes.append)
    yield transfers
    assert transfers.shut_down(timeout=60)


class Hosts:
    """A provider whose disks come from hosts of their own."""

    def __init__(self, **disks: Any) -> None:
        self._open = disks

    def power_state(self, _vm: object) -> PowerState:
        return PowerState.OFF

    def open_disk(self, _vm: object, disk: SourceDisk, _export_id: str) -> FakeStream:
        stream: FakeStream = self._open[disk.key]()
        return stream

    def discard_export(self, _vm: object, _export_id: str, *, complete: bool) -> None:
        assert complete


def waits(ctx: Any) -> Wait:
    outcome = export.run(ctx)
    assert isinstance(outcome, Wait)
    return outcome


def test_a_disk_that_failed_is_tried_again_after_half_a_minute_and_not_sooner(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock
) -> None:
    source = Source(AWAY, FakeStream())
    ctx = context(transfers, scratch, Hosts(vda=source.open))
    noted(ctx, export.run(ctx))
    settled(transfers, "a")
    told = waits(ctx)
    noted(ctx, told)
    assert (told.reason, told.retries) == ("Unreachable", ["Unreachable"])
    words = "disk vda: esx-7 does not answer; tried again every 30 s"
    assert told.changes.events == [("Warning", "Unreachable", words)]
    assert told.message.endswith(f"0 under way; {words}")
    clock.advance(10)  # the progress of other imports, an Event of theirs: whatever wakes this one
    told = waits(ctx)
    assert (told.reason, told.retries, told.changes.events) == ("Unreachable", [], [])
    assert source.opened == 1
    clock.advance(15)
    assert waits(ctx).after == 5
    clock.advance(5)
    export.run(ctx)
    assert settled(transfers, "a").status is TransferStatus.DONE
    assert isinstance(export.run(ctx), Advance)


def test_an_outage_is_told_once_however_long_it_lasts(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock
) -> None:
    """Each Event takes from what one object may cause: what comes after the outage would not be told."""
    opening, answer = threading.Event(), threading.Event()

    def open_disk() -> FakeStream:
        opening.set()
        assert answer.wait(60)
        raise AWAY

    ctx = context(transfers, scratch, Hosts(vda=open_disk))
    told: list[object] = []
    reasons = []

    def look() -> None:
        outcome = waits(ctx)
        told.extend(outcome.changes.events)
        reasons.append((outcome.reason, outcome.changes.conditions[0]["message"]))
        noted(ctx, outcome)

    for _ in range(3):
        look()
        assert opening.wait(60)
        look()
        answer.set()
        settled(transfers, "a")
        look()
        opening.clear()
        answer.clear()
        clock.advance(30)
    words = "disk vda: esx-7 does not answer; tried again every 30 s"
    assert told == [("Warning", "Unreachable", words)]
    assert reasons[2:] == [("Unreachable", words)] * 7, "also while it is tried again"


def test_a_disk_that_failed_does_not_wait_for_the_others(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock, crowd: Crowd
) -> None:
    source = Source(AWAY, FakeStream())
    ctx = context(transfers, scratch, Hosts(vda=crowd.job("a.0").open, vdb=source.open), "vda", "vdb")
    export.run(ctx)
    settled(transfers, "a", 1)
    told = waits(ctx)
    assert (told.reason, told.changes.conditions[0]["reason"]) == ("Exporting", "Exporting")
    assert "1 under way; disk vdb: esx-7 does not answer" in told.message
    assert told.changes.conditions[0]["message"] == "disk vdb: esx-7 does not answer; tried again every 30 s"
    clock.advance(30)
    export.run(ctx)
    assert settled(transfers, "a", 1).status is TransferStatus.DONE
    assert waits(ctx).changes.conditions[0]["message"] == ""
    crowd.release_all()
    eventually(lambda: isinstance(export.run(ctx), Advance))


def test_a_failure_that_trying_again_cannot_mend_ends_the_export_at_once(
    transfers: TransferPool, scratch: Scratch, crowd: Crowd
) -> None:
    provider = Hosts(vda=crowd.job("a.0").open, vdb=Source(CorruptImage("no VMDK")).open)
    ctx = context(transfers, scratch, provider, "vda", "vdb")
    export.run(ctx)
    settled(transfers, "a", 1)
    with pytest.raises(CorruptImage, match="no VMDK"):
        export.run(ctx)


def test_a_disk_that_is_refused_is_tried_again_with_what_was_corrected(
    transfers: TransferPool, scratch: Scratch, clock: FakeClock
) -> None:
    """A web server is asked for nothing but disks: no other call of the export would meet the refusal."""
    refusal, corrected = AuthenticationFailed("401"), Source()
    providers = [Hosts(vda=corrected.open), Hosts(vda=Source(refusal).open)]
    told: list[tuple[str, BaseException]] = []

    def refused(user: str, error: BaseException) -> bool:
        told.append((user, error))
        providers.pop()
        return True

    ctx = context(transfers, scratch, None)
    ctx.provider = lambda: providers[-1]
    ctx.connections.refused = refused
    noted(ctx, export.run(ctx))
    settled(transfers, "a")
    noted(ctx, waits(ctx))
    clock.advance(30)
    transfers.start()
    assert settled(transfers, "a").status is TransferStatus.DONE
    assert (told, corrected.opened) == ([("a", refusal)], 1)
