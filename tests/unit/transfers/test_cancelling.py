from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import structlog.testing
import tenacity

from controller.runtime.clock import SystemClock
from controller.transfers import TransferPool, TransferStatus, reading
from providers.errors import ExportFailed
from tests.unit.fakes import eventually
from tests.unit.transfers.streams import BLOCK, UID, Crowd, FakeStream, Source, files, job, settled

if TYPE_CHECKING:
    from controller.scratch import Scratch


def test_cancelling_ends_what_runs_and_drops_what_waits(
    scratch: Scratch, crowd: Crowd, changes: list[str]
) -> None:
    transfers = TransferPool(scratch, SystemClock(), limit=2, on_change=changes.append)
    for name in ("a.0", "b.0", "a.1", "b.1"):
        transfers.start(crowd.job(name))
    eventually(lambda: sorted(crowd.began) == ["a.0", "b.0"])
    assert transfers.cancel("a") is False
    assert transfers.state("a", 1) is None
    eventually(lambda: transfers.cancel("a"))
    assert transfers.state("a", 0) is None
    assert files(scratch, "a") == set()
    eventually(lambda: changes == ["a"])
    eventually(lambda: crowd.began[2:] == ["b.1"])
    crowd.release_all()
    assert settled(transfers, "b", 0).status is settled(transfers, "b", 1).status is TransferStatus.DONE


def test_cancelling_nothing_is_done_at_once(transfers: TransferPool) -> None:
    assert transfers.cancel(UID) is True


def test_cancelling_keeps_images_and_forgets_failures(transfers: TransferPool) -> None:
    transfers.start(job(Source().open))
    transfers.start(job(Source(ExportFailed("no")).open, index=1))
    settled(transfers)
    settled(transfers, index=1)
    assert transfers.cancel(UID) is True
    assert settled(transfers).status is TransferStatus.DONE
    assert transfers.state(UID, 1) is None


def test_a_stream_that_opens_after_the_cancel_is_closed_unread(transfers: TransferPool) -> None:
    opening, opened = threading.Event(), threading.Event()
    stream = FakeStream(gate=threading.Event())

    def open_disk() -> FakeStream:
        opening.set()
        assert opened.wait(60)
        return stream

    transfers.start(job(open_disk))
    assert opening.wait(60)
    assert transfers.cancel(UID) is False
    transfers.start(job(Source().open))
    assert transfers.cancel(UID) is False, "the new job waits until the old one has ended"
    opened.set()
    eventually(lambda: transfers.cancel(UID))
    assert stream.closed.is_set()
    assert not stream.asked
    transfers.start(job(Source().open))
    assert settled(transfers).status is TransferStatus.DONE


def test_cancelling_ends_the_pause_between_attempts(
    transfers: TransferPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RETRY_WAIT", tenacity.wait_fixed(3600))
    source = Source(FakeStream(breaks_after=BLOCK))
    with structlog.testing.capture_logs() as logs:
        transfers.start(job(source.open))
        eventually(lambda: [entry for entry in logs if entry["event"] == "transfer interrupted"])
    transfers.cancel(UID)
    eventually(lambda: transfers.cancel(UID))
    assert source.opened == 1


def test_discarding_comes_after_cancelling(transfers: TransferPool, scratch: Scratch) -> None:
    stream = FakeStream(gate=threading.Event())
    transfers.start(job(Source().open))
    settled(transfers)
    transfers.start(job(Source(stream).open, index=1))
    assert stream.reading.wait(60)
    with pytest.raises(RuntimeError, match="cancel"):
        transfers.discard(UID)
    eventually(lambda: transfers.cancel(UID))
    transfers.discard(UID)
    transfers.discard(UID)
    assert scratch.uids() == set()
    assert transfers.state(UID, 0) is None


def test_a_shut_down_ends_everything_and_keeps_what_is_complete(
    transfers: TransferPool, scratch: Scratch, changes: list[str]
) -> None:
    transfers.start(job(Source().open))
    settled(transfers)
    eventually(lambda: changes == [UID])
    streams = [FakeStream(gate=threading.Event()) for _ in range(3)]
    for index, stream in enumerate(streams, 1):
        transfers.start(job(Source(stream).open, index=index))
        assert stream.reading.wait(60)
    assert transfers.shut_down(timeout=60) is True
    assert all(stream.closed.is_set() for stream in streams)
    assert files(scratch) == {"disk-0.raw", "disk-0.json"}
    assert changes == [UID], "nobody is left to be told"
    source = Source()
    transfers.start(job(source.open, index=9))
    assert transfers.state(UID, 9) is None
    assert source.opened == 0


def test_a_shut_down_does_not_wait_longer_than_it_may(scratch: Scratch) -> None:
    transfers = TransferPool(scratch, SystemClock(), limit=1, on_change=lambda _: None)
    opening, opened = threading.Event(), threading.Event()

    def open_disk() -> FakeStream:
        opening.set()
        opened.wait(60)
        raise ExportFailed("too late")

    transfers.start(job(open_disk))
    assert opening.wait(60)
    assert transfers.shut_down(timeout=0.05) is False
    opened.set()
    assert transfers.shut_down(timeout=60) is True
