"""OVA files on a web server: to a booted guest, and through what can be wrong with file and server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.api import names
from converters.digest import sparse_sha256
from tests.e2e.tenants import PATH, SECONDS, wait_for_reason
from tests.lab import streamvmdk
from tests.lab.crds import network_attachment
from tests.lab.ova import Content, archive, package
from tests.lab.ova_server import Manners, OvaServer
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, VLAN, Scene, import_path, vm_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PASSWORD = "correct-battery"  # noqa: S105
MAC = "00:50:56:0a:0b:0c"
GIB = 1 << 30
SLOW = 100_000  # bytes per second: an export of twenty seconds
VERY_SLOW = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[OvaServer]:
    with OvaServer(username="reader", password=PASSWORD) as running:
        yield running


def ova_source(server: OvaServer, namespace: str, file: str, name: str = "files") -> list[dict[str, Any]]:
    """Return the Secret and the OvaSource of a file."""
    credentials = {"username": server.username, "password": server.password, "ca.crt": server.ca_pem}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-credentials", "namespace": namespace},
            "stringData": credentials,
        },
        {
            "apiVersion": API_VERSION,
            "kind": "OvaSource",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "url": server.url(file),
                "credentials": {"name": f"{name}-credentials", "namespace": namespace},
            },
        },
    ]


def ova_import(namespace: str, name: str, source: str = "files", **spec: Any) -> dict[str, Any]:
    cluster = {"apiVersion": API_VERSION, "kind": "OvaSource", "name": source, "namespace": namespace}
    return vm_import(namespace, name, name, sourceCluster=cluster, **spec)


def guest_package(scene: Scene, **options: Any) -> dict[str, Content]:
    """Return the members of an OVA with the guest that checks its disks."""
    guest = scene.guest
    disks: dict[str, Content] = {"web-disk1.vmdk": guest.boot_vmdk, "web-disk2.vmdk": guest.data_vmdk}
    told = {"name": "web", "annotation": "Came as a file", **options}
    return package(disks, [guest.boot_size, guest.data_size], **told)


def ended(scene: Scene, name: str, namespace: str, *phases: str) -> dict[str, Any]:
    return scene.wait_for_phase(
        name, *(phases or ("Succeeded", "Failed", "Invalid")), namespace=namespace, seconds=120
    )


def start(scene: Scene, server: OvaServer, tenant: str, file: str, **spec: Any) -> None:
    """Apply source and import of a file; nothing boots unless it is asked for."""
    wanted = {"networkMapping": [], "targetRunStrategy": "Halted", **spec}
    scene.control_plane.apply([*ova_source(server, tenant, file), ova_import(tenant, "web", **wanted)])


def summary(status: dict[str, Any]) -> tuple[str, str]:
    """Return reason and message of the condition `Succeeded`."""
    (entry,) = (entry for entry in status["conditions"] if entry["type"] == "Succeeded")
    return entry["reason"], entry["message"]


def test_an_ova_becomes_a_vm_that_boots_with_every_byte_in_its_place(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    server.put("web.ova", archive(guest_package(scene, mac=MAC)))
    scene.control_plane.apply([network_attachment(tenant, VLAN), *ova_source(server, tenant, "web.ova")])
    wait_for_reason(scene, tenant, "Verified", name="files", plural="ovasources")
    scene.control_plane.apply([ova_import(tenant, "web")])

    status = ended(scene, "web", tenant)

    assert (status["phase"], status["importStatus"]) == ("Succeeded", "virtualMachineRunning")
    assert scene.guest.marker in scene.harvester.consoles[tenant, "web"]
    raws = scene.guest.boot_raw, scene.guest.data_raw
    assert [disk["digest"] for disk in status["diskImportStatus"]] == [sparse_sha256(raw) for raw in raws]
    vm = scene.control_plane.api.get(f"/apis/kubevirt.io/v1/namespaces/{tenant}/virtualmachines/web")
    assert vm["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"] == [
        {"name": "nic-0", "model": "virtio", "macAddress": MAC, "bridge": {}}
    ]
    assert vm["metadata"]["annotations"][names.ANNOTATION_DESCRIPTION] == "Came as a file"
    assert vm["metadata"]["labels"][names.LABEL_OS] == "debian"
    row = scene.control_plane.kubectl("get", "ovasource.migration", "-n", tenant).splitlines()[1]
    assert row.split()[:2] == ["files", "clusterReady"]
    places = [
        scene.controller.log.read_text(),
        json.dumps(status),
        scene.control_plane.kubectl("get", "events", "-n", tenant, "-o", "yaml"),
    ]
    assert not [place for place in places if PASSWORD in place]


def test_a_server_without_ranges_that_cuts_twice_delivers_in_the_end(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    manners = Manners(ranges=False, head_status=403, cuts=[50_000, 300_000])
    server.put("cuts.ova", archive(guest_package(scene)), manners)
    start(scene, server, tenant, "cuts.ova")

    status = ended(scene, "web", tenant)

    assert status["phase"] == "Succeeded"
    raws = scene.guest.boot_raw, scene.guest.data_raw
    assert [disk["digest"] for disk in status["diskImportStatus"]] == [sparse_sha256(raw) for raw in raws]
    downloads = [request for request in server.gets("cuts.ova") if not request.range]
    assert [request.sent for request in downloads][:2] == [50_000, 300_000]
    assert len(downloads) == 3


def test_a_controller_that_is_killed_in_the_middle_of_the_disks_brings_them_whole(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    manners = Manners(bytes_per_second=SLOW)
    server.put("slow.ova", archive(guest_package(scene)), manners)
    start(scene, server, tenant, "slow.ova")
    scene.wait_for_phase("web", "Export", namespace=tenant)
    manners.bytes_per_second = VERY_SLOW
    looked_at = sum(request.sent for request in server.gets("slow.ova"))
    wait_until(
        lambda: sum(request.sent for request in server.gets("slow.ova")) > looked_at,
        what="bytes on their way",
        timeout_seconds=SECONDS,
    )

    scene.controller.kill()
    assert scene.status("web", tenant)["phase"] == "Export"
    manners.bytes_per_second = None
    scene.controller.start()
    status = ended(scene, "web", tenant)

    assert status["phase"] == "Succeeded"
    raws = scene.guest.boot_raw, scene.guest.data_raw
    assert [disk["digest"] for disk in status["diskImportStatus"]] == [sparse_sha256(raw) for raw in raws]
    uid = scene.control_plane.api.get(import_path(tenant, "web"))["metadata"]["uid"]
    assert not list(scene.controller.scratch.glob(f"{uid}/*.raw*"))


def test_a_file_that_was_not_uploaded_to_its_end_is_told_before_anything_is_made(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    server.put("short.ova", archive(guest_package(scene))[:-3])
    start(scene, server, tenant, "short.ova")

    status = ended(scene, "web", tenant)

    assert status["phase"] == "Invalid"
    assert summary(status)[0] == "ArchiveInvalid"
    assert "ends inside web-disk2.vmdk" in summary(status)[1]


def test_a_truncated_body_on_a_server_without_ranges_fails_the_import_and_leaves_nothing(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    server.put("stump.ova", archive(guest_package(scene))[:-3], Manners(ranges=False))
    start(scene, server, tenant, "stump.ova")

    status = ended(scene, "web", tenant)

    assert status["phase"] == "Failed"
    assert summary(status)[0] == "ArchiveInvalid"
    images = scene.control_plane.api.items(
        f"/apis/harvesterhci.io/v1beta1/namespaces/{tenant}/virtualmachineimages"
    )
    assert not list(images)


@pytest.mark.parametrize("manifest_at", ["second", "last"])
def test_a_disk_with_a_wrong_digest_is_never_used(
    scene: Scene, server: OvaServer, tenant: str, manifest_at: str
) -> None:
    members = guest_package(scene, manifest_at=manifest_at)
    # Still a good image: only the digest can tell.
    members["web-disk2.vmdk"] = scene.guest.data_vmdk.read_bytes() + bytes(512)
    ranges = manifest_at == "second"
    server.put(f"wrong-{manifest_at}.ova", archive(members), Manners(ranges=ranges))
    start(scene, server, tenant, f"wrong-{manifest_at}.ova")

    status = ended(scene, "web", tenant)

    assert (status["phase"], summary(status)[0]) == ("Failed", "ChecksumMismatch")
    assert "web-disk2.vmdk" in summary(status)[1]


def test_a_sparse_disk_of_ten_gibibytes_takes_no_more_than_its_data(
    scene: Scene, server: OvaServer, tenant: str, tmp_path: Path
) -> None:
    raw, vmdk = tmp_path / "sparse.raw", tmp_path / "sparse.vmdk"
    with raw.open("wb") as file:
        file.truncate(10 * GIB)
        for place in (0, 5 * GIB + 512, 10 * GIB - 4096):
            file.seek(place)
            file.write(b"data" * 1024)
    streamvmdk.encode(raw, vmdk)
    server.put("sparse.ova", archive(package({"sparse.vmdk": vmdk}, [10 * GIB])))
    start(scene, server, tenant, "sparse.ova")

    status = ended(scene, "web", tenant, "ImageUpload", "VMCreate", "Succeeded", "Failed", "Invalid")

    (disk,) = status["diskImportStatus"]
    assert disk["diskSize"] == 10 * GIB
    stored = Path(disk["diskLocalPath"])
    assert stored.stat().st_blocks * 512 <= 1 << 20
    assert disk["digest"] == sparse_sha256(raw)
    scene.control_plane.kubectl("delete", "vmimport", "web", "-n", tenant, "--timeout=120s")


def test_a_file_that_is_not_there_yet_is_waited_for(scene: Scene, server: OvaServer, tenant: str) -> None:
    scene.control_plane.apply(ova_source(server, tenant, "later.ova"))
    wait_for_reason(scene, tenant, "FileNotFound", name="files", plural="ovasources")
    server.put("later.ova", archive(guest_package(scene)))
    wait_for_reason(scene, tenant, "Verified", name="files", plural="ovasources")


def test_a_password_that_is_refused_makes_the_source_not_ready(
    scene: Scene, server: OvaServer, tenant: str
) -> None:
    server.put("locked.ova", archive(guest_package(scene)))
    secret, source = ova_source(server, tenant, "locked.ova")
    secret["stringData"]["password"] = "wrong-horse"  # noqa: S105
    scene.control_plane.apply([secret, source])
    told = wait_for_reason(scene, tenant, "AuthenticationFailed", name="files", plural="ovasources")
    assert "wrong-horse" not in json.dumps(told)
    stored = scene.control_plane.api.get(f"{PATH}/{tenant}/ovasources/files")
    assert stored["status"]["status"] == "clusterNotReady"
