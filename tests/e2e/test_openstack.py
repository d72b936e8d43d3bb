"""Imports from a real OpenStack, to a booted guest; and what is left there by one that is interrupted."""

from __future__ import annotations

import os
import random
import secrets
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.openstack import SECONDS, Disks, imported, openstack_source, server_import
from tests.e2e.tenants import wait_for_reason
from tests.lab.controller import Controller
from tests.lab.processes import wait_until
from tests.lab.scene import import_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant
    from tests.lab.scene import Scene

pytestmark = pytest.mark.e2e

KILLS = 15


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
    told = {entry["type"]: entry["message"] for entry in status["conditions"]}
    assert told["SourcePoweredOff"] == "the source stopped it"
    vm = scene.control_plane.api.get(f"/apis/kubevirt.io/v1/namespaces/{source}/virtualmachines/web")
    domain = vm["spec"]["template"]["spec"]["domain"]
    (port,) = project.api.get("network", f"/v2.0/ports?device_id={server.id}")["ports"]
    assert [card["macAddress"] for card in domain["devices"]["interfaces"]] == [port["mac_address"]]
    assert domain["firmware"]["uuid"] == server.id
    assert [disk["serial"] for disk in domain["devices"]["disks"]] == list(server.volumes)


@pytest.mark.timeout(1200)
def test_a_server_made_of_an_image_with_two_volumes_arrives_byte_by_byte_and_boots(
    scene: Scene, project: Tenant, source: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disks = Disks.make(tmp_path_factory.mktemp("disks"), data=2, seed=2)
    properties = {"hw_disk_bus": "virtio", "os_distro": "debian"}
    server = project.boot_from_image("shop", disks.root, data=disks.data, properties=properties)
    before = project.inventory()
    scene.control_plane.apply([server_import(source, "shop")])
    status = ended(scene, "shop", source)
    assert (status["phase"], status["importStatus"]) == ("Succeeded", "virtualMachineRunning")
    assert imported(scene, source, status) == disks.digests(root_is_volume=False)
    assert project.inventory() == before
    assert power_of(project, server.id) == "SHUTOFF"


@pytest.mark.timeout(1200)
def test_an_import_that_is_deleted_in_the_middle_waits_for_its_cloud_and_leaves_nothing_there(
    scene: Scene,
    cloud: OpenStackCloud,
    project: Tenant,
    source: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    disks = Disks.make(tmp_path_factory.mktemp("disks"), data=0, seed=3)
    server = project.boot_from_volume("given-up", disks.root)
    before = project.inventory()
    scene.control_plane.apply([server_import(source, "given-up")])
    wait_until(
        lambda: len(project.api.get("volumev3", "/volumes")["volumes"]) > len(before["volumes"]),
        what="a copy of the volume",
        timeout_seconds=SECONDS,
    )
    with cloud.gateways["volumev3"].away():
        scene.control_plane.kubectl("delete", "vmimport", "given-up", "-n", source, "--wait=false")
        wait_until(
            lambda: "deletion waits: " in str(scene.status("given-up", source).get("conditions")),
            what="the import to say what its deletion waits for",
            timeout_seconds=SECONDS,
        )
    wait_until(
        lambda: scene.control_plane.api.find(import_path(source, "given-up")) is None,
        what="the deletion",
        timeout_seconds=SECONDS,
    )
    assert project.inventory() == before
    wait_until(
        lambda: power_of(project, server.id) == "ACTIVE", what="the server to run", timeout_seconds=SECONDS
    )


@pytest.fixture
def mortal(scene: Scene) -> Iterator[Controller]:
    """A controller to be killed, in the place of the scene's; without an election, which costs 15 s each."""
    scene.controller.stop()
    controller = Controller(scene.control_plane, arguments=["--progress-seconds=1", "--leader-elect=false"])
    with closing(controller):
        controller.start()
        yield controller
    scene.controller.start()


@pytest.mark.timeout(1200)
def test_a_controller_that_is_killed_again_and_again_goes_on_and_leaves_nothing(
    scene: Scene,
    project: Tenant,
    source: str,
    mortal: Controller,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(1 << 31))
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311  # dice
    disks = Disks.make(tmp_path_factory.mktemp("disks"), data=1, seed=4)
    project.boot_from_image("phoenix", disks.root, data=disks.data)
    before = project.inventory()
    scene.control_plane.apply([server_import(source, "phoenix", targetRunStrategy="Halted")])
    pause = threading.Event()
    for _ in range(KILLS):
        pause.wait(chance.uniform(0, 3))
        mortal.kill()
        print(
            scene.status("phoenix", source).get("phase"), {k: len(v) for k, v in project.inventory().items()}
        )
        mortal.start()
    status = ended(scene, "phoenix", source)
    assert status["phase"] == "Succeeded"
    assert imported(scene, source, status) == disks.digests(root_is_volume=False)
    assert project.inventory() == before
