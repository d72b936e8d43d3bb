"""The log of an import: one line for each transition, and each line says whose it is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.lab.processes import wait_until
from tests.lab.scene import Scene, import_path, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PHASES = ["Preflight", "Shutdown", "Export", "Convert", "ImageUpload", "VMCreate", "WaitForVM", "Succeeded"]
SECONDS = 120


def test_each_line_of_an_import_says_whose_it_is_and_each_transition_has_one(
    scene: Scene, tenant: str
) -> None:
    scene.add_guest_vm("told")
    wanted = vm_import(tenant, "told", "told", networkMapping=[], targetRunStrategy="Halted")
    scene.control_plane.apply([*vmware_source(scene.vcenter, tenant), wanted])
    scene.wait_for_phase("told", "Succeeded", "Failed", "Invalid", namespace=tenant)
    uid = scene.control_plane.api.get(import_path(tenant, "told"))["metadata"]["uid"]
    whose = {"namespace": tenant, "name": "told", "uid": uid}
    wait_until(
        lambda: any(
            line.items() >= {**whose, "to": "Succeeded"}.items() for line in scene.controller.lines()
        ),
        what="the last line",
        timeout_seconds=SECONDS,
    )
    about = uid, f"{tenant}/told"
    lines = [line for line in scene.controller.lines() if any(word in str(line) for word in about)]
    for line in lines:
        assert line.items() >= whose.items(), line
        assert line["phase"] in PHASES, line
    moves = [(line["phase"], line["to"]) for line in lines if line["event"] == "import moved"]
    assert moves == list(pairwise(PHASES))
    assert {line["event"] for line in lines} >= {"transfer started", "transfer done"}
