"""Every pass may be lost between its deed and its note of it: the next one must find the deed and go on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller import kinds
from controller.config import Settings
from controller.connections import Connections
from controller.imageserver import ImageServer
from controller.kube.client import KubeClient
from controller.kube.errors import KubeError, ServerUnavailable
from controller.kube.events import EventRecorder
from controller.kube.resource import Resource
from controller.metrics import Metrics
from controller.reconcile.importer import ImportReconciler
from controller.reconcile.source import SourceReconciler
from controller.runtime.clock import SystemClock
from controller.runtime.store import Store
from controller.scratch import Scratch
from controller.targets import TargetNames
from controller.transfers import TransferPool
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS = 300


class Forgetful(KubeClient):
    """A client whose every other write of an import's status is lost on its way to the API server."""

    lost = 0
    kept = 0

    def replace_status(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        if resource is kinds.IMPORTS and self.lost <= self.kept:
            self.lost += 1
            raise ServerUnavailable("the connection broke")
        self.kept += 1
        return super().replace_status(resource, obj)


class Bench:
    """The reconcilers of one controller, to be called by hand."""

    def __init__(self, kube: KubeClient, scratch_path: Path) -> None:
        self.clock = SystemClock()
        self.kube = kube
        settings = Settings(image_address="127.0.0.1", progress_seconds=1)
        self.connections = Connections(kube, allow_cross_namespace=False)
        scratch = Scratch(scratch_path)
        self.transfers = TransferPool(scratch, self.clock, limit=4, on_change=lambda _: None)
        self.images = ImageServer(scratch, "127.0.0.1", 0)
        self.images.start()
        self.events = EventRecorder(kube, component="test", instance="test", clock=self.clock)
        self.sources = SourceReconciler(
            kube=kube, connections=self.connections, events=self.events, clock=self.clock
        )
        self.imports = ImportReconciler(
            kube=kube,
            connections=self.connections,
            scratch=scratch,
            transfers=self.transfers,
            images=self.images,
            targets=TargetNames(Store()),
            events=self.events,
            clock=self.clock,
            settings=settings,
            metrics=Metrics(),
        )

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.kube.get(kinds.IMPORTS, name, "default").get("status") or {})

    def close(self) -> None:
        self.transfers.shut_down(5)
        self.images.stop()
        self.connections.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(start_controller=False) as scene:
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        yield scene


@pytest.fixture
def bench(scene: Scene, tmp_path: Path) -> Iterator[Bench]:
    kubeconfig = scene.controller.kubeconfig
    bench = Bench(Forgetful.from_environment(str(kubeconfig)), tmp_path / "scratch")
    yield bench
    bench.close()


def test_an_import_survives_the_loss_of_every_other_status_write(scene: Scene, bench: Bench) -> None:
    bench.sources.reconcile("VmwareSource/default/vcenter")
    scene.add_guest_vm("web")
    scene.control_plane.apply([vm_import("default", "web", "web")])
    phases: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    pause = threading.Event()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        phase = bench.status("web").get("phase", "")
        phases[phase] += 1
        if phase in ("Succeeded", "Failed", "Invalid"):
            break
        try:
            after = bench.imports.reconcile("default/web").requeue_after
        except KubeError as exc:
            failures[str(exc)] += 1
            continue  # the write was lost; the queue would bring the key back
        pause.wait(min(after or 0, 0.1))
    status = bench.status("web")
    assert status["phase"] == "Succeeded", failures
    lost = bench.kube.lost if isinstance(bench.kube, Forgetful) else 0
    assert lost >= len([phase for phase in phases if phase]), "each phase has lost a write"

    api = scene.control_plane.api
    images = api.items("/apis/harvesterhci.io/v1beta1/virtualmachineimages")
    claims = api.items("/api/v1/namespaces/default/persistentvolumeclaims")
    machines = api.items("/apis/kubevirt.io/v1/virtualmachines")
    assert (len(images), len(claims), len(machines)) == (2, 2, 1)
    state = scene.vcenter.state()
    (vm,) = state.vms
    assert status["sourcePowerState"] == "PoweredOn"
    assert vm.calls["ExportVm"] == 1
    assert [disk.completed for disk in vm.disks] == [1, 1]
    assert not [lease for lease in state.leases if lease.state in ("initializing", "ready")]
    assert scene.guest.marker in scene.harvester.consoles["default", "web"]

    before = bench.kube.get(kinds.IMPORTS, "web", "default")["metadata"]["resourceVersion"]
    bench.imports.reconcile("default/web")
    assert bench.kube.get(kinds.IMPORTS, "web", "default")["metadata"]["resourceVersion"] == before


def test_scratch_of_an_import_that_vanished_while_the_controller_was_away_is_swept(scene: Scene) -> None:
    uid = "0f0f0f0f-0000-4000-8000-000000000000"
    left = scene.controller.scratch / uid
    left.mkdir(parents=True)
    (left / "disk-0.raw").write_bytes(b"left over")
    scene.controller.start()
    try:
        wait_until(lambda: not left.exists(), what="the sweep", timeout_seconds=120)
    finally:
        scene.controller.stop()
