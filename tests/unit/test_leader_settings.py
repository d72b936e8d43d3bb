"""The flags of leader election."""

from __future__ import annotations

import pytest

from controller.config import Settings


@pytest.mark.parametrize(
    ("argv", "elects"),
    [
        ([], True),
        (["--leader-elect"], True),
        (["--leader-elect=true"], True),
        (["--leader-elect=false"], False),
        (["--leader-elect=False"], False),
    ],
)
def test_leader_election_is_on_unless_switched_off(argv: list[str], elects: bool) -> None:  # noqa: FBT001
    assert Settings.from_arguments(argv, {}).leader_elect is elects


def test_its_times_are_those_of_kubernetes_own_components() -> None:
    settings = Settings.from_arguments([], {})
    assert (settings.lease_duration, settings.renew_deadline, settings.retry_period) == (15, 10, 2)


@pytest.mark.parametrize(
    "argv",
    [
        ["--leader-elect=maybe"],
        ["--leader-elect-lease-duration=10"],
        ["--leader-elect-renew-deadline=15"],
        ["--leader-elect-renew-deadline=2"],
        ["--leader-elect-retry-period=0"],
        ["--leader-elect-lease-duration=nan"],
    ],
)
def test_times_that_cannot_work_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.from_arguments(argv, {})
    assert "--leader-elect" in capsys.readouterr().err
