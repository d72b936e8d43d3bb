from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers.model import PowerState, SourceVM
from providers.openstack import state
from providers.openstack.machine import to_source_vm
from tests.golden import assert_golden
from tests.unit.providers.openstack.servers import SERVERS, facts, server

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_described_as_its_golden_file_says(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.yaml", to_source_vm(SERVERS[name]()).to_dict())


def test_every_golden_file_belongs_to_a_server() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SERVERS)


@pytest.mark.parametrize("name", SERVERS)
def test_a_description_survives_the_status(name: str) -> None:
    described = to_source_vm(SERVERS[name]())

    assert SourceVM.from_dict(described.to_dict()) == described


def test_the_order_in_which_services_list_changes_nothing() -> None:
    made = SERVERS["many_cards"]()
    turned = facts(server=made.server, ports=tuple(reversed(made.ports)))

    assert to_source_vm(turned) == to_source_vm(made)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "SHUTOFF"}, PowerState.OFF),
        ({"status": "SHUTOFF", "OS-EXT-STS:task_state": "powering-on"}, PowerState.ON),
        ({"status": "ACTIVE", "OS-EXT-STS:task_state": "powering-off"}, PowerState.ON),
        ({"status": "SHUTOFF", "OS-EXT-STS:task_state": "image_uploading"}, PowerState.OFF),
        ({"status": "ERROR", "OS-EXT-STS:power_state": 1}, PowerState.ON),
        ({"status": "ERROR", "OS-EXT-STS:power_state": None}, PowerState.UNKNOWN),
    ],
)
def test_a_server_that_is_being_switched_still_runs(fields: dict[str, Any], expected: PowerState) -> None:
    assert state.power_state(server(**fields)) is expected


@pytest.mark.parametrize(
    ("fields", "busy"),
    [
        ({}, False),
        ({"OS-EXT-STS:task_state": "powering-off"}, False),
        ({"OS-EXT-STS:task_state": "image_snapshot"}, True),
        ({"status": "MIGRATING"}, True),
        ({"status": "BUILD"}, True),
        ({"status": "VERIFY_RESIZE"}, False),  # that waits for its owner, not for Nova
    ],
)
def test_only_what_ends_by_itself_is_waited_for(fields: dict[str, Any], *, busy: bool) -> None:
    assert bool(state.busy_with(server(**fields))) is busy
