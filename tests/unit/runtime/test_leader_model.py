"""Candidates for one lease in any interleaving of their requests, with everything that can happen to them.

Each candidate runs in a thread of its own, of which only one moves at a time: from one end of a request to
the next. What is drawn is who moves how far, how requests fare, how much time passes, and who dies. One that
is not drawn for a while is one that was stopped (SIGSTOP) just there, or whose request the network holds.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.runtime.leader import LeaderElector
from controller.runtime.lease import LeaseTiming
from tests.unit.fakes import NoJitter
from tests.unit.runtime.fake_lease import FakeLease, FakeLeaseStore, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMING = LeaseTiming(lease_duration=15, renew_deadline=10, retry_period=2)
RATES = st.sampled_from([(0.9, 1.1), (1.1, 0.9), (1.0, 1.0)])  # of the replicas' clocks
Step = tuple[str, int, int, str]
# What happens, to whom, how many ends of requests or seconds, and how requests fare; what stands here more
# often is drawn more often.
MOVES: list[Step] = [
    ("move", who, count, fate)
    for who in (0, 1)
    for count in (1, 2, 3, 6, 6, 6)  # six are an attempt or two
    for fate in ("well", "well", "well", "well", "refused", "lost")
]
WAITS: list[Step] = [("wait", 0, seconds, "") for seconds in (2, 2, 9, 14, 16)] * 6
EVENTS: list[Step] = [
    (what, who, 0, "") for who in (0, 1) for what in ("kill", "leave", "set the clock", "annotate")
]
STEPS = st.lists(st.sampled_from(MOVES + WAITS + EVENTS), min_size=30, max_size=80)


class Ended(BaseException):
    """Ends the thread of a candidate that is dead."""


class Time:
    """The true time."""

    now = 1000.0


class SkewedClock:
    """A candidate's clock: of another rate, from another beginning, and with a wall clock that is set."""

    def __init__(self, time: Time, rate: float, offset: float) -> None:
        self._time, self._rate, self._offset = time, rate, offset
        self.wall_error = 0.0

    def monotonic(self) -> float:
        return self._time.now * self._rate + self._offset

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic() + self.wall_error)


class Candidate:
    """A process with a candidate in it, which moves when told."""

    def __init__(self, identity: str, lease: FakeLease, clock: SkewedClock) -> None:
        self.clock = clock
        self.dead = False
        self.leaving = False
        self.fate = "well"
        self.began = 0
        store = FakeLeaseStore(lease, before=self._before, after=self._after)
        self.elector = LeaderElector(
            store, identity, TIMING, on_leading=self._begin, on_lost=self._end, clock=clock, rng=NoJitter()
        )
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def acts(self) -> bool:
        """Whether a write of this process would be made now."""
        return not self.dead and self.elector.is_leader()

    def move(self, fate: str) -> None:
        """Go on to the next end of a request."""
        if not self._ended:
            self.fate = fate
            self._mine.release()
            self._others.acquire()

    def join(self) -> None:
        self.dead = True
        while not self._ended:
            self.move("well")
        self._thread.join()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            while not self.dead:
                if self.leaving:
                    self.elector.release()
                    self.dead = True
                elif self.elector.attempt() is None:
                    self.dead = True  # as __main__ does
                else:
                    self._yield()
        except Ended:
            pass
        finally:
            self._ended = True
            self._others.release()

    def _yield(self) -> None:
        self._others.release()
        self._mine.acquire()

    def _before(self) -> None:
        self._yield()
        if self.fate == "refused":
            raise Unreachable

    def _after(self) -> None:
        self._yield()  # a request of a process that was killed is carried out nevertheless
        if self.dead:
            raise Ended
        if self.fate == "lost":
            raise Unreachable

    def _begin(self) -> None:
        self.began += 1

    def _end(self) -> None:
        assert not self.elector.is_leader()


class World:
    """Two replicas of which each is replaced when it ends, and one lease."""

    def __init__(self, rates: tuple[float, float]) -> None:
        self.time = Time()
        self.lease = FakeLease()
        self.rates = rates
        self.started = 0
        self.everyone: list[Candidate] = []
        self.replicas = [self._start(place) for place in range(2)]

    def _start(self, place: int) -> Candidate:
        self.started += 1
        clock = SkewedClock(self.time, self.rates[place], 1000.0 * self.started)
        candidate = Candidate(f"replica-{place}-{self.started}", self.lease, clock)
        self.everyone.append(candidate)
        return candidate

    def replace_dead(self) -> None:
        self.replicas = [
            self._start(place) if candidate.dead else candidate
            for place, candidate in enumerate(self.replicas)
        ]

    def check(self) -> None:
        acting = [candidate for candidate in self.everyone if candidate.acts()]
        assert len(acting) <= 1
        assert all(candidate.began for candidate in acting)
        assert all(candidate.began <= 1 for candidate in self.everyone)

    def wait(self, seconds: float) -> None:
        self.time.now += seconds  # time alone only ever ends an acting
        self.check()


@given(rates=RATES, steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_never_do_two_act_and_in_the_end_one_does(rates: tuple[float, float], steps: list[Step]) -> None:
    world = World(rates)
    try:
        for what, place, amount, fate in steps:
            if what == "wait":
                world.wait(amount)
            elif what == "annotate":
                if world.lease.stored is not None:
                    world.lease.touch()
            else:
                _do(world.replicas[place], what, amount, fate)
            world.replace_dead()
            world.check()
        for _ in _healthy(world):
            if any(candidate.acts() for candidate in world.replicas):
                return
        raise AssertionError("nobody acts")
    finally:
        for candidate in world.everyone:
            candidate.join()


def _do(candidate: Candidate, what: str, moves: int, fate: str) -> None:
    if what == "move":
        for _ in range(moves):
            candidate.move(fate)
    elif what == "kill":
        candidate.dead = True
    elif what == "leave":
        candidate.leaving = True
    elif what == "set the clock":
        candidate.clock.wall_error -= 86_400.0


def _healthy(world: World) -> Iterator[None]:
    """Let everything go well for as long as a takeover can take, the death of those who lost included."""
    for _ in range(120):
        for _ in range(8):  # more than the ends of requests in an attempt
            for candidate in world.replicas:
                candidate.move("well")
            world.replace_dead()
            world.check()
        yield
        world.wait(1)
