"""The state machine as data: complete, and without a dead end."""

from __future__ import annotations

from controller.api.phase import TERMINAL, TRANSITIONS, Phase
from controller.phases.table import STEPS


def _reachable(start: Phase) -> set[Phase]:
    seen, todo = {start}, [start]
    while todo:
        for there in TRANSITIONS[todo.pop()] - seen:
            seen.add(there)
            todo.append(there)
    return seen


def test_every_phase_is_reachable_from_the_first() -> None:
    assert _reachable(Phase.PREFLIGHT) == set(Phase)


def test_every_phase_that_is_not_an_end_can_still_succeed() -> None:
    assert {phase for phase in Phase if Phase.SUCCEEDED in _reachable(phase)} == set(Phase) - TERMINAL | {
        Phase.SUCCEEDED
    }


def test_every_phase_that_is_not_an_end_can_fail_and_has_a_step() -> None:
    for phase in set(Phase) - TERMINAL:
        assert TRANSITIONS[phase] & {Phase.FAILED, Phase.INVALID}
        assert STEPS[phase].earns


def test_ends_have_no_way_on() -> None:
    assert not any(TRANSITIONS[phase] for phase in TERMINAL)
