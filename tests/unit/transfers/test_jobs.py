from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from controller.runtime.clock import SystemClock
from controller.transfers import TransferPool, TransferStatus, reading
from controller.transfers.rate import MovingRate
from converters.digest import sparse_sha256
from converters.errors import ChecksumMismatch, CorruptImage, TruncatedImage
from providers.errors import ExportFailed, TransferInterrupted, Unreachable
from tests.unit.fakes import FakeClock, eventually
from tests.unit.transfers.streams import BLOCK, DISK, SIZE, UID, FakeStream, Source, files, job, settled

if TYPE_CHECKING:
    from controller.scratch import Scratch


def test_a_disk_is_read_into_a_complete_image(
    transfers: TransferPool, scratch: Scratch, changes: list[str]
) -> None:
    stream = FakeStream(length=SIZE, checksum=("sha256", hashlib.sha256(DISK).hexdigest()))
    transfers.start(job(Source(stream).open))
    state = settled(transfers)
    assert state.status is TransferStatus.DONE
    assert (state.bytes_done, state.bytes_total, state.error) == (SIZE, SIZE, None)
    assert state.result is not None
    assert state.result.path == scratch.path(UID, 0)
    assert state.result.size_bytes == SIZE
    assert state.result.path.read_bytes() == DISK
    assert state.result.digest == sparse_sha256(state.result.path)
    assert files(scratch) == {"disk-0.raw", "disk-0.json"}
    assert stream.closed.is_set()
    assert stream.reports == sorted(stream.reports)
    assert stream.reports[-1] == 1.0
    eventually(lambda: changes == [UID])


def test_a_complete_image_is_a_job_done_after_a_restart(transfers: TransferPool, scratch: Scratch) -> None:
    transfers.start(job(Source().open))
    first = settled(transfers)
    again = TransferPool(scratch, SystemClock(), limit=1, on_change=lambda _: None)
    assert again.state(UID, 0) == first
    source = Source(ExportFailed("must not be opened"))
    again.start(job(source.open))
    assert again.state(UID, 0) == first
    assert source.opened == 0


def test_an_unknown_job_has_no_state(transfers: TransferPool) -> None:
    assert transfers.state(UID, 0) is None


def test_what_a_crash_left_is_replaced(transfers: TransferPool, scratch: Scratch) -> None:
    scratch.prepare(UID, 0).write_bytes(b"half a disk")
    (scratch.partial_path(UID, 0).parent / "disk-0.raw.partial-1.source").write_bytes(b"more")
    scratch.path(UID, 0).write_bytes(b"a final name without a sidecar")
    transfers.start(job(Source().open))
    assert settled(transfers).status is TransferStatus.DONE
    assert scratch.path(UID, 0).read_bytes() == DISK
    assert files(scratch) == {"disk-0.raw", "disk-0.json"}


def test_an_image_of_another_size_is_read_again(transfers: TransferPool) -> None:
    transfers.start(job(Source().open))
    settled(transfers)
    larger = DISK + b"x" * BLOCK
    transfers.start(job(Source(FakeStream(larger)).open, size=len(larger)))
    eventually(lambda: (transfers.state(UID, 0) or settled(transfers)).bytes_total == len(larger))
    state = settled(transfers)
    assert state.result is not None
    assert state.result.path.read_bytes() == larger


def test_a_job_under_way_is_not_started_twice(transfers: TransferPool) -> None:
    gate = threading.Event()
    stream = FakeStream(gate=gate)
    source = Source(stream)
    transfers.start(job(source.open))
    assert stream.reading.wait(60)
    transfers.start(job(source.open))
    state = transfers.state(UID, 0)
    assert state is not None
    assert state.status is TransferStatus.RUNNING
    assert state.bytes_total == SIZE
    assert state.result is None
    gate.set()
    assert settled(transfers).status is TransferStatus.DONE
    assert source.opened == 1


@pytest.mark.parametrize("breaks", ["by an error", "by an early end"])
def test_a_dropped_connection_is_tried_again_with_a_new_stream(
    transfers: TransferPool, scratch: Scratch, breaks: str
) -> None:
    dropped = [
        FakeStream(breaks_after=SIZE // 2) if breaks == "by an error" else FakeStream(DISK[: SIZE // 2])
        for _ in range(2)
    ]
    source = Source(*dropped, FakeStream())
    transfers.start(job(source.open))
    assert settled(transfers).status is TransferStatus.DONE
    assert source.opened == 3
    assert all(stream.closed.is_set() for stream in dropped)
    assert scratch.path(UID, 0).read_bytes() == DISK


def test_progress_does_not_go_back_when_a_disk_is_read_again(transfers: TransferPool) -> None:
    gate = threading.Event()
    waiting = FakeStream(gate=gate)
    transfers.start(job(Source(FakeStream(breaks_after=SIZE - BLOCK), waiting).open))
    assert waiting.reading.wait(60)
    state = transfers.state(UID, 0)
    assert state is not None
    assert state.bytes_done > SIZE // 2
    gate.set()


def test_a_connection_that_keeps_dropping_fails_the_job(
    transfers: TransferPool, scratch: Scratch, changes: list[str]
) -> None:
    source = Source(FakeStream(breaks_after=SIZE // 2))
    transfers.start(job(source.open))
    state = settled(transfers)
    assert state.status is TransferStatus.FAILED
    assert isinstance(state.error, TransferInterrupted)
    assert state.result is None
    assert source.opened == reading.ATTEMPTS
    assert files(scratch) == set()
    eventually(lambda: changes == [UID])


FATAL: dict[str, tuple[list[FakeStream | Exception], type[Exception]]] = {
    "the source refuses": ([ExportFailed("no")], ExportFailed),
    "too many bytes": ([FakeStream(length=BLOCK)], CorruptImage),
    "other bytes": ([FakeStream(checksum=("md5", "0" * 32))], ChecksumMismatch),
    "a defect": ([ZeroDivisionError("oops")], ZeroDivisionError),
}


@pytest.mark.parametrize("case", FATAL)
def test_any_other_error_is_left_to_the_state_machine(
    transfers: TransferPool, scratch: Scratch, case: str
) -> None:
    streams, expected = FATAL[case]
    source = Source(*streams)
    transfers.start(job(source.open))
    state = settled(transfers)
    assert state.status is TransferStatus.FAILED
    assert type(state.error) is expected
    assert source.opened == 1
    assert files(scratch) == set()
    transfers.start(job(Source().open, index=1))
    assert settled(transfers, index=1).status is TransferStatus.DONE, "the pool lives on"


def test_a_failed_job_stays_failed_until_it_is_to_be_tried_again(transfers: TransferPool) -> None:
    source = Source(Unreachable("away"), FakeStream())
    transfers.start(job(source.open))
    assert settled(transfers).status is TransferStatus.FAILED
    transfers.start(job(source.open))
    transfers.retry_failures("another import", {0}, 0)
    state = transfers.state(UID, 0)
    assert state is not None
    assert (state.status, source.opened) == (TransferStatus.FAILED, 1)
    transfers.retry_failures(UID, {0}, 0)
    assert transfers.counts()["failed"] == 1
    transfers.start(job(source.open))
    state = settled(transfers)
    assert (state.status, state.error) == (TransferStatus.DONE, None)


def test_a_stream_shorter_than_its_source_said_is_a_dropped_connection(transfers: TransferPool) -> None:
    source = Source(FakeStream(length=SIZE + 1))
    transfers.start(job(source.open))
    assert isinstance(settled(transfers).error, TruncatedImage)
    assert source.opened == reading.ATTEMPTS


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    clock = FakeClock()
    rate = MovingRate(clock)
    assert rate.per_second() == 0
    for second in range(1, 101):
        clock.advance(1)
        rate.note(second * 1000 if second <= 50 else 50_000 + (second - 50) * 3000)
    assert rate.per_second() == 3000
    clock.advance(15)
    assert 0 < rate.per_second() < 3000
    clock.advance(30)
    assert rate.per_second() == 0


def test_every_byte_from_a_source_is_counted_once(scratch: Scratch) -> None:
    counted: list[tuple[str, int]] = []
    pool = TransferPool(
        scratch,
        SystemClock(),
        limit=1,
        on_change=lambda _: None,
        on_bytes=lambda job, count: counted.append((job.source_key, count)),
    )
    wanted = job(Source(FakeStream()).open)
    pool.start(wanted)
    assert settled(pool).status is TransferStatus.DONE
    assert {key for key, _ in counted} == {wanted.source_key}
    assert sum(count for _, count in counted) == SIZE
    assert not +pool.rates()
    pool.shut_down(60)
