from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.runtime.backoff import (
    JITTER,
    RETRY_CAP_SECONDS,
    Backoff,
    ControllerRateLimiter,
    ItemExponentialLimiter,
    TokenBucket,
    exponential_delay,
)
from tests.unit.fakes import FakeClock

if TYPE_CHECKING:
    import random


@given(st.integers(0, 10_000), st.randoms())
def test_a_delay_is_within_its_jitter_and_never_over_the_cap(failures: int, rng: random.Random) -> None:
    delay = exponential_delay(failures, 0.25, 300.0, rng)
    full = min(300.0, 0.25 * 2 ** min(failures, 50))
    assert full * (1 - JITTER) <= delay <= full


def test_keys_that_failed_together_do_not_return_together() -> None:
    limiter = ItemExponentialLimiter()
    assert len({limiter.when(f"ns/{n}") for n in range(100)}) > 90


def test_each_key_has_failures_of_its_own_and_forgetting_starts_anew() -> None:
    limiter = ItemExponentialLimiter(base=1.0, cap=100.0)
    for _ in range(5):
        limiter.when("a")
    assert limiter.num_requeues("a") == 5
    assert limiter.num_requeues("b") == 0
    assert limiter.when("b") <= 1.0
    assert limiter.when("a") > 20.0
    limiter.forget("a")
    assert limiter.num_requeues("a") == 0
    assert limiter.when("a") <= 1.0


def test_a_sequence_grows_to_its_cap_and_starts_anew_when_the_peer_answered() -> None:
    backoff = Backoff(1.0, 30.0)
    delays = [backoff.next_delay() for _ in range(10)]
    assert delays[0] <= 1.0
    assert delays[3] > delays[0]
    assert all(24.0 <= delay <= 30.0 for delay in delays[5:])
    backoff.reset()
    assert backoff.next_delay() <= 1.0


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(10.0, 5, clock)
    assert [bucket.reserve() for _ in range(5)] == [0.0] * 5
    assert [bucket.reserve() for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    clock.advance(0.3)
    assert bucket.reserve() == pytest.approx(0.1)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    clock = FakeClock()
    bucket = TokenBucket(10.0, 2, clock)
    clock.advance(3600)
    assert [bucket.try_take() for _ in range(4)] == [True, True, False, False]
    clock.advance(0.1)
    assert bucket.try_take()


def test_an_outage_of_many_keys_is_spread_by_the_bucket() -> None:
    limiter = ControllerRateLimiter(FakeClock(), qps=10.0, burst=100)
    delays = [limiter.when(f"ns/{n}") for n in range(1000)]
    assert max(delays[:100]) <= 0.25
    assert delays[999] == pytest.approx(90.0)


def test_a_key_that_keeps_failing_waits_the_cap_and_no_longer() -> None:
    clock = FakeClock()
    limiter = ControllerRateLimiter(clock)
    for _ in range(50):
        clock.advance(3600)
        delay = limiter.when("a")
        assert delay <= RETRY_CAP_SECONDS
    assert limiter.num_requeues("a") == 50
    limiter.forget("a")
    assert limiter.num_requeues("a") == 0


def test_a_limit_shortens_what_a_key_has_earned_but_not_what_all_keys_share() -> None:
    clock = FakeClock()
    limiter = ControllerRateLimiter(clock, qps=10.0, burst=20)
    for _ in range(15):
        limiter.when("a")
    assert limiter.when("a", 30.0) <= 30.0
    assert limiter.when("a") > 30.0
    assert max(limiter.when(f"ns/{n}", 0.5) for n in range(100)) > 9.0
