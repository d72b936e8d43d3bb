"""Two hundred VMs through one source: time, memory, and whether order and limits hold."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.bench.figures import Figure
from tests.bench.memory import resident_mib
from tests.lab.errors import LabError
from tests.lab.harvester.machines import BootPolicy
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, Scene, vm_import, vmware_source
from tests.lab.vcenter_model import Disk

FLEET = 200
AT_ONCE = 10  # VMs in the comparison, for each way
LIMIT = 4  # transfers of one source at once, the default
OUT_OF_TURN = 16  # places: as many imports as there are workers and transfers are on their way at once
SECONDS = 1200
SPEC: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted", "forcePowerOff": True}
IMPORTS = f"/apis/{API_VERSION}/namespaces/default/virtualmachineimports"


def run() -> list[Figure]:
    """Import the fleet, then ten VMs at once beside ten one after another, as the old controller works."""
    with Scene(policy=BootPolicy(boot=False), arguments=["--leader-elect=false"]) as scene:
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        wait_until(
            lambda: "clusterReady" in scene.control_plane.kubectl("get", "vmwaresource"),
            what="the source",
            timeout_seconds=60,
        )
        names = [f"vm-{number:03}" for number in range(FLEET)]
        together, resident = _import(scene, names)
        _check(scene, names)
        few = [f"few-{number}" for number in range(AT_ONCE)]
        few_together, _ = _import(scene, few)
        alone = sum(_import(scene, [f"alone-{number}"])[0] for number in range(AT_ONCE))
    return [
        Figure(
            "fleet: time",
            round(together, 1),
            900,
            "s",
            f"{FLEET} VMs of one source, a tiny disk each, applied at once, until all are Succeeded; beside: "
            "expectation",
        ),
        Figure(
            "fleet: memory",
            round(resident),
            350,
            "MiB",
            "most that was resident meanwhile; beside: expectation",
        ),
        Figure(
            "fleet: ten at once",
            round(few_together, 1),
            round(alone, 1),
            "s",
            "ten such VMs applied at once; beside: each applied when the one before it has ended",
        ),
    ]


def _import(scene: Scene, names: list[str]) -> tuple[float, float]:
    """Import VMs; return the seconds it took, and the most MiB that the controller held meanwhile."""
    for name in names:
        scene.vcenter.add_vm(
            name, disks=[Disk(scene.guest.boot_size, scene.guest.boot_vmdk)], power_state="off"
        )
    most = 0.0
    pause = threading.Event()
    started = time.monotonic()
    scene.control_plane.apply([vm_import("default", name, name, **SPEC) for name in names])
    wanted = set(names)
    while wanted:
        pause.wait(0.5)
        most = max(most, resident_mib(scene.controller.process.pid))
        for item in scene.control_plane.api.items(IMPORTS):
            phase = (item.get("status") or {}).get("phase")
            if phase in ("Failed", "Invalid"):
                raise LabError(f"{item['metadata']['name']}: {item['status']}")
            if phase == "Succeeded":
                wanted.discard(item["metadata"]["name"])
        if time.monotonic() - started > SECONDS:
            raise LabError(f"{len(wanted)} of {len(names)} imports have not ended in {SECONDS} s")
    return time.monotonic() - started, most


def _check(scene: Scene, names: list[str]) -> None:
    """Look through the log for errors, too many transfers at once, and imports that were overtaken."""
    by_uid = {
        item["metadata"]["uid"]: item["metadata"]["name"] for item in scene.control_plane.api.items(IMPORTS)
    }
    running = 0
    order: list[str] = []
    for line in scene.controller.lines():
        if line.get("level") == "error":
            raise LabError(f"an error was logged: {line}")
        if line.get("event") == "transfer started":
            running += 1
            order.append(by_uid[line["uid"]])
        elif line.get("event") in ("transfer done", "transfer failed", "transfer cancelled"):
            running -= 1
        if running > LIMIT:
            raise LabError(f"{running} transfers of one source at once")
    late = {name: order.index(name) - names.index(name) for name in names}
    name = max(late, key=lambda key: late[key])
    if late[name] > OUT_OF_TURN:
        raise LabError(f"{name} was overtaken by {late[name]} others")
