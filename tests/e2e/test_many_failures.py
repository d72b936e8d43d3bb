"""Fifty imports while everything goes wrong at the vCenter: each comes to an end, and nothing is left there.

What happens to whom is drawn at random; the seed is printed, and `FAULT_SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab import streamvmdk
from tests.lab.errors import LabError
from tests.lab.harvester.machines import BootPolicy
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, Scene, vm_import, vmware_source
from tests.lab.vcenter_model import Disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

IMPORTS: Final = 50
SECONDS: Final = 600  # for all of them to end; a minute where nothing else runs
TROUBLED_SECONDS: Final = 15.0  # within which everything that goes wrong goes wrong
LEASE_SECONDS: Final = 10  # the leases of lost sessions have to die by themselves
MIB: Final = 1 << 20
SLOW: Final = 100_000  # bytes per second, so that there is a middle
PATH: Final = f"/apis/{API_VERSION}/namespaces/default/virtualmachineimports"
IMAGES: Final = "/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages"
MACHINES: Final = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines"
FATES: Final = (
    "good", "lease error", "busy", "cut", "refused", "hiccup", "corrupt",
    "lease expires", "deleted", "switched on",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Victim:
    """A VM, the import of the same name, and what happens to them."""

    name: str
    fate: str
    was_on: bool


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # Everything costs the API server time, which fifty imports have little of.
    monkeypatch.setattr("tests.lab.harvester.destination.LOOK_INTERVAL_SECONDS", 1.0)
    flags = ["--max-transfers=16", "--max-transfers-per-source=16", "--progress-seconds=3"]
    with Scene(arguments=flags, policy=BootPolicy(boot=False)) as scene:
        scene.vcenter.settings(lease_timeout_seconds=LEASE_SECONDS)
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        yield scene


def test_many_imports_in_trouble_each_end_and_leave_nothing_behind(scene: Scene, tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"FAULT_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311  # reproducible on purpose
    victims = [make(scene, number, chance, tmp_path) for number in range(IMPORTS)]
    scene.control_plane.apply([import_of(victim) for victim in victims])
    make_trouble(scene, victims, chance)
    try:
        wait_until(lambda: not under_way(scene, victims), what="all imports to end", timeout_seconds=SECONDS)
    except LabError as exc:
        exc.add_note(f"FAULT_SEED={seed}, under way: {under_way(scene, victims)}")
        raise

    statuses = {item["metadata"]["name"]: item["status"] for item in scene.control_plane.api.items(PATH)}
    for victim in victims:
        look_at_end(victim, statuses.get(victim.name))
    look_at_cluster(scene, statuses)
    wait_until(  # before the end: a lease that was forgotten would be kept alive
        lambda: not scene.vcenter.state().alive_leases,
        what="the leases of lost sessions to time out",
        timeout_seconds=6 * LEASE_SECONDS,
    )
    scene.controller.stop()
    look_at_source(scene, victims, statuses)
    assert [path for path in scene.controller.scratch.rglob("*") if path.is_file()] == []
    assert [line for line in scene.controller.lines() if line.get("level") == "error"] == []


def make(scene: Scene, number: int, chance: random.Random, directory: Path) -> Victim:
    """Make a VM of one or two disks, and order what happens to its export."""
    victim = Victim(f"victim-{number:02}", chance.choice(FATES), chance.random() < 0.7)
    disks = []
    for place in range(1 if chance.random() < 0.7 else 2):
        vmdk = directory / f"{victim.name}-{place}.vmdk"
        streamvmdk.encode(chance.randbytes(MIB // 2).ljust(MIB, b"\0"), vmdk)
        disks.append(Disk(MIB, vmdk))
    scene.vcenter.add_vm(
        victim.name,
        disks=disks,
        power_state="on" if victim.was_on else "off",
        shutdown_seconds=chance.random(),
    )
    order_trouble(scene, victim, chance)
    return victim


def order_trouble(scene: Scene, victim: Victim, chance: random.Random) -> None:
    order = functools.partial(scene.vcenter.fault, vm=victim.name)
    place = chance.randint(1, MIB // 2)
    match victim.fate:
        case "lease error":
            order("lease_error", fault="InsufficientResourcesFault")
        case "busy":
            running = {"task": {"type": "Task", "value": "task-1"}}
            order("method_fault", method="ExportVm", fault="TaskInProgress", detail=running)
        case "cut":
            order("cut", after_bytes=place, count=chance.randint(1, 6))
        case "refused":
            order("status", status=503, count=chance.randint(1, 6))
        case "hiccup":
            order("stall", after_bytes=place, delay_seconds=chance.uniform(1, 8), count=2)
        case "corrupt":
            order("corrupt", after_bytes=place, count=-1)
        case "lease expires" | "deleted" | "switched on":
            order("slow", bytes_per_second=SLOW)


def import_of(victim: Victim) -> dict[str, Any]:
    spec: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted"}
    # Of a VM that was switched on again before it was seen off, the guest is not asked a second time.
    return vm_import("default", victim.name, victim.name, gracefulShutdownTimeoutSeconds=5, **spec)


def make_trouble(scene: Scene, victims: list[Victim], chance: random.Random) -> None:
    """Do what is done from outside, at random times."""
    vcenter, api = scene.vcenter, scene.control_plane.api
    deeds: list[Callable[[], object]] = [vcenter.expire_sessions, vcenter.cut_connections] * 2
    for victim in victims:
        match victim.fate:
            case "lease expires":
                deeds.append(functools.partial(vcenter.expire_leases, victim.name))
            case "deleted":
                deeds.append(functools.partial(api.delete, f"{PATH}/{victim.name}"))
            case "switched on":
                deeds.append(functools.partial(vcenter.set_power, victim.name, "on"))
    chance.shuffle(deeds)
    pause = threading.Event()
    for deed in deeds:
        pause.wait(chance.uniform(0, 2 * TROUBLED_SECONDS / len(deeds)))
        with contextlib.suppress(LabError):  # it is on already
            deed()


def under_way(scene: Scene, victims: list[Victim]) -> dict[str, Any]:
    """Return the imports that have not come to their end, and how they are; rests first: the list is long."""
    threading.Event().wait(2)
    statuses = {
        item["metadata"]["name"]: item.get("status") or {} for item in scene.control_plane.api.items(PATH)
    }
    deleted = {victim.name for victim in victims if victim.fate == "deleted"}
    return {
        name: condition(status, "Succeeded")
        for name, status in statuses.items()
        if name in deleted or not is_over(status)
    }


def is_over(status: dict[str, Any]) -> bool:
    if status.get("phase") == "Failed":
        return condition(status, "CleanedUp").get("status") == "True"
    return status.get("phase") == "Succeeded"


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((dict(entry) for entry in status.get("conditions") or () if entry["type"] == kind), {})


def look_at_end(victim: Victim, status: dict[str, Any] | None) -> None:
    """Check that the import came to the end that its fate allows, and says why."""
    if victim.fate == "deleted":
        assert status is None, victim
        return
    assert status is not None, victim
    summary = condition(status, "Succeeded")
    if status["phase"] == "Failed":
        assert victim.fate == "corrupt", (victim, summary)
        assert (summary["status"], status["importStatus"]) == ("False", "VMMigrationFailed"), victim
        assert summary["reason"], victim
        assert summary["message"], victim
    else:
        assert summary["status"] == "True", victim
        assert all(disk["progress"] == 100 and disk["digest"] for disk in status["diskImportStatus"]), victim


def look_at_cluster(scene: Scene, statuses: dict[str, dict[str, Any]]) -> None:
    """Check that there are images of the VMs that exist, and no others."""
    machines = {item["metadata"]["name"] for item in scene.control_plane.api.items(MACHINES)}
    assert {name for name, status in statuses.items() if status["phase"] == "Succeeded"} <= machines
    assert not {name for name, status in statuses.items() if status["phase"] == "Failed"} & machines
    used = {
        entry["VirtualMachineImage"]
        for status in statuses.values()
        if status["phase"] == "Succeeded"
        for entry in status["diskImportStatus"]
    }
    images = {item["metadata"]["name"] for item in scene.control_plane.api.items(IMAGES)}
    assert used <= images
    assert len(images - used) <= 2 * len(machines - statuses.keys())  # of VMs whose import was deleted


def look_at_source(scene: Scene, victims: list[Victim], statuses: dict[str, dict[str, Any]]) -> None:
    """Check that no session and no lease is left, and that every VM is on or off as was promised."""
    state = scene.vcenter.state()
    assert state.sessions == 0
    assert state.alive_leases == ()
    assert not [vm.name for vm in state.vms if vm.leased]
    machines = {item["metadata"]["name"] for item in scene.control_plane.api.items(MACHINES)}
    for victim in victims:
        if victim.fate == "switched on":
            continue  # somebody else has decided
        wanted = "poweredOn" if victim.was_on and victim.name not in machines else "poweredOff"
        assert state.vm(victim.name).power_state == wanted, (victim, statuses.get(victim.name))
