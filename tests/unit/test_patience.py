"""A source that does not answer holds up one caller at a time, and nobody once it answers again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from controller.patience import ASKING_SECONDS, PAUSE_SECONDS, PatientProvider
from providers.base import Verified
from providers.errors import AuthenticationFailed, Unreachable
from providers.model import PowerState, SourceVM
from tests.unit.fakes import FakeClock, eventually

VM = SourceVM(id="vm-1", name="web", cpu_count=1, memory_mib=1)


class FakeSource:
    """Answers, or raises what it is told to, after some time; may be held in the middle of a call."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.takes = 30.0
        self.error: Exception | None = None
        self.calls = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def power_state(self, _vm: SourceVM) -> PowerState:
        self.calls += 1
        self.goes_on.wait()
        self._clock.advance(self.takes)
        if self.error:
            raise self.error
        return PowerState.OFF

    def verify(self) -> Verified:
        self.power_state(VM)
        return Verified()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(clock: FakeClock) -> FakeSource:
    return FakeSource(clock)


@pytest.fixture
def patient(source: FakeSource, clock: FakeClock) -> PatientProvider:
    provider: Any = source
    return PatientProvider(provider, clock)


def test_a_source_that_was_silent_a_moment_ago_is_not_asked_again(
    patient: PatientProvider, source: FakeSource, clock: FakeClock
) -> None:
    source.error = Unreachable("no route to vcenter")
    for _ in range(5):
        with pytest.raises(Unreachable, match="no route to vcenter"):
            patient.power_state(VM)
    assert source.calls == 1
    clock.advance(PAUSE_SECONDS)
    with pytest.raises(Unreachable):
        patient.power_state(VM)
    assert source.calls == 2


def test_a_source_that_refuses_at_once_holds_nobody_up_and_is_asked_every_time(
    patient: PatientProvider, source: FakeSource
) -> None:
    source.error = Unreachable("connection refused")
    source.takes = 0.1
    for calls in (1, 2, 3):
        with pytest.raises(Unreachable):
            patient.power_state(VM)
        assert source.calls == calls


def test_while_one_asks_a_silent_source_the_others_do_not_wait_with_it(
    patient: PatientProvider, source: FakeSource, clock: FakeClock
) -> None:
    source.error = Unreachable("no route to vcenter")
    with pytest.raises(Unreachable):
        patient.power_state(VM)
    clock.advance(PAUSE_SECONDS)
    source.goes_on.clear()
    answers: list[PowerState] = []
    one = threading.Thread(target=lambda: answers.append(patient.power_state(VM)))
    one.start()
    eventually(lambda: source.calls == 2)
    clock.advance(ASKING_SECONDS - 1)
    with pytest.raises(Unreachable):
        patient.power_state(VM)
    source.error = None
    source.goes_on.set()
    one.join()
    assert answers == [PowerState.OFF] == [patient.power_state(VM)]


@pytest.mark.parametrize("answer", [None, AuthenticationFailed("another password")])
def test_any_answer_opens_the_source_to_all_again(
    patient: PatientProvider, source: FakeSource, clock: FakeClock, answer: Exception | None
) -> None:
    source.error = Unreachable("no route to vcenter")
    with pytest.raises(Unreachable):
        patient.power_state(VM)
    source.error = answer
    clock.advance(PAUSE_SECONDS)
    for calls in (2, 3, 4):
        if answer:
            with pytest.raises(AuthenticationFailed):
                patient.power_state(VM)
        else:
            patient.power_state(VM)
        assert source.calls == calls


def test_a_verification_always_asks_and_tells_that_the_source_is_back(
    patient: PatientProvider, source: FakeSource
) -> None:
    source.error = Unreachable("no route to vcenter")
    with pytest.raises(Unreachable):
        patient.verify()
    with pytest.raises(Unreachable):
        patient.power_state(VM)
    assert source.calls == 1
    source.error = None
    patient.verify()
    assert patient.power_state(VM) is PowerState.OFF
