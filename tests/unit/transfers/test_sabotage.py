"""What happens to a job when something else happens at the very same moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from controller.runtime.clock import SystemClock
from controller.runtime.lease import NotLeader
from controller.scratch import DiskRecord, Scratch
from controller.transfers import TransferPool, TransferStatus, reading
from providers.errors import DiskNotReady, ExportFailed
from tests.unit.fakes import eventually
from tests.unit.transfers.streams import UID, FakeStream, Source, files, job, settled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.transfers.streams import Crowd


def test_a_disk_that_ends_while_its_job_is_started_again_is_not_read_twice(
    transfers: TransferPool, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    stream = FakeStream(gate=gate)
    source = Source(stream)
    transfers.start(job(source.open))
    assert stream.reading.wait(60)
    real = scratch.record

    def end_meanwhile(uid: str, index: int) -> DiskRecord | None:
        monkeypatch.setattr(scratch, "record", real)
        found = real(uid, index)
        gate.set()
        eventually(lambda: settled(transfers).status is TransferStatus.DONE)
        return found

    monkeypatch.setattr(scratch, "record", end_meanwhile)
    transfers.start(job(source.open))
    assert settled(transfers).status is TransferStatus.DONE
    assert source.opened == 1


def test_a_job_for_which_there_is_no_thread_waits_for_the_next_start(
    transfers: TransferPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            transfers.start(job(Source().open))
        assert transfers.counts()["running"] == 0
    transfers.start(job(Source().open))
    assert settled(transfers).status is TransferStatus.DONE


class Fence:
    """The leader's guard: open, or closed because the lease was not renewed in time."""

    def __init__(self) -> None:
        self.closed = False
        self.asked = 0

    def __call__(self) -> None:
        if self.closed:
            self.asked += 1
            raise NotLeader("the lease was not renewed in time")


def test_a_disk_that_is_read_while_the_lease_cannot_be_renewed_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FENCE_SECONDS", 0.002)
    fence = Fence()
    scratch = Scratch(tmp_path, guard=fence)
    transfers = TransferPool(scratch, SystemClock(), limit=1, on_change=lambda _: None)
    gate = threading.Event()
    stream = FakeStream(gate=gate)
    source = Source(stream)
    transfers.start(job(source.open))
    assert stream.reading.wait(60)
    fence.closed = True
    gate.set()
    eventually(lambda: fence.asked > 1)
    assert stream.closed.is_set(), "nothing is kept open at the source meanwhile"
    assert files(scratch) != {"disk-0.raw", "disk-0.json"}
    fence.closed = False
    assert settled(transfers).status is TransferStatus.DONE
    assert source.opened == 1


def test_a_disk_that_waits_for_the_lease_ends_with_its_process(tmp_path: Path) -> None:
    fence = Fence()
    transfers = TransferPool(Scratch(tmp_path, guard=fence), SystemClock(), limit=1, on_change=lambda _: None)
    gate = threading.Event()
    stream = FakeStream(gate=gate)
    transfers.start(job(Source(stream).open))
    assert stream.reading.wait(60)
    fence.closed = True
    gate.set()
    eventually(lambda: fence.asked)
    assert transfers.shut_down(timeout=60)


def test_a_disk_that_failed_since_it_was_looked_at_is_not_tried_again_unseen(transfers: TransferPool) -> None:
    seen, unseen = Source(ExportFailed("no")), Source(ExportFailed("no"))
    jobs = [job(seen.open), job(unseen.open, index=1)]
    transfers.start(*jobs)
    settled(transfers)
    settled(transfers, index=1)
    transfers.retry_failures(UID, {0}, 0)
    transfers.start(*jobs)
    eventually(lambda: seen.opened == 2)
    assert unseen.opened == 1
    assert settled(transfers, index=1).status is TransferStatus.FAILED


def test_a_disk_that_fails_while_it_is_prepared_no_longer_counts_for_its_source(
    transfers: TransferPool, crowd: Crowd
) -> None:
    source = Source(DiskNotReady("a snapshot is made", 0), ExportFailed("no"))
    wanted = job(source.open, "a", source="cloud", limit=1)
    transfers.start(wanted)
    eventually(lambda: (state := transfers.state("a", 0)) and state.preparing)
    transfers.start(wanted)
    settled(transfers, "a")
    transfers.start(crowd.job("b.0", source="cloud", limit=1))
    eventually(lambda: crowd.began == ["b.0"])
