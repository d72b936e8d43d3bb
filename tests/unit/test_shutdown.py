"""Shutdown tells what is true of the source: not every source can cut a VM's power."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from controller.api import conditions
from controller.phases import shutdown
from controller.phases.base import Advance, Context, Outcome, Wait
from providers.errors import PermissionDenied
from providers.model import PowerState, SourceVM
from tests.unit.fakes import FakeClock
from tests.unit.objects import an_import

if TYPE_CHECKING:
    from providers.errors import ProviderError

VM = SourceVM(id="vm-1", name="web", cpu_count=1, memory_mib=1)
DENIED = PermissionDenied("not yours")
SOURCES = pytest.mark.parametrize("cuts_power", [True, False])


@dataclass
class FakeSource:
    """A source of one VM, which stays as it is."""

    cuts_power: bool
    state: PowerState = PowerState.ON
    refusal: ProviderError | None = None
    asked: list[str] = field(default_factory=list)

    def power_state(self, _vm: SourceVM) -> PowerState:
        return self.state

    def request_shutdown(self, _vm: SourceVM) -> None:
        self.asked.append("request_shutdown")
        if self.refusal:
            raise self.refusal

    def power_off(self, _vm: SourceVM) -> None:
        self.asked.append("power_off")


def run(
    source: FakeSource,
    *,
    asked_ago: float | None = None,
    off: bool = False,
    known: PowerState = PowerState.ON,
    looked: bool = True,
    **spec: Any,
) -> Outcome:
    """Do one pass of an import that has looked at its source.

    Args:
        source: Of its VM.
        asked_ago: Seconds since it has asked for the shutdown; `None`: it has not.
        off: Whether it has asked for more than that.
        known: What was found before.
        looked: Whether it was this run that looked.
        spec: Of the import.
    """
    clock = FakeClock()
    status: dict[str, Any] = {
        "sourceVM": VM.to_dict(),
        "sourcePowerState": str(known),
        "conditions": [conditions.condition(conditions.SOURCE_POWERED_OFF, conditions.FALSE, "PoweredOn")],
    }
    if not looked:
        status["conditions"] = []
    if asked_ago is not None:
        status["shutdownRequestedTime"] = conditions.timestamp(clock.now() - timedelta(seconds=asked_ago))
    if off:
        kind, reason = conditions.OLD_POWERING_OFF, "GracePeriodOver"
        status["importConditions"] = [conditions.condition(kind, conditions.TRUE, reason)]
    unused: Any = None
    connections: Any = SimpleNamespace(source=lambda *_: None, provider=lambda *_, **__: source)
    vmimport = an_import(spec, status)
    return shutdown.run(
        Context(vmimport, unused, connections, unused, unused, unused, unused, clock, unused, unused)
    )


@SOURCES
def test_the_guest_comes_first(*, cuts_power: bool) -> None:
    source = FakeSource(cuts_power)
    outcome = run(source)
    assert isinstance(outcome, Wait)
    assert outcome.changes.fields.keys() == {"shutdownRequestedTime"}
    assert source.asked == ["request_shutdown"]
    assert "guest" in outcome.message


@SOURCES
def test_what_comes_when_the_grace_period_is_over_is_said_before(*, cuts_power: bool) -> None:
    source = FakeSource(cuts_power)
    outcome = run(source, asked_ago=10)
    assert isinstance(outcome, Wait)
    assert source.asked == []
    assert ("switched off hard after 60 s" in outcome.message) is cuts_power
    assert ("asked again after 60 s" in outcome.message) is not cuts_power


@SOURCES
def test_an_import_does_not_hang_on_a_guest_that_cannot_be_asked(*, cuts_power: bool) -> None:
    outcome = run(FakeSource(cuts_power, refusal=DENIED))
    assert isinstance(outcome, Wait)
    assert outcome.message.startswith("not yours; ")
    assert outcome.message.endswith("when the grace period is over")
    assert outcome.changes.fields.keys() == {"shutdownRequestedTime"}


@SOURCES
@pytest.mark.parametrize(
    ("spec", "asked_ago", "reason"),
    [({}, 61, "GracePeriodOver"), ({"forcePowerOff": True}, None, "ForcedPowerOff")],
)
def test_the_grace_period_and_the_user_end_the_waiting(
    *, cuts_power: bool, spec: dict[str, Any], asked_ago: float | None, reason: str
) -> None:
    source = FakeSource(cuts_power)
    outcome = run(source, asked_ago=asked_ago, **spec)
    assert isinstance(outcome, Wait)
    assert source.asked == ["power_off"]
    assert [event[1] for event in outcome.changes.events] == [reason]
    assert outcome.message.startswith("switching the source VM off hard: ") is cuts_power


@pytest.mark.parametrize(
    ("cuts_power", "off", "told"),
    [
        (True, False, "the guest shut down"),
        (True, True, "switched off hard"),
        (False, False, "the source stopped it"),
        (False, True, "the source stopped it"),
    ],
)
def test_how_it_came_to_be_off_is_on_record(*, cuts_power: bool, off: bool, told: str) -> None:
    outcome = run(FakeSource(cuts_power, PowerState.OFF), asked_ago=10, off=off)
    assert isinstance(outcome, Advance)
    (condition,) = outcome.changes.conditions
    assert (condition["status"], condition["message"]) == (conditions.TRUE, told)


@pytest.mark.parametrize("asked_ago", [None, 10, 61])
@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("state", [PowerState.ON, PowerState.OFF])
def test_a_source_that_cannot_cut_the_power_is_never_said_to(
    *, state: PowerState, force: bool, asked_ago: float | None
) -> None:
    for refusal in (None, DENIED):
        source = FakeSource(cuts_power=False, state=state, refusal=refusal)
        assert "hard" not in repr(run(source, asked_ago=asked_ago, off=True, forcePowerOff=force))


def test_a_clock_that_was_set_back_does_not_make_the_guest_wait_for_as_long() -> None:
    source = FakeSource(cuts_power=True)
    outcome = run(source, asked_ago=-3600)
    assert isinstance(outcome, Wait)
    assert conditions.parse_timestamp(outcome.changes.fields["shutdownRequestedTime"]) == FakeClock().now()
    assert source.asked == []


@pytest.mark.parametrize(
    ("known", "found", "told"),
    [
        (PowerState.ON, PowerState.OFF, PowerState.ON),  # the earlier run has switched it off
        (PowerState.OFF, PowerState.ON, PowerState.ON),  # somebody needs it, and this run will switch it off
        (PowerState.OFF, PowerState.OFF, PowerState.OFF),
        (PowerState.ON, PowerState.SUSPENDED, PowerState.ON),
    ],
)
def test_a_vm_gets_its_power_back_if_it_was_on_before_any_run_switched_it_off(
    known: PowerState, found: PowerState, told: PowerState
) -> None:
    outcome = run(FakeSource(cuts_power=True, state=found), known=known, looked=False)
    assert isinstance(outcome, Wait)
    assert outcome.changes.fields == {"sourcePowerState": str(told)}


def test_that_a_vm_was_switched_on_since_is_stored_before_it_is_switched_off() -> None:
    """Whoever has switched it on is to find it on, if nothing comes of the import."""
    source = FakeSource(cuts_power=True)
    outcome = run(source, known=PowerState.OFF, forcePowerOff=True)
    assert isinstance(outcome, Wait)
    assert (outcome.after, outcome.changes.fields) == (0, {"sourcePowerState": "PoweredOn"})
    assert source.asked == []
    source.state = PowerState.OFF
    assert isinstance(run(source, known=PowerState.OFF), Advance), "it is off again, and not by us"
