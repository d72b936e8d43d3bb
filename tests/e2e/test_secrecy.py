"""No secret is seen anywhere; every scene looks for them at its end, this test in the middle of things."""

from __future__ import annotations

import re

import pytest

from tests.e2e.tenants import SLOWLY
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vm_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS = 120


def test_a_dump_of_all_stacks_leaves_the_process_running_and_tells_no_secret(scene: Scene) -> None:
    secrecy = scene.control_plane.secrecy
    scene.add_guest_vm("dumped")
    scene.vcenter.fault("slow", vm="dumped", **SLOWLY)
    scene.control_plane.apply([vm_import("default", "dumped", "dumped", targetRunStrategy="Halted")])
    scene.wait_for_phase("dumped", "Export")
    before = len(scene.controller.log.read_text())
    pid = scene.controller.process.pid
    scene.controller.dump_stacks()
    wait_until(
        lambda: bool(
            re.search(r"^(Current thread|Thread) 0x", scene.controller.log.read_text()[before:], re.MULTILINE)
        ),
        what="the stacks in the log",
        timeout_seconds=SECONDS,
        processes=[scene.controller.process],
    )
    scene.vcenter.clear_faults()
    assert scene.wait_for_phase("dumped", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert scene.controller.process.pid == pid
    dumped = scene.controller.log.read_text()[before:]
    assert "in _worker" in dumped or "in _run" in dumped, "functions are named"
    scene.controller.show()
    scene.note_objects()
    secrecy.keep("log", scene.controller.log.read_text())
    assert secrecy.leaks() == []
    assert secrecy.kinds() >= {
        "password",
        "basic authentication",
        "ServiceAccount token",
        "image token",
        "session cookie",
    }
    assert secrecy.places() >= {"log", "metrics", "process arguments", "events", "virtualmachineimports"}
