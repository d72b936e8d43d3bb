"""The work queue against a model of it that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.runtime.backoff import ItemExponentialLimiter
from controller.runtime.workqueue import WorkQueue
from tests.unit.fakes import FakeClock

KEYS = st.sampled_from(["a", "b", "c", "d"])


class QueueModel(RuleBasedStateMachine):
    """Any order of calls, one at a time, on a clock that moves when told."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue = WorkQueue(clock=self.clock, limiter=ItemExponentialLimiter())
        self.pending: list[str] = []
        self.working: list[str] = []
        self.again: set[str] = set()  # changed while in work
        self.delayed: dict[str, float] = {}
        self.shut = False

    def model_add(self, key: str) -> None:
        if self.shut:
            return
        if key in self.working:
            self.again.add(key)
        elif key not in self.pending:
            self.pending.append(key)

    def pass_time(self) -> None:
        now = self.clock.monotonic()
        for key, due in sorted(self.delayed.items(), key=lambda item: item[1]):
            if due <= now:
                del self.delayed[key]
                self.model_add(key)

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.model_add(key)

    @rule(key=KEYS, delay=st.integers(0, 20))
    def add_after(self, key: str, delay: int) -> None:
        # Two keys due at the same moment may come in either order: keep the moments apart.
        exact = delay + (len(self.delayed) + 1) / 1000 if delay else 0.0
        self.queue.add_after(key, exact)
        if self.shut:
            return
        if not exact:
            self.model_add(key)
        else:
            due = self.clock.monotonic() + exact
            self.delayed[key] = min(due, self.delayed.get(key, due))

    @rule(seconds=st.floats(0.1, 10.0))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pass_time()

    @rule()
    def get(self) -> None:
        key, shutdown = self.queue.get(timeout=0)
        expected = self.pending.pop(0) if self.pending else None
        assert key == expected
        assert shutdown == (self.shut and expected is None)
        if key is not None:
            assert key not in self.working
            self.working.append(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.working))
        self.queue.done(key)
        self.working.remove(key)
        if key in self.again:
            self.again.discard(key)
            self.pending.append(key)

    @rule()
    def drain(self) -> None:
        assert self.queue.shut_down_with_drain(timeout=0) == (not self.pending and not self.working)
        self.shut = True
        self.delayed.clear()

    @invariant()
    def depth_agrees(self) -> None:
        assert len(self.queue) == len(self.pending)


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
