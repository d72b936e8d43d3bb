"""Storage that is not Longhorn's v1 engine: CDI fetches the image, and its volume becomes the VM's disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tenants import Tenancy
from tests.lab import crds, streamvmdk
from tests.lab.scene import Scene
from tests.lab.vcenter_model import Disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SIZE = 1 << 20


@pytest.fixture
def tenancy(scene: Scene, tenant: str) -> Iterator[Tenancy]:
    with Tenancy.of(scene, tenant) as tenancy:
        yield tenancy


@pytest.fixture
def other(scene: Scene, tenant: str) -> Iterator[str]:
    """A StorageClass of another provisioner."""
    name = f"other-{tenant}"
    scene.control_plane.apply([crds.storage_class(name, provisioner="csi.example.com", parameters={})])
    yield name
    scene.control_plane.api.delete(f"{CLASSES}/{name}")


def test_the_volume_of_the_image_becomes_the_disk_of_the_vm(tenancy: Tenancy, other: str) -> None:
    tenancy.add_vm("web")
    tenancy.start("web", storageClass=other)
    assert tenancy.ended("web")["phase"] == "Succeeded"
    api, here = tenancy.scene.control_plane.api, tenancy.namespace
    vm = api.get(f"/apis/kubevirt.io/v1/namespaces/{here}/virtualmachines/web")
    volumes = vm["spec"]["template"]["spec"]["volumes"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes]
    images = api.items(f"/apis/harvesterhci.io/v1beta1/namespaces/{here}/virtualmachineimages")
    assert sorted(image["metadata"]["name"] for image in images) == sorted(claims)
    for image in images:
        assert image["spec"]["backend"] == "cdi"
        assert not image["metadata"].get("ownerReferences"), "it must outlive the import"
        assert "deletes the disk" in image["metadata"]["annotations"]["field.cattle.io/description"]
    for claim in api.items(f"/api/v1/namespaces/{here}/persistentvolumeclaims"):
        assert claim["metadata"]["annotations"]["harvesterhci.io/goldenImage"] == "true", "one that CDI made"
        assert [owner["kind"] for owner in claim["metadata"]["ownerReferences"]] == ["VirtualMachineImage"]


def test_a_disk_that_cdi_would_unpack_is_refused_and_not_altered(
    tenancy: Tenancy, other: str, tmp_path: Path
) -> None:
    streamvmdk.encode((b"\x1f\x8b\x08" + os.urandom(4096)).ljust(SIZE, b"\0"), tmp_path / "disk.vmdk")
    tenancy.add_vm("backup", disks=[Disk(SIZE, tmp_path / "disk.vmdk")])
    tenancy.start("backup", storageClass=other)
    assert tenancy.ended("backup")["phase"] == "Failed"
    summary = tenancy.summary("backup")
    assert summary["reason"] == "UnsupportedFormat"
    assert "begins like gzip" in summary["message"]
