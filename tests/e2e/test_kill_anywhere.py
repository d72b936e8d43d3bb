"""Kill -9 of the controller anywhere: every import still ends in one running VM, and nothing is left over."""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from controller.api import names
from controller.api.phase import TERMINAL, Phase
from tests.lab.api_proxy import ApiProxy
from tests.lab.controller import Controller
from tests.lab.errors import LabError
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vm_import, vmware_source

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

LEAST_KILLS, MOST_KILLS = 30, 50
FIRST_IMPORTS, MOST_IMPORTS = 3, 8
END_SECONDS = 400
PHASE_SECONDS = 30
MARCH: tuple[Phase, ...] = tuple(phase for phase in Phase if phase not in TERMINAL)
# Without an election: a killed leader's lease makes its successor wait 15 s, which is tested elsewhere.
ARGUMENTS = (
    "--progress-seconds=1",
    "--max-transfers=24",
    "--max-transfers-per-source=24",
    "--leader-elect=false",
)
MIB = 1 << 20
IMAGES = "/apis/harvesterhci.io/v1beta1/virtualmachineimages"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
MACHINES = "/apis/kubevirt.io/v1/virtualmachines"
IMPORTS = "/apis/migration.harvesterhci.io/v1beta1/virtualmachineimports"


@dataclass
class Killing:
    """One run: a scene in which everything takes its time, a controller that dies, and where it died."""

    scene: Scene
    controller: Controller
    rng: random.Random
    kills: int = 0
    points: Counter[str] = field(default_factory=Counter)
    imports: list[str] = field(default_factory=list)
    pause: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    def add_import(self) -> None:
        name = f"vm-{len(self.imports)}"
        self.imports.append(name)
        self.scene.add_guest_vm(name, shutdown_seconds=1.5)
        self.scene.control_plane.apply([vm_import("default", name, name)])

    def phases(self) -> dict[str, str]:
        found = self.scene.control_plane.api.items(IMPORTS)
        return {
            item["metadata"]["name"]: (item.get("status") or {}).get("phase", Phase.PREFLIGHT.value)
            for item in found
        }

    def kill_somewhere(self) -> None:
        """Kill it at a random moment, or, for a phase that was not met yet, as soon as one is in it."""
        missing = [phase.value for phase in MARCH if not self.points[phase.value]]
        if missing and (self.kills >= LEAST_KILLS or self.rng.random() < 0.5):
            self._wait_for(self.rng.choice(missing))
            self.pause.wait(self.rng.uniform(0, 0.15))
        else:
            self.pause.wait(self.rng.uniform(0.2, 2.5))
        self._kill()
        self.kills += 1
        at_kill = {name: phase for name, phase in self.phases().items() if phase in set(MARCH)}
        self.points.update(at_kill.values())
        seconds = time.monotonic() - self.started
        print(f"killed after {seconds:.0f} s: {dict(sorted(Counter(at_kill.values()).items()))}")

    def _kill(self) -> None:
        """Kill it, but not between the answer to a login and its note on the scratch volume.

        What these milliseconds would leave is a session that nobody knows; vCenter's idle time-out ends it.
        """
        while True:
            self.controller.pause()
            self.pause.wait(0.05)  # for a login that is on its way
            if self.scene.vcenter.state().sessions <= self._noted_sessions():
                break
            self.controller.resume()
            self.pause.wait(0.05)
        self.controller.kill()

    def _noted_sessions(self) -> int:
        notes = [json.loads(path.read_text()) for path in (self.controller.scratch / ".open").glob("*.json")]
        return sum(not json.loads(note["entry"])["lease"] for note in notes)

    def all_ended(self) -> bool:
        return set(self.phases().values()) <= {phase.value for phase in TERMINAL}

    def enough(self) -> bool:
        everywhere = all(self.points[phase.value] for phase in MARCH)
        return self.kills >= LEAST_KILLS and everywhere

    def _wait_for(self, phase: str) -> None:
        """Wait until an import is in the phase: each kill throws imports back, so let them come so far."""
        deadline = time.monotonic() + PHASE_SECONDS
        while phase not in self.phases().values() and time.monotonic() < deadline:
            self.pause.wait(0.02)


@pytest.fixture(scope="module")
def killed() -> Iterator[Killing]:
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(1 << 31))
    print(f"KILL_SEED={seed}")
    with Scene(start_controller=False) as scene, ApiProxy(scene.control_plane, seed=seed) as proxy:
        kubeconfig = proxy.kubeconfig(scene.controller.kubeconfig)
        controller = Controller(scene.control_plane, arguments=[*ARGUMENTS, f"--kubeconfig={kubeconfig}"])
        killing = Killing(scene, controller, random.Random(seed))  # noqa: S311  # dice
        try:
            slow_down(scene, proxy)
            scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
            run(killing)
            proxy.clear()
            scene.vcenter.clear_faults()
            scene.harvester.faults.bytes_per_second = None
            wait_for_the_end(killing)
            yield killing
        finally:
            controller.close()


def slow_down(scene: Scene, proxy: ApiProxy) -> None:
    """Make every phase last, so that kills fall inside of each: short ones last by slow writes of status."""
    proxy.order("delay", path="/virtualmachineimports/.*/status", verb="PUT", seconds=0.5, count=-1)
    proxy.order("delay", path="/virtualmachine(image|)s", verb="POST", seconds=0.4, count=-1)
    scene.vcenter.fault("slow", bytes_per_second=600_000, count=-1)
    scene.vcenter.fault("method_delay", method="RetrievePropertiesEx", delay_seconds=0.1, count=-1)
    scene.harvester.faults.bytes_per_second = 24 * MIB


def run(killing: Killing) -> None:
    for _ in range(FIRST_IMPORTS):
        killing.add_import()
    for _ in range(MOST_KILLS):
        killing.controller.start()
        killing.kill_somewhere()
        if killing.enough():
            break
        if len(killing.imports) < MOST_IMPORTS or killing.all_ended():
            killing.add_import()
    killing.controller.start()


def wait_for_the_end(killing: Killing) -> None:
    ends = {phase.value for phase in TERMINAL}
    try:
        wait_until(
            lambda: all(phase in ends for phase in killing.phases().values()),
            what="the end of all imports",
            timeout_seconds=END_SECONDS,
            processes=[killing.controller.process],
        )
    except LabError as exc:
        pytest.fail(f"{killing.phases()}: {exc}")


def mine(items: list[dict[str, Any]], uid: str) -> list[dict[str, Any]]:
    return [item for item in items if item["metadata"].get("labels", {}).get(names.LABEL_IMPORT_UID) == uid]


def test_it_was_killed_often_enough_and_in_every_phase(killed: Killing) -> None:
    assert killed.kills >= LEAST_KILLS
    assert set(killed.points) == {phase.value for phase in MARCH}, killed.points


def test_every_import_ends_running_and_never_failed_on_its_way(killed: Killing) -> None:
    for name in killed.imports:
        status = killed.scene.status(name)
        assert (status["phase"], status["importStatus"]) == ("Succeeded", "virtualMachineRunning"), name
        assert status["sourcePowerState"] == "PoweredOn", name
        assert status["progress"]["percent"] == 100, name


def test_there_is_one_image_and_one_volume_for_each_disk_and_one_vm_for_each_import(killed: Killing) -> None:
    api = killed.scene.control_plane.api
    for path, expected in ((IMAGES, 2), (CLAIMS, 2), (MACHINES, 1)):
        items = api.items(path)
        assert len(items) == expected * len(killed.imports), path
        for vmimport in api.items(IMPORTS):
            assert len(mine(items, vmimport["metadata"]["uid"])) == expected, vmimport["metadata"]["name"]
        assert not [item for item in items if item["metadata"].get("ownerReferences")], path


def test_every_byte_is_right(killed: Killing) -> None:
    scene = killed.scene
    for name in killed.imports:
        disks = scene.status(name)["diskImportStatus"]
        for disk, raw in zip(disks, (scene.guest.boot_raw, scene.guest.data_raw), strict=True):
            stored = scene.harvester.image_path("default", disk["VirtualMachineImage"])
            assert stored.read_bytes() == raw.read_bytes(), name
        assert scene.guest.marker in scene.harvester.consoles["default", name]


def test_no_vm_is_leased_and_no_session_outlives_the_controller(killed: Killing) -> None:
    state = killed.scene.vcenter.state()
    assert not [lease for lease in state.leases if lease.state in ("initializing", "ready")]
    assert not [vm.name for vm in state.vms if vm.leased]
    assert not [path for path in killed.controller.scratch.iterdir() if path.name != ".open"]
    killed.controller.stop()
    assert killed.scene.vcenter.state().sessions == 0
    assert not list((killed.controller.scratch / ".open").iterdir())


def test_no_step_met_an_error_that_it_does_not_know(killed: Killing) -> None:
    lines = killed.controller.lines()
    assert not [line for line in lines if line.get("level") == "error" or "text" in line]
    assert killed.scene.harvester.errors == []
