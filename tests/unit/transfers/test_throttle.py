from __future__ import annotations

import threading

import pytest

from controller.runtime.clock import SystemClock
from controller.scratch import Scratch
from controller.transfers import DiskJob, TransferPool
from controller.transfers.throttle import Throttle
from tests.unit.fakes import FakeClock, eventually
from tests.unit.transfers.streams import BLOCK, SIZE, FakeStream, settled

MIB = 1024 * 1024


class Stop(threading.Event):
    """A stop that nobody sets; waiting for it is what makes a fake clock go on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.advance(timeout)
        return False


@pytest.mark.parametrize("rate", [MIB, 25 * MIB])
@pytest.mark.parametrize("chunk", [1, 65_536, 3 * MIB])
def test_no_more_passes_than_the_rate_and_one_burst(rate: int, chunk: int) -> None:
    clock = FakeClock()
    throttle, stop, started, passed = Throttle(clock), Stop(clock), clock.monotonic(), 0
    throttle.bytes_per_second = rate
    for _ in range(200):
        throttle.take(chunk, stop)
        passed += chunk
        assert passed <= rate * (clock.monotonic() - started) + rate + chunk
    assert passed >= 0.99 * rate * (clock.monotonic() - started)


def test_what_was_not_used_long_ago_is_lost() -> None:
    clock = FakeClock()
    throttle, stop = Throttle(clock), Stop(clock)
    throttle.bytes_per_second = MIB
    throttle.take(1, stop)
    clock.advance(1000)
    started = clock.monotonic()
    for _ in range(11):
        throttle.take(MIB, stop)
    assert clock.monotonic() - started == pytest.approx(10, abs=0.01)


def test_without_a_rate_nobody_waits() -> None:
    clock = FakeClock()
    started = clock.monotonic()
    Throttle(clock).take(2**50, Stop(clock))
    assert clock.monotonic() == started


def test_a_stop_ends_the_wait() -> None:
    throttle, stop, ended = Throttle(SystemClock()), threading.Event(), threading.Event()
    throttle.bytes_per_second = 1

    def take() -> None:
        throttle.take(10**9, stop)
        ended.set()

    threading.Thread(target=take, daemon=True).start()
    assert not ended.wait(0.05)
    stop.set()
    assert ended.wait(60)


def limited(name: str, stream: FakeStream, rate: int | None, source: str = "vc") -> DiskJob:
    uid, _, index = name.partition(".")
    return DiskJob(uid, int(index), SIZE, source, 99, lambda: stream, source_bytes_per_second=rate)


def test_a_source_is_read_no_faster_than_it_may_be_whatever_the_number_of_disks(
    transfers: TransferPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int, int | None]] = []

    def take(throttle: Throttle, count: int, _stop: threading.Event) -> None:
        taken.append((id(throttle), count, throttle.bytes_per_second))

    monkeypatch.setattr(Throttle, "take", take)
    transfers.start(limited("a.0", FakeStream(), MIB), limited("a.1", FakeStream(), MIB))
    transfers.start(limited("b.0", FakeStream(), MIB), limited("c.0", FakeStream(), None, source="other"))
    for uid, index in (("a", 0), ("a", 1), ("b", 0), ("c", 0)):
        settled(transfers, uid, index)
    passed = {rate: sum(count for _, count, of in taken if of == rate) for rate in (MIB, None)}
    assert passed == {MIB: 3 * SIZE, None: SIZE}
    assert len({(throttle, rate) for throttle, _, rate in taken}) == 2


def test_a_changed_limit_counts_for_the_disk_that_is_being_read(
    transfers: TransferPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[int | None] = []
    changed = threading.Event()

    def take(throttle: Throttle, _count: int, _stop: threading.Event) -> None:
        rates.append(throttle.bytes_per_second)
        assert changed.wait(60)

    monkeypatch.setattr(Throttle, "take", take)
    stream = FakeStream()
    transfers.start(limited("a.0", stream, MIB))
    eventually(lambda: rates)
    transfers.start(limited("a.0", stream, None))
    changed.set()
    settled(transfers, "a", 0)
    assert (rates[0], rates[-1]) == (MIB, None)


def test_a_disk_that_is_held_back_is_cancelled_at_once(transfers: TransferPool, scratch: Scratch) -> None:
    stream = FakeStream()
    transfers.start(limited("a.0", stream, 1))
    eventually(lambda: stream.asked)
    transfers.cancel("a")
    eventually(lambda: transfers.cancel("a"))
    assert scratch.allocated_bytes("a", 0) <= BLOCK
