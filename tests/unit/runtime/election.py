"""Candidates of one lease, on a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.runtime.leader import LeaderElector
from controller.runtime.lease import LeaseTiming
from tests.unit.fakes import FakeClock, NoJitter
from tests.unit.runtime.fake_lease import FakeLease, FakeLeaseStore

TIMING = LeaseTiming(lease_duration=15, renew_deadline=10, retry_period=2)


@dataclass
class Candidate:
    """A candidate and what it has called."""

    elector: LeaderElector
    store: FakeLeaseStore
    calls: list[str] = field(default_factory=list)

    def leads(self) -> bool:
        return self.elector.is_leader()

    def attempt(self) -> float | None:
        return self.elector.attempt()


@dataclass
class Election:
    clock: FakeClock = field(default_factory=FakeClock)
    lease: FakeLease = field(default_factory=FakeLease)

    def candidate(self, identity: str, clock: FakeClock | None = None) -> Candidate:
        store = FakeLeaseStore(self.lease)
        calls: list[str] = []
        elector = LeaderElector(
            store,
            identity,
            TIMING,
            on_leading=lambda: calls.append("leading"),
            on_lost=lambda: calls.append("lost"),
            clock=clock or self.clock,
            rng=NoJitter(),
        )
        return Candidate(elector, store, calls)

    def leader(self, identity: str = "a") -> Candidate:
        candidate = self.candidate(identity)
        candidate.attempt()
        assert candidate.leads()
        return candidate

    def pass_time(self, seconds: float, *attempting: Candidate) -> None:
        """Let time pass in steps of a retry period, with an attempt of each after every step."""
        steps = round(seconds / TIMING.retry_period)
        for _ in range(steps):
            self.clock.advance(TIMING.retry_period)
            for candidate in attempting:
                candidate.attempt()
