from __future__ import annotations

import os
from http import HTTPStatus
from typing import Any

import pytest

from tests.integration.boot_sector import boot_sector
from tests.integration.image_source import ImageSource
from tests.integration.importer import Namespace, eventually, imported
from tests.lab import crds
from tests.lab.control_plane import ControlPlane
from tests.lab.crds import DEFAULT_STORAGE_CLASS, storage_class
from tests.lab.harvester import Harvester, Request, domain
from tests.lab.harvester.images import condition
from tests.lab.harvester.machines import BootPolicy
from tests.lab.kube_api import ApiError
from tests.lab.processes import running_with
from tests.lab.qemu import Bus

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
GUEST = boot_sector("VMIMPORT-GUEST OK").ljust(4 * MEBIBYTE, b"\0")


@pytest.fixture
def here(control_plane: ControlPlane, namespace: str, harvester: Harvester) -> Namespace:
    assert harvester.errors == []
    return Namespace(control_plane.api, namespace)


@pytest.mark.parametrize("compress", [False, True])
def test_an_image_is_read_by_two_heads_and_one_get(
    here: Namespace, harvester: Harvester, *, compress: bool
) -> None:
    content = bytes(MEBIBYTE) + os.urandom(MEBIBYTE) + bytes(MEBIBYTE)
    with ImageSource(content, compress=compress) as source:
        here.create_image(source.url)
        imported(here)
    head, get = Request("HEAD", "/image.raw", 200), Request("GET", "/image.raw", 200)
    assert harvester.requests == [head, head, get]
    path = harvester.image_path(here.name, f"image-1-{here.name}")
    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 < 2 * MEBIBYTE
    status = here.image()["status"]
    assert status["progress"] == 100
    assert (status["size"], status["virtualSize"]) == (len(content), len(content))
    assert status["storageClassName"] == f"longhorn-image-1-{here.name}"
    assert here.api.find(f"/apis/storage.k8s.io/v1/storageclasses/{status['storageClassName']}") is not None


def test_admission_fills_in_the_default_storage_class_and_the_display_name_s_label(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        here.create_image(source.url)
        assert here.image()["spec"]["targetStorageClassName"] == DEFAULT_STORAGE_CLASS
        assert (
            here.image()["metadata"]["annotations"]["harvesterhci.io/storageClassName"]
            == DEFAULT_STORAGE_CLASS
        )
        imported(here)
        label = "harvesterhci.io/imageDisplayName"
        eventually(lambda: label in here.image()["metadata"].get("labels", {}), "the label")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"displayName": "x" * 64}, "not a valid label value"),
        ({"displayName": "two words"}, "not a valid label value"),
        ({"targetStorageClassName": "absent"}, '"absent" not found'),
        ({"url": ""}, "url is required"),
        ({"targetStorageClassName": "of-an-image", "backend": "backingimage"}, "can not use a backing image"),
    ],
)
def test_admission_refuses_an_image_that_harvester_would_refuse(
    here: Namespace, spec: dict[str, str], why: str
) -> None:
    of_an_image = storage_class("of-an-image", parameters={"backingImage": "vmi-1"})
    here.api.ensure("/apis/storage.k8s.io/v1/storageclasses", of_an_image)
    with pytest.raises(ApiError, match=why):
        here.create_image(**({"url": "http://127.0.0.1:1/"} | spec))


def test_two_images_may_not_have_one_display_name(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        here.create_image(source.url)
        imported(here)
        label = "harvesterhci.io/imageDisplayName"
        eventually(lambda: label in here.image()["metadata"].get("labels", {}), "the label")
        with pytest.raises(ApiError, match="same name exists") as refusal:
            here.create_image(source.url, name="image-2", displayName=f"image-1-{here.name}")
    assert refusal.value.status == HTTPStatus.CONFLICT


def test_a_download_that_fails_is_tried_again(here: Namespace, harvester: Harvester) -> None:
    harvester.faults.fail_always = True
    with ImageSource(GUEST) as source:
        here.create_image(source.url, retry=10)
        eventually(lambda: here.image().get("status", {}).get("failed", 0) >= 1, "the first failure")
        assert condition(here.image(), "Imported") == "Unknown"
        assert condition(here.image(), "RetryLimitExceeded") == "False"
        harvester.faults.fail_always = False
        imported(here)
    attempts = sum(request.method == "GET" for request in harvester.requests)
    assert here.image()["status"]["failed"] == attempts - 1


def test_an_image_that_fails_too_often_is_given_up(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        source.cut = True
        here.create_image(source.url, retry=1)
        eventually(lambda: condition(here.image(), "RetryLimitExceeded") == "True", "the end of the retries")
    conditions = {item["type"]: item for item in here.image()["status"]["conditions"]}
    assert conditions["Imported"]["status"] == "False"
    assert "retry attempted 1/1 failed due to error: " in conditions["RetryLimitExceeded"]["message"]
    assert "unexpected EOF" in conditions["RetryLimitExceeded"]["message"]


def test_a_refusal_is_a_failure_of_the_initialization(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        source.status = HTTPStatus.NOT_FOUND
        here.create_image(source.url, retry=0)
        eventually(lambda: condition(here.image(), "RetryLimitExceeded") == "True", "the end of the retries")
    assert condition(here.image(), "Initialized") == "False"
    assert condition(here.image(), "Imported") == ""


def test_progress_is_seen_and_stays_below_100_until_the_image_is_ready(
    here: Namespace, harvester: Harvester
) -> None:
    harvester.faults.bytes_per_second = 2 * MEBIBYTE
    seen = set()
    with ImageSource(os.urandom(8 * MEBIBYTE)) as source:
        here.create_image(source.url)

        def is_imported() -> bool:
            image = here.image()
            seen.add((condition(image, "Imported"), image.get("status", {}).get("progress", 0)))
            return condition(image, "Imported") == "True"

        eventually(is_imported, "the import of the image")
    assert ("True", 100) in seen
    assert any(0 < progress < 100 for _, progress in seen)
    assert not any(progress == 100 for imported_, progress in seen if imported_ != "True")


def test_an_import_goes_on_when_the_api_server_was_away() -> None:
    with ControlPlane() as cluster:
        crds.install(cluster)
        with Harvester(cluster) as harvester, ImageSource(os.urandom(2 * MEBIBYTE)) as source:
            harvester.faults.bytes_per_second = MEBIBYTE
            here = Namespace(cluster.api, "default")
            here.create_image(source.url)
            eventually(lambda: condition(here.image(), "Initialized") == "True", "the start of the download")
            cluster.stop_api_server()
            cluster.start_api_server()
            imported(here)
        assert [request.method for request in harvester.requests] == ["HEAD", "HEAD", "GET"]
        assert harvester.errors == []


def test_a_deleted_image_leaves_no_storage_class(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        here.create_image(source.url)
        imported(here)
    name = here.image()["status"]["storageClassName"]
    here.api.delete(f"{here.images}/image-1-{here.name}")
    path = f"/apis/storage.k8s.io/v1/storageclasses/{name}"
    eventually(lambda: here.api.find(path) is None, "the end of the storage class")


def test_an_image_of_the_cdi_backend_becomes_a_volume_of_its_name(
    here: Namespace, harvester: Harvester
) -> None:
    here.api.ensure(
        "/apis/storage.k8s.io/v1/storageclasses", storage_class("other", provisioner="example.com/csi")
    )
    content = os.urandom(20 * MEBIBYTE)
    with ImageSource(content) as source:
        here.create_image(source.url, backend="cdi", targetStorageClassName="other")
        imported(here)
    assert harvester.image_path(here.name, f"image-1-{here.name}").read_bytes() == content
    claim = here.api.get(f"{here.claims}/image-1-{here.name}")
    assert claim["status"]["phase"] == "Bound"
    assert claim["spec"]["storageClassName"] == "other"
    assert [request.status for request in harvester.requests] == [206, 200, 206, 206]


def test_a_fitting_claim_is_bound_and_its_image_is_kept_while_it_is_used(here: Namespace) -> None:
    with ImageSource(GUEST) as source:
        here.create_image(source.url)
        imported(here)
    here.create_claim()
    eventually(lambda: here.claim_phase() == "Bound", "the binding of the claim")
    with pytest.raises(ApiError, match="being used by volume"):
        here.api.delete(f"{here.images}/image-1-{here.name}")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"storageClassName": DEFAULT_STORAGE_CLASS}, "does not belong to image"),
        ({"volumeMode": "Filesystem"}, "needs volumeMode Block"),
        ({"accessModes": ["ReadWriteOnce"]}, "needs access mode ReadWriteMany"),
        ({"resources": {"requests": {"storage": "3Mi"}}}, "smaller than the image's virtual size"),
    ],
)
def test_a_claim_that_does_not_fit_stays_pending(
    here: Namespace, harvester: Harvester, changes: dict[str, Any], why: str
) -> None:
    with ImageSource(GUEST) as source:
        here.create_image(source.url)
        imported(here)
    here.create_claim(**changes)
    eventually(lambda: why in harvester.refusals.get(f"{here.name}/disk-1", ""), "the refusal")
    assert here.claim_phase() == "Pending"


def vm_with_image(here: Namespace, content: bytes, **changes: Any) -> None:
    with ImageSource(content) as source:
        here.create_image(source.url)
        imported(here)
    here.create_claim()
    here.create_vm(**changes)


def test_a_machine_is_ready_when_its_guest_has_said_so(here: Namespace, harvester: Harvester) -> None:
    vm_with_image(here, GUEST, bus=Bus.SCSI)
    eventually(lambda: bool(here.vm().get("status", {}).get("ready")), "the guest")
    assert condition(here.vm(), "Ready") == "True"
    assert "VMIMPORT-GUEST OK" in harvester.consoles[here.name, "vm-1"]
    started = harvester.machines[here.name, "vm-1"]
    assert (started.cpus, started.memory_mib, started.disks[0].bus) == (2, 64, Bus.SCSI)


def test_a_machine_whose_disk_does_not_boot_is_not_ready(here: Namespace, harvester: Harvester) -> None:
    vm_with_image(here, bytes(4 * MEBIBYTE))

    def reported() -> bool:
        conditions = here.vm().get("status", {}).get("conditions", [])
        return any("No bootable device" in item["message"] for item in conditions)

    eventually(reported, "the report of what the console said")
    assert condition(here.vm(), "Ready") == "False"
    assert harvester.errors == []


def test_a_machine_need_not_be_booted_to_be_ready(control_plane: ControlPlane, namespace: str) -> None:
    with Harvester(control_plane, namespaces=[namespace], policy=BootPolicy(boot=False)) as harvester:
        here = Namespace(control_plane.api, namespace)
        vm_with_image(here, bytes(4 * MEBIBYTE))
        eventually(lambda: condition(here.vm(), "Ready") == "True", "the machine")
        assert harvester.consoles == {}


def test_deleting_a_machine_switches_it_off(control_plane: ControlPlane, namespace: str) -> None:
    with Harvester(control_plane, namespaces=[namespace], policy=BootPolicy(keep_running=True)) as harvester:
        here = Namespace(control_plane.api, namespace)
        vm_with_image(here, GUEST)
        eventually(lambda: condition(here.vm(), "Ready") == "True", "the machine")
        disk = str(harvester.machines[namespace, "vm-1"].disks[0].path)
        assert len(running_with(disk)) == 1
        here.api.delete(f"{here.vms}/vm-1")
        eventually(lambda: running_with(disk) == [], "the end of QEMU")


def test_a_halted_machine_is_not_started(here: Namespace, harvester: Harvester) -> None:
    vm_with_image(here, GUEST)
    here.api.merge(f"{here.vms}/vm-1", {"spec": {"runStrategy": "Halted"}})
    eventually(lambda: here.vm().get("status", {}).get("printableStatus") == "Stopped", "the stop")
    assert condition(here.vm(), "Ready") == "False"
    assert harvester.errors == []


def test_a_machine_without_its_claim_says_what_it_waits_for(here: Namespace) -> None:
    here.create_vm(claim="absent")
    eventually(
        lambda: here.vm().get("status", {}).get("printableStatus") == "ErrorPvcNotFound", "the complaint"
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"memory": {}}, "no memory requested"),
        ({"firmware": {"bootloader": {"efi": {}}}}, r"needs features\.smm"),
        ({"devices": {"disks": [{"name": "other", "disk": {"bus": "virtio"}}]}}, "disk other has no volume"),
        ({"devices": {"disks": [{"name": "disk", "disk": {"bus": "ide"}}]}}, "unknown bus 'ide'"),
        ({"devices": {"disks": [{"name": "Disk", "disk": {"bus": "sata"}}]}}, "Disk is no DNS label"),
        ({"cpu": {"sockets": 2, "cores": 1}}, "greater than the maximum of sockets"),
        ({"machine": {"type": "pc"}}, "machine type 'pc' is not supported"),
        ({"resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "2"}}}, "the request of cpu is greater"),
    ],
)
def test_admission_refuses_a_machine_that_kubevirt_would_refuse(
    here: Namespace, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ApiError, match=why):
        here.create_vm(**changes)


@pytest.mark.parametrize(
    ("card", "network", "why"),
    [
        ({"macAddress": "02:00:00:00:00:00"}, {"pod": {}}, "reserved for the bridge"),
        ({"macAddress": "0050.5600"}, {"pod": {}}, "malformed MAC address"),
        ({"name": "nic 1"}, {"pod": {}}, "other characters than letters"),
        ({}, {}, "must have one network type"),
    ],
)
def test_a_card_that_kubevirt_would_refuse_is_found(
    card: dict[str, Any], network: dict[str, Any], why: str
) -> None:
    interface = {"name": "nic-1", "masquerade": {}, **card}
    devices = {"disks": [], "interfaces": [interface]}
    spec = {
        "domain": {"memory": {"guest": "64Mi"}, "devices": devices},
        "networks": [{"name": interface["name"], **network}],
    }
    found = domain.problems({"spec": {"runStrategy": "Halted", "template": {"spec": spec}}})
    assert any(why in problem for problem in found), found


def test_a_machine_on_a_network_that_does_not_exist_is_refused_as_harvester_does(here: Namespace) -> None:
    manifest = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "vm-1"},
        "spec": {
            "runStrategy": "Halted",
            "template": {
                "spec": {
                    "domain": {
                        "memory": {"guest": "64Mi"},
                        "devices": {"interfaces": [{"name": "nic-0", "bridge": {}}]},
                    },
                    "networks": [{"name": "nic-0", "multus": {"networkName": "vlan9"}}],
                }
            },
        },
    }
    with pytest.raises(ApiError, match=f"{here.name}/vlan9.*not found") as refusal:
        here.api.create(here.vms, manifest)
    assert refusal.value.status == HTTPStatus.INTERNAL_SERVER_ERROR


def test_longhorn_takes_whole_sectors_only(here: Namespace) -> None:
    with ImageSource(GUEST[:-1]) as source:
        here.create_image(source.url, retry=0)
        eventually(lambda: condition(here.image(), "Imported") == "False", "the image to be given up")
    assert any("multiple of 512" in item["message"] for item in here.image()["status"]["conditions"])


def test_longhorn_attaches_no_encrypted_volume_of_an_image(here: Namespace, harvester: Harvester) -> None:
    name = f"vault-{here.name}"
    vault = storage_class(name, parameters={"encrypted": "true"})
    here.api.create("/apis/storage.k8s.io/v1/storageclasses", vault)
    with ImageSource(GUEST) as source:
        here.create_image(source.url, targetStorageClassName=name, backend="backingimage")
        imported(here)
    here.create_claim()
    claim = f"{here.name}/disk-1"
    eventually(lambda: "encryption format" in harvester.refusals.get(claim, ""), "the refusal")
