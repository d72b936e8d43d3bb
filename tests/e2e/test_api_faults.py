"""Imports while the API server fails, or rights are missing: they end well, with one of everything."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from controller.api import names
from tests.e2e.tenants import SLOWLY
from tests.lab import chart
from tests.lab.api_proxy import ApiProxy
from tests.lab.controller import ACCOUNT, ROOT, Controller
from tests.lab.crds import wait_established
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vm_import, vmware_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LEAST_FAULTS, STORM_IMPORTS = 10, 8
AWAY_SECONDS = float(os.environ.get("API_AWAY_SECONDS") or 120)
ENDS = ("Succeeded", "Failed", "Invalid")
FAST = (
    "--progress-seconds=1",
    "--leader-elect-lease-duration=3",
    "--leader-elect-renew-deadline=2",
    "--leader-elect-retry-period=0.5",
)
ALONE = ("--progress-seconds=1", "--leader-elect=false")
MIB = 1 << 20


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(start_controller=False) as scene:
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        yield scene


@contextlib.contextmanager
def controller_of(
    scene: Scene, arguments: Sequence[str], proxy: ApiProxy | None = None
) -> Iterator[Controller]:
    """Run a controller of the test's own, through the proxy if there is one."""
    if proxy is not None:
        arguments = [*arguments, f"--kubeconfig={proxy.kubeconfig(scene.controller.kubeconfig)}"]
    with Controller(scene.control_plane, arguments=arguments) as controller:
        yield controller


def finish(scene: Scene, name: str, seconds: float = 300) -> dict[str, Any]:
    status = scene.wait_for_phase(name, *ENDS, seconds=seconds)
    assert status["importStatus"] == "virtualMachineRunning", status
    return status


def assert_one_of_everything(scene: Scene, name: str) -> None:
    api = scene.control_plane.api
    uid = api.get(f"/apis/migration.harvesterhci.io/v1beta1/namespaces/default/virtualmachineimports/{name}")[
        "metadata"
    ]["uid"]
    selector = f"?labelSelector={names.LABEL_IMPORT_UID}={uid}"
    found = [
        len(api.items(f"{path}{selector}"))
        for path in (
            "/apis/harvesterhci.io/v1beta1/virtualmachineimages",
            "/api/v1/persistentvolumeclaims",
            "/apis/kubevirt.io/v1/virtualmachines",
        )
    ]
    assert found == [2, 2, 1]
    state = scene.vcenter.state()
    (vm,) = (vm for vm in state.vms if vm.name == name)
    assert not vm.leased
    assert scene.guest.marker in scene.harvester.consoles["default", name]


def test_imports_go_through_while_the_api_misbehaves_at_random(scene: Scene) -> None:
    seed = int(os.environ.get("FAULT_SEED") or secrets.randbelow(1 << 31))
    print(f"FAULT_SEED={seed}")
    with ApiProxy(scene.control_plane, seed=seed) as proxy, controller_of(scene, ALONE, proxy) as controller:
        faults = [
            proxy.order("answer", status=409, verb="PUT", probability=0.1, count=-1),
            proxy.order("answer", status=404, probability=0.03, count=-1),  # of a proxy: it names no object
            proxy.order("answer", status=500, probability=0.015, count=-1),
            proxy.order("answer", status=503, probability=0.015, count=-1),
            proxy.order("answer", status=429, retry_after=1, probability=0.015, count=-1),
            proxy.order("drop", probability=0.015, count=-1),
            proxy.order("lose", probability=0.015, count=-1),
            proxy.order("cut", verb="WATCH", probability=0.2, count=-1),
            proxy.order("answer", status=410, verb="WATCH", probability=0.2, count=-1),
        ]
        namesakes: list[str] = []
        # Two at once, then more, one by one, until the dice have thrown enough.
        while len(namesakes) < STORM_IMPORTS and sum(fault.fired for fault in faults) < LEAST_FAULTS:
            waves = [f"storm-{len(namesakes) + number}" for number in range(1 if namesakes else 2)]
            for name in waves:
                scene.add_guest_vm(name)
                scene.control_plane.apply([vm_import("default", name, name)])
            for name in waves:
                finish(scene, name)
            namesakes += waves
        proxy.clear()
        fired = {f"{fault.action} {fault.verb} {fault.status}": fault.fired for fault in faults}
        print(fired)
        assert sum(fired.values()) >= LEAST_FAULTS
        for name in namesakes:
            assert_one_of_everything(scene, name)
            (vm,) = (vm for vm in scene.vcenter.state().vms if vm.name == name)
            assert vm.calls["ExportVm"] == 1, "faults of the cluster are no reason to read a disk again"
        assert not [line for line in controller.lines() if line.get("level") == "error"]


def test_imports_outlive_an_api_server_that_is_away(scene: Scene) -> None:
    """One is being read, one being fetched by Harvester. `API_AWAY_SECONDS` makes it shorter."""
    proxy = ApiProxy(scene.control_plane)
    with proxy, controller_of(scene, FAST, proxy) as controller:
        for name, phase in (("fetched", "ImageUpload"), ("read", "Export")):
            scene.add_guest_vm(name)
            scene.vcenter.fault("slow", vm="read", **SLOWLY)
            scene.harvester.faults.bytes_per_second = 2 * MIB
            scene.control_plane.apply([vm_import("default", name, name)])
            scene.wait_for_phase(name, phase)
        with proxy.away():
            threading.Event().wait(AWAY_SECONDS)
            assert controller.process.running
        scene.harvester.faults.bytes_per_second = None
        scene.vcenter.clear_faults()
        for name in ("fetched", "read"):
            finish(scene, name)
            assert_one_of_everything(scene, name)
            (vm,) = (vm for vm in scene.vcenter.state().vms if vm.name == name)
            assert vm.calls["ExportVm"] == 1, "nothing was read twice"


def roles() -> list[dict[str, Any]]:
    rights = chart.manifests(templates=("rbac",))
    return [item for item in rights if item["kind"] in ("ClusterRole", "Role")]


@contextlib.contextmanager
def without_right_to(scene: Scene, resources: set[str]) -> Iterator[None]:
    """Take the right to resources from the controller, as an old chart's role lacks it."""
    changed = roles()
    for role in changed:
        role["rules"] = [rule for rule in role["rules"] if not resources & set(rule["resources"])]
    assert changed != roles()
    scene.control_plane.kubectl("replace", "-f", "-", stdin=yaml.safe_dump_all(changed))
    try:
        yield
    finally:
        scene.control_plane.kubectl("replace", "-f", "-", stdin=yaml.safe_dump_all(roles()))


def test_without_the_right_to_events_and_leases_there_is_a_warning_each_and_all_else_works(
    scene: Scene,
) -> None:
    scene.add_guest_vm("no-rights")
    with without_right_to(scene, {"events", "leases"}), controller_of(scene, FAST) as controller:
        scene.control_plane.apply([vm_import("default", "no-rights", "no-rights")])
        finish(scene, "no-rights")
        assert_one_of_everything(scene, "no-rights")
        for resource in ("events", "leases"):
            told = [line for line in controller.lines() if resource in str(line) and ACCOUNT in str(line)]
            assert [line["level"] for line in told] == ["warning"], told


def test_without_the_kind_of_one_source_the_others_work_and_it_is_found_when_it_comes(scene: Scene) -> None:
    crd = "customresourcedefinition"
    scene.control_plane.kubectl("delete", crd, "ovasources.migration.harvesterhci.io")
    scene.add_guest_vm("no-ova")
    try:
        with controller_of(scene, ALONE) as controller:
            scene.control_plane.apply([vm_import("default", "no-ova", "no-ova")])
            finish(scene, "no-ova")
            assert_one_of_everything(scene, "no-ova")
            told = [line for line in controller.lines() if line.get("reflector") == "ovasource"]
            assert [line["level"] for line in told] == ["warning"], told
            install_ova_sources(scene)
            scene.control_plane.apply([ova_source()])
            wait_until(
                lambda: "clusterNotReady" in scene.control_plane.kubectl("get", "ovasource", "late"),
                what="a verdict on a source of the late kind",
                timeout_seconds=120,
            )
    finally:
        install_ova_sources(scene)


def install_ova_sources(scene: Scene) -> None:
    crd = ROOT / "manifests/crds/migration.harvesterhci.io_ovasources.yaml"
    scene.control_plane.kubectl("apply", "--server-side", "-f", str(crd))
    wait_established(scene.control_plane, "ovasources.migration.harvesterhci.io")


def ova_source() -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "OvaSource",
        "metadata": {"name": "late", "namespace": "default"},
        "spec": {"url": "http://127.0.0.1:1/nothing.ova"},
    }
