"""Whole VirtualMachines: device lists of vSphere in, KubeVirt YAML out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.golden import assert_golden
from tests.lab.harvester.domain import problems
from tests.unit.virtual_machines import BUILT, build

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", BUILT)
def test_a_machine_becomes_the_virtual_machine_of_its_golden_file(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.yaml", build(name))


def test_every_golden_file_belongs_to_a_machine() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(BUILT)


@pytest.mark.parametrize("name", BUILT)
def test_kubevirt_accepts_what_a_machine_becomes(name: str) -> None:
    assert problems(build(name)) == []


@pytest.mark.parametrize("name", BUILT)
def test_what_kubevirt_wants_unique_is_unique(name: str) -> None:
    spec: dict[str, Any] = build(name)["spec"]["template"]["spec"]
    devices = spec["domain"]["devices"]
    orders = [
        entry["bootOrder"]
        for kind in ("disks", "interfaces")
        for entry in devices[kind]
        if "bootOrder" in entry
    ]
    assert len(set(orders)) == len(orders)
    assert {disk["name"] for disk in devices["disks"]} == {volume["name"] for volume in spec["volumes"]}
    assert [card["name"] for card in devices["interfaces"]] == [
        network["name"] for network in spec["networks"]
    ]
    assert sum("pod" in network for network in spec["networks"]) <= 1
