"""How long to wait before trying again: one sequence, per key, and over all keys.

Pure arithmetic on a given clock and source of randomness; nothing in here waits.
"""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

    from controller.runtime.clock import Clock

RETRY_BASE_SECONDS = 0.25
RETRY_CAP_SECONDS = 300.0
# 0.25 * 2^n: 1 s after the third failure, 16 s after the seventh, the cap after the twelfth; those eleven
# retries together take 0.25 * (2^11 - 1) = 512 s. client-go's 5 ms..1000 s starts with eight retries within
# 1.3 s, which here would be eight logins at a vCenter.
RETRY_QPS = 10.0
RETRY_BURST = 100
# Over all keys, as client-go: an outage that fails 1,000 keys is retried over (1000 - 100) / 10 = 90 s.
JITTER = 0.2  # a delay is shortened by up to a fifth, so that keys which failed together return apart


class RateLimiter(Protocol):
    """Says how long a key has to wait, and remembers how often it had to.

    Implementations may be used from many threads at once.
    """

    def when(self, key: Hashable, longest: float = math.inf) -> float:
        """Count one more failure of `key` and return the seconds to wait.

        What the key itself has earned by failing is limited to `longest`; what all keys share is not.
        """
        ...

    def forget(self, key: Hashable) -> None:
        """Drop the failures of `key`; the next one waits shortest again."""
        ...

    def num_requeues(self, key: Hashable) -> int:
        """Return the failures of `key` since it was last forgotten."""
        ...


def exponential_delay(failures: int, base: float, cap: float, rng: random.Random) -> float:
    """Return the jittered delay in seconds before retry number `failures` (0 = the first).

    It is between `(1 - JITTER)` and 1 times `min(cap, base * 2**failures)`: the cap is never exceeded.
    """
    full = cap if failures > 62 else min(cap, base * 2.0**failures)  # noqa: PLR2004  # beyond any cap
    return full * (1 - JITTER * rng.random())


class Backoff:
    """One growing sequence of delays, for a loop that talks to one peer. One thread owns it."""

    def __init__(self, base: float, cap: float, *, rng: random.Random | None = None) -> None:
        self._base = base
        self._cap = cap
        self._rng = rng or random.SystemRandom()
        self._failures = 0

    def next_delay(self) -> float:
        """Count one more failure and return the seconds to wait before the next attempt."""
        delay = exponential_delay(self._failures, self._base, self._cap, self._rng)
        self._failures += 1
        return delay

    def reset(self) -> None:
        """Start again from the shortest delay: the peer has answered."""
        self._failures = 0


class ItemExponentialLimiter:
    """Per key: `base * 2**failures` seconds up to `cap`, jittered."""

    def __init__(
        self,
        base: float = RETRY_BASE_SECONDS,
        cap: float = RETRY_CAP_SECONDS,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._base = base
        self._cap = cap
        self._rng = rng or random.SystemRandom()
        self._failures: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def when(self, key: Hashable, longest: float = math.inf) -> float:
        """See `RateLimiter.when`."""
        with self._lock:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            return exponential_delay(failures, self._base, min(self._cap, longest), self._rng)

    def forget(self, key: Hashable) -> None:
        """See `RateLimiter.forget`."""
        with self._lock:
            self._failures.pop(key, None)

    def num_requeues(self, key: Hashable) -> int:
        """See `RateLimiter.num_requeues`."""
        with self._lock:
            return self._failures.get(key, 0)


class TokenBucket:
    """A budget that refills at `rate` per second up to `burst`. Thread-safe."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock.monotonic()
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take one token, on credit if need be, and return the seconds until it is really there."""
        with self._lock:
            self._refill()
            self._tokens -= 1
            return max(0.0, -self._tokens / self._rate)

    def try_take(self) -> bool:
        """Take one token if there is one; never on credit."""
        with self._lock:
            self._refill()
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class ControllerRateLimiter:
    """The longer of a per-key exponential delay and one bucket for all keys (client-go's default limiter)."""

    def __init__(
        self,
        clock: Clock,
        *,
        per_item: ItemExponentialLimiter | None = None,
        qps: float = RETRY_QPS,
        burst: int = RETRY_BURST,
    ) -> None:
        self._per_item = per_item or ItemExponentialLimiter()
        self._bucket = TokenBucket(qps, burst, clock)

    def when(self, key: Hashable, longest: float = math.inf) -> float:
        """See `RateLimiter.when`."""
        return max(self._per_item.when(key, longest), self._bucket.reserve())

    def forget(self, key: Hashable) -> None:
        """See `RateLimiter.forget`."""
        self._per_item.forget(key)

    def num_requeues(self, key: Hashable) -> int:
        """See `RateLimiter.num_requeues`."""
        return self._per_item.num_requeues(key)
