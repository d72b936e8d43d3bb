"""Two replicas, one cluster: one acts at a time, and what one leaves the other finishes."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.tenants import SLOWLY
from tests.lab.api_proxy import ApiProxy
from tests.lab.controller import Controller
from tests.lab.faults import Request
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LEASE = "/apis/coordination.k8s.io/v1/namespaces/harvester-system/leases/harvester-vm-import-controller"
LEISURELY = ("--leader-elect-lease-duration=600", "--leader-elect-renew-deadline=400")
QUICK = [
    "--leader-elect-lease-duration=15",
    "--leader-elect-renew-deadline=10",
    "--leader-elect-retry-period=1",
]
SOURCE_LEASE_SECONDS = 10  # a vCenter frees a VM whose exporter is gone before a standby takes over
SECONDS = 120  # generous: a takeover takes 16 s


@dataclass
class Replicas:
    """Controllers that share the cluster and nothing else, each with a proxy of its own before the API."""

    scene: Scene
    parts: ExitStack
    proxies: dict[str, ApiProxy] = field(default_factory=dict)

    def add(self, name: str, *flags: str) -> Controller:
        """Prepare a replica; its requests are seen by the proxy of its name."""
        plain = Controller(self.scene.control_plane)
        plain.close()
        proxy = self.proxies[name] = self.parts.enter_context(ApiProxy(self.scene.control_plane))
        kubeconfig = proxy.kubeconfig(plain.kubeconfig)
        controller = Controller(
            self.scene.control_plane,
            arguments=["--progress-seconds=1", f"--kubeconfig={kubeconfig}", *flags],
        )
        self.parts.callback(controller.close)
        # The proxies' kubeconfigs have one name: let this one be read before the next is written.
        controller.process.start()
        wait_until(
            lambda: bool(proxy.requests("GET")),
            what=f"the first request of {name}",
            timeout_seconds=SECONDS,
            processes=[controller.process],
        )
        return controller

    def export_slowly(self, name: str) -> None:
        """Begin an import, and return in the middle of its export."""
        self.scene.add_guest_vm(name)
        self.scene.vcenter.fault("slow", vm=name, **SLOWLY)
        self.scene.control_plane.apply([vm_import("default", name, name)])
        self.scene.wait_for_phase(name, "Export")
        state = self.scene.vcenter.state
        wait_until(
            lambda: sum(disk.bytes for disk in state().vm(name).disks) > SLOWLY["after_bytes"],
            what="bytes on their way",
            timeout_seconds=SECONDS,
        )

    def finish(self, name: str) -> None:
        """Let the import end, and see that it left everything once and nothing at the source."""
        self.scene.vcenter.clear_faults()
        status = self.scene.wait_for_phase(name, "Succeeded", "Failed", "Invalid")
        assert status["phase"] == "Succeeded"
        api = self.scene.control_plane.api
        images = api.items("/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages")
        machines = api.items("/apis/kubevirt.io/v1/namespaces/default/virtualmachines")
        claims = api.items("/api/v1/namespaces/default/persistentvolumeclaims")
        wanted = {disk["VirtualMachineImage"] for disk in status["diskImportStatus"]}
        ours = [image for image in images if f"vm-import-{name}-" in image["spec"]["displayName"]]
        assert {image["metadata"]["name"] for image in ours} == wanted
        assert len(ours) == len(wanted) == len(status["diskImportStatus"])
        assert [claim["metadata"]["name"] for claim in claims if claim["metadata"]["name"] in wanted]
        assert [vm["metadata"]["name"] for vm in machines].count(name) == 1
        assert self.scene.vcenter.state().alive_leases == ()
        assert self.scene.guest.marker in self.scene.harvester.consoles["default", name]

    def lease(self) -> dict[str, Any]:
        return dict(self.scene.control_plane.api.get(LEASE)["spec"])


def readiness(controller: Controller) -> str:
    try:
        return controller.get("/readyz").strip()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode().strip()
    except OSError as exc:
        return str(exc)


def wait_ready(controller: Controller, words: str) -> None:
    wait_until(
        lambda: words in readiness(controller),
        what=f"a replica that says {words!r}",
        timeout_seconds=SECONDS,
        processes=[controller.process],
    )


def leads(controller: Controller) -> bool:
    return "vm_import_leader 1.0" in controller.get("/metrics")


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(start_controller=False) as scene:
        scene.vcenter.settings(lease_timeout_seconds=SOURCE_LEASE_SECONDS)
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        yield scene


@pytest.fixture
def replicas(scene: Scene) -> Iterator[Replicas]:
    with ExitStack() as parts:
        yield Replicas(scene, parts)
    scene.vcenter.clear_faults()


def pair(replicas: Replicas, *flags: str) -> tuple[Controller, Controller]:
    """Return a leader and a standby."""
    leader = replicas.add("leader", *flags)
    wait_ready(leader, "ok")
    standby = replicas.add("standby", *flags)
    wait_ready(standby, "leads")
    return leader, standby


def writes(proxy: ApiProxy) -> list[Request]:
    """Return what a replica has asked to be changed, its lease and its Events left out."""
    return [
        request
        for request in proxy.requests()
        if request.verb not in ("GET", "WATCH")
        and "/leases" not in request.path
        and "/events" not in request.path
    ]


def test_a_standby_takes_over_from_a_leader_that_was_killed(replicas: Replicas) -> None:
    leader, standby = pair(replicas, *QUICK)
    assert (leads(leader), leads(standby)) == (True, False)
    replicas.export_slowly("killed")
    assert readiness(standby).endswith("leads")
    assert writes(replicas.proxies["standby"]) == []
    before = replicas.lease()
    leader.kill()
    wait_ready(standby, "ok")
    assert leads(standby)
    assert replicas.lease()["leaseTransitions"] == before["leaseTransitions"] + 1
    replicas.finish("killed")


def test_a_leader_that_is_told_to_end_hands_over_at_once(replicas: Replicas) -> None:
    leader, standby = pair(replicas, *LEISURELY)  # without a hand-over it would take ten minutes
    replicas.export_slowly("told")
    leader.stop()
    assert leader.process.returncode == 0
    wait_ready(standby, "ok")
    replicas.finish("told")
    state = replicas.scene.vcenter.state()
    assert state.vm("told").calls["ExportVm"] == 2, "the VM was free before the other began"
    assert [lease.timed_out for lease in state.leases if lease.vm == "told"] == [False, False]


def test_a_leader_that_was_paused_writes_nothing_when_it_goes_on(replicas: Replicas) -> None:
    leader, standby = pair(replicas, *QUICK)
    replicas.export_slowly("paused")
    proxy = replicas.proxies["leader"]
    leader.pause()
    wait_ready(standby, "ok")
    vcenter = replicas.scene.vcenter
    wait_until(
        lambda: vcenter.state().vm("paused").calls["ExportVm"] == 2 and bool(vcenter.state().alive_leases),
        what="the other's export",
        timeout_seconds=SECONDS,
    )
    written, calls = writes(proxy), dict(vcenter.state().vm("paused").calls)
    assert written
    # It is not told that it has lost: nothing but its own clock holds it back.
    proxy.order("drop", path="/leases", count=-1)
    leader.resume()
    wait_until(
        lambda: any("nothing is written" in str(line.get("error")) for line in leader.lines()),
        what="an attempt to write",
        timeout_seconds=SECONDS,
        processes=[leader.process],
    )
    assert not leads(leader)
    assert readiness(leader) == "the lease was not renewed in time"
    proxy.clear()
    wait_until(lambda: not leader.process.running, what="its end", timeout_seconds=SECONDS)
    assert leader.process.returncode == 1
    assert writes(proxy) == written
    assert vcenter.state().vm("paused").calls == calls
    assert leads(standby)
    replicas.finish("paused")
