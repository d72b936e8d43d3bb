"""Imports from a real OpenStack, to a booted guest."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.openstack import SECONDS, Disks, imported, openstack_source, server_import
from tests.e2e.tenants import wait_for_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant
    from tests.lab.scene import Scene

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(cloud: OpenStackCloud) -> Iterator[Tenant]:
    with closing(cloud.new_tenant("imports")) as project:
        yield project


@pytest.fixture
def source(scene: Scene, cloud: OpenStackCloud, project: Tenant, tenant: str) -> str:
    """A namespace with a verified source."""
    scene.control_plane.apply(openstack_source(cloud, project, tenant))
    wait_for_reason(scene, tenant, "Verified", name="cloud", plural="openstacksources")
    return tenant


def ended(scene: Scene, name: str, namespace: str) -> dict[str, Any]:
    return scene.wait_for_phase(name, "Succeeded", "Failed", "Invalid", namespace=namespace, seconds=SECONDS)


def power_of(project: Tenant, server: str) -> str:
    return str(project.server(server)["status"])


@pytest.mark.timeout(1200)
def test_a_server_on_volumes_arrives_byte_by_byte_and_boots(
    scene: Scene, project: Tenant, source: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disks = Disks.make(tmp_path_factory.mktemp("disks"), data=1, seed=1)
    server = project.boot_from_volume(
        "web", disks.root, data=disks.data, properties={"hw_disk_bus": "virtio"}
    )
    before = project.inventory()
    scene.control_plane.apply([server_import(source, "web")])
    status = ended(scene, "web", source)
    assert (status["phase"], status["importStatus"]) == ("Succeeded", "virtualMachineRunning")
    assert imported(scene, source, status) == disks.digests(root_is_volume=True)
    assert project.inventory() == before
    assert power_of(project, server.id) == "SHUTOFF"
    vm = scene.control_plane.api.get(f"/apis/kubevirt.io/v1/namespaces/{source}/virtualmachines/web")
    domain = vm["spec"]["template"]["spec"]["domain"]
    (port,) = project.api.get("network", f"/v2.0/ports?device_id={server.id}")["ports"]
    assert [card["macAddress"] for card in domain["devices"]["interfaces"]] == [port["mac_address"]]
    assert domain["firmware"]["uuid"] == server.id
    assert [disk["serial"] for disk in domain["devices"]["disks"]] == list(server.volumes)
