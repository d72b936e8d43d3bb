"""One import from a vCenter to a booted guest, seen from every side."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.api import conditions, names
from controller.api.types import VirtualMachineImport
from controller.builders import build_virtual_machine
from converters.digest import sparse_sha256
from providers.model import Firmware, SourceVM
from tests.e2e.tenants import SECONDS, wait_for_reason
from tests.lab.crds import network_attachment
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, import_path, vm_import, vmware_source
from tests.lab.vcenter_model import NIC, Disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MAC = "00:50:56:01:02:03"
WORDS = [
    "",
    "virtualMachineImportValid",
    "sourceReady",
    "disksExported",
    "diskImageSubmitted",
    "diskImagesReady",
    "virtualMachineCreated",
    "virtualMachineRunning",
]


@dataclass
class Watched:
    """What a watcher saw of an import: every version of it, in order."""

    versions: list[dict[str, Any]] = field(default_factory=list)

    def statuses(self) -> list[dict[str, Any]]:
        return [version.get("status") or {} for version in self.versions]

    def words(self) -> list[str]:
        words: list[str] = []
        for status in self.statuses():
            word = str(status.get("importStatus") or "")
            if not words or words[-1] != word:
                words.append(word)
        return words


@pytest.fixture(scope="module")
def finished(scene: Scene) -> Watched:
    """One import that has been through; the source VM was on, the vCenter slow enough to see progress."""
    scene.add_guest_vm("web", mac=MAC)
    scene.vcenter.fault("slow", vm="web", bytes_per_second=100_000, count=-1)
    watched = Watched()

    def watch() -> None:
        collection = import_path("default", "web").rpartition("/")[0]
        for event in scene.control_plane.api.watch(f"{collection}?fieldSelector=metadata.name=web"):
            watched.versions.append(event["object"])
            if (event["object"].get("status") or {}).get("phase") in {"Succeeded", "Failed", "Invalid"}:
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        scene.control_plane.apply([vm_import("default", "web", "web")])
        scene.wait_for_phase("web", "Succeeded")
        watcher.join(SECONDS)
    finally:
        scene.vcenter.clear_faults()
    watched.versions.append(scene.control_plane.api.get(import_path("default", "web")))
    return watched


def test_the_status_words_come_in_the_documented_order(finished: Watched) -> None:
    words = finished.words()
    assert words[-1] == "virtualMachineRunning"
    places = [WORDS.index(word) for word in words]
    assert places == sorted(places)
    # Some words are written together with the next one; those that last must have been seen.
    assert {"sourceReady", "diskImageSubmitted", "virtualMachineCreated"} <= set(words)


def test_progress_only_grows_and_ends_at_100(finished: Watched) -> None:
    percents = [status["progress"]["percent"] for status in finished.statuses() if "progress" in status]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(set(percents)) > 2


def test_kubectl_shows_the_documented_columns(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    head, row = scene.control_plane.kubectl("get", "virtualmachineimport.migration", "web").splitlines()
    assert head.split() == ["NAME", "STATUS", "PROGRESS", "AGE"]
    assert row.split()[:3] == ["web", "virtualMachineRunning", "100"]
    source = scene.control_plane.kubectl("get", "vmwaresource.migration").splitlines()
    assert source[1].split()[:2] == ["vcenter", "clusterReady"]
    scene.control_plane.kubectl("wait", "--for=condition=Succeeded", "vmimport/web", "--timeout=60s")


def test_the_imported_guest_confirms_every_sector_of_both_disks(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    assert scene.guest.marker in scene.harvester.consoles["default", "web"]


def test_each_disk_arrives_byte_for_byte(scene: Scene, finished: Watched) -> None:
    disks = finished.statuses()[-1]["diskImportStatus"]
    for disk, raw in zip(disks, (scene.guest.boot_raw, scene.guest.data_raw), strict=True):
        stored = scene.harvester.image_path("default", disk["VirtualMachineImage"])
        assert stored.read_bytes() == raw.read_bytes()
        assert disk["diskSize"] == raw.stat().st_size


def test_the_digest_in_status_is_that_of_the_source_disk(scene: Scene, finished: Watched) -> None:
    disks = finished.statuses()[-1]["diskImportStatus"]
    for disk, raw in zip(disks, (scene.guest.boot_raw, scene.guest.data_raw), strict=True):
        assert disk["digest"] == sparse_sha256(raw)


def test_the_vm_equals_its_source(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    vm = scene.control_plane.api.get("/apis/kubevirt.io/v1/namespaces/default/virtualmachines/web")
    spec = vm["spec"]["template"]["spec"]
    assert spec["domain"]["cpu"] == {"sockets": 1, "cores": 2, "threads": 1}
    assert spec["domain"]["memory"]["guest"] == "256Mi"
    assert spec["domain"]["devices"]["interfaces"] == [
        {"name": "nic-0", "model": "virtio", "macAddress": MAC, "bridge": {}}
    ]
    assert spec["networks"] == [{"name": "nic-0", "multus": {"networkName": "default/vlan1"}}]
    assert vm["metadata"]["annotations"][names.ANNOTATION_DESCRIPTION].startswith("Prints its disks'")
    assert vm["metadata"]["labels"][names.LABEL_OS] == "debian"


def test_nothing_that_was_finished_belongs_to_the_import_any_more(scene: Scene, finished: Watched) -> None:
    for disk in finished.statuses()[-1]["diskImportStatus"]:
        for path in (
            f"/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages/{disk['VirtualMachineImage']}",
            f"/api/v1/namespaces/default/persistentvolumeclaims/{disk['VirtualMachineImage']}",
        ):
            assert not scene.control_plane.api.get(path)["metadata"].get("ownerReferences")


def test_nothing_is_left_at_the_source_or_in_scratch(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    state = scene.vcenter.state()
    assert not [lease for lease in state.leases if lease.state in ("initializing", "ready")]
    assert not [path for path in scene.controller.scratch.iterdir() if path.name != ".open"]


def test_the_image_urls_are_dead_after_the_import(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    fetched = [request for request in scene.harvester.requests if request.method == "GET"]
    assert fetched
    for disk in finished.statuses()[-1]["diskImportStatus"]:
        image = scene.control_plane.api.get(
            f"/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages/{disk['VirtualMachineImage']}"
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(image["spec"]["url"])
        assert refused.value.code == 404
        refused.value.close()


def test_deleting_a_finished_import_leaves_its_vm_alone(scene: Scene, finished: Watched) -> None:
    assert finished.versions
    scene.add_guest_vm("kept")
    scene.control_plane.apply([vm_import("default", "kept", "kept")])
    scene.wait_for_phase("kept", "Succeeded")
    scene.control_plane.kubectl("delete", "vmimport", "kept", "--timeout=120s")
    vm = scene.control_plane.api.get("/apis/kubevirt.io/v1/namespaces/default/virtualmachines/kept")
    for volume in vm["spec"]["template"]["spec"]["volumes"]:
        claim = volume["persistentVolumeClaim"]["claimName"]
        scene.control_plane.api.get(f"/api/v1/namespaces/default/persistentvolumeclaims/{claim}")


def test_conditions_are_all_true_in_the_end(finished: Watched) -> None:
    entries = finished.statuses()[-1]["conditions"]
    assert {entry["type"]: entry["status"] for entry in entries} == {
        conditions.SUCCEEDED: "True",
        conditions.PREFLIGHT_PASSED: "True",
        conditions.SOURCE_POWERED_OFF: "True",
        conditions.DISKS_EXPORTED: "True",
        conditions.DISKS_CONVERTED: "True",
        conditions.IMAGES_READY: "True",
        conditions.VM_CREATED: "True",
        conditions.VM_RUNNING: "True",
    }


@pytest.mark.parametrize(
    ("case", "spec", "reason"),
    [
        (
            "no-network",
            {"networkMapping": [{"sourceNetwork": "Servers", "destinationNetwork": "default/missing"}]},
            "destination network default/missing does not exist",
        ),
        ("no-vm", {"virtualMachineName": "web-server-77"}, "web-server-77"),
        ("no-class", {"storageClass": "missing"}, "StorageClass 'missing' does not exist"),
    ],
)
def test_a_wrong_import_says_what_is_wrong_and_touches_nothing(
    scene: Scene, case: str, spec: dict[str, Any], reason: str
) -> None:
    scene.add_guest_vm(f"vm-{case}")
    wrong = vm_import("default", case, f"vm-{case}", **spec)
    scene.control_plane.apply([wrong])
    status = scene.wait_for_phase(case, "Invalid")
    assert status["importStatus"] == "virtualMachineImportInvalid"
    assert reason in scene.control_plane.kubectl("get", "vmimport", case, "-o", "wide")
    described = scene.control_plane.kubectl("describe", "vmimport", case)
    assert reason in described.split("Events:")[0]
    state = scene.vcenter.state()
    (vm,) = (vm for vm in state.vms if vm.name == f"vm-{case}")
    assert vm.power_state == "poweredOn"
    assert not vm.calls.get("ExportVm")


def test_correcting_an_invalid_import_starts_it_again(scene: Scene) -> None:
    scene.add_guest_vm("corrected")
    scene.control_plane.apply([vm_import("default", "corrected", "corrected", storageClass="missing")])
    scene.wait_for_phase("corrected", "Invalid")
    scene.control_plane.kubectl(
        "patch", "vmimport", "corrected", "--type=merge", "-p", '{"spec":{"storageClass":""}}'
    )
    assert scene.wait_for_phase("corrected", "Succeeded", "Failed")["phase"] == "Succeeded"


def test_a_wrong_password_makes_the_source_not_ready_and_the_import_wait(scene: Scene) -> None:
    scene.add_guest_vm("waiting")
    bad = vmware_source(scene.vcenter, "default", password="wrong-horse", name="locked")  # noqa: S106
    scene.control_plane.apply([*bad, vm_import("default", "waiting", "waiting", source="locked")])
    wait_for_reason(scene, "default", "AuthenticationFailed", name="locked")
    shown = scene.control_plane.kubectl("get", "vmwaresource", "locked", "-o", "yaml")
    wide = scene.control_plane.kubectl("get", "vmwaresource", "locked", "-o", "wide")
    assert "clusterNotReady" in wide
    scene.wait_for_phase("waiting", "Preflight")
    wait_until(
        lambda: "not ready" in scene.control_plane.kubectl("get", "vmimport", "waiting", "-o", "wide"),
        what="the word that the source is not ready",
        timeout_seconds=SECONDS,
    )
    (vm,) = (vm for vm in scene.vcenter.state().vms if vm.name == "waiting")
    assert vm.power_state == "poweredOn"
    everything = scene.controller.log.read_text() + shown + wide
    assert "wrong-horse" not in everything


def test_the_vm_is_stored_without_a_pruned_field(scene: Scene, finished: Watched) -> None:
    """What KubeVirt's schema does not know, the API server drops silently: send all we ever send, compare."""
    stored = finished.versions[-1]
    status = {**stored["status"], "importedVirtualMachineName": "pruned"}
    vmimport = VirtualMachineImport.from_object(
        {**stored, "spec": {**stored["spec"], "targetRunStrategy": "Halted"}, "status": status}
    )
    source = SourceVM.from_dict(
        {
            **status["sourceVM"],
            "firmware": Firmware.UEFI.value,
            "secureBoot": True,
            "tpm": True,
            "serial": "VMware-42",
            "osLabel": "debian",
            "nics": [{"key": "ethernet0", "networks": ["Servers"], "mac": "00:50:56:ff:ff:01"}],
        }
    )
    disks = [
        {**disk, "VirtualMachineImage": f"pruned-{disk['VirtualMachineImage']}"} for disk in vmimport.disks
    ]
    sent = build_virtual_machine(vmimport, source, disks)
    api = scene.control_plane.api
    kept = api.create("/apis/kubevirt.io/v1/namespaces/default/virtualmachines", sent)
    api.delete("/apis/kubevirt.io/v1/namespaces/default/virtualmachines/pruned")
    assert _missing(sent, kept) == []


def _missing(sent: Any, kept: Any, path: str = "") -> list[str]:
    """Return the paths of what was sent and is not stored the same."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        return [
            hole
            for key, value in sent.items()
            for hole in (_missing(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"])
        ]
    if isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        return [
            hole
            for index, (left, right) in enumerate(zip(sent, kept, strict=True))
            for hole in _missing(left, right, f"{path}[{index}]")
        ]
    return [] if sent == kept else [path]


def test_networks_of_other_namespaces_are_found(scene: Scene) -> None:
    scene.control_plane.kubectl("create", "namespace", "nets")
    scene.control_plane.apply([network_attachment("nets", "blue")])
    scene.add_guest_vm("blue")
    mapping = [{"sourceNetwork": "Servers", "destinationNetwork": "nets/blue"}]
    scene.control_plane.apply([vm_import("default", "blue", "blue", networkMapping=mapping)])
    assert scene.wait_for_phase("blue", "Succeeded", "Invalid", "Failed")["phase"] == "Succeeded"


def test_a_mac_address_that_is_taken_stops_the_import_before_anything_is_touched(
    scene: Scene, finished: Watched
) -> None:
    assert finished.versions
    scene.vcenter.add_vm(
        "twin",
        disks=[Disk(scene.guest.data_size, scene.guest.data_vmdk)],
        nics=[NIC("Servers", mac=MAC)],
        power_state="on",
    )
    scene.control_plane.apply([vm_import("default", "twin", "twin")])
    status = scene.wait_for_phase("twin", "Invalid", "Succeeded", "Failed")
    assert status["phase"] == "Invalid"
    (finding,) = (entry for entry in status["preflight"] if entry["severity"] == "Critical")
    assert finding["id"] == "MACAddressTaken"
    assert "default/web" in finding["message"]
