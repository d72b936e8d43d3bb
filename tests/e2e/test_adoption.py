"""An old add-on's objects, under its own definitions, when this chart comes: nothing lost, stuck or redone.

The definitions are brought up to date as the chart's Job does it, with no more rights than it has; then the
controller starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from controller.api import names
from tests.lab import chart, old_controller
from tests.lab.chart import manifests
from tests.lab.controller import ROOT, our_crds
from tests.lab.crds import CRD_PATH, wait_established
from tests.lab.harvester.machines import BootPolicy
from tests.lab.old_controller import FINISHED, UNDER_WAY
from tests.lab.scene import Scene, import_path, vm_import, vmware_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CREATED = "virtualMachineCreated"
VM_MADE = ("virtualMachineRunning", CREATED)
IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages"
JOB_ACCOUNT = f"{chart.RELEASE}-crds"
KINDS = ("virtualmachineimports", "vmwaresources", "openstacksources", "ovasources")


def name_of(word: str) -> str:
    return f"old-{word.lower() or 'new'}"


class Before:
    """A cluster with all that the old controller leaves, before and after the definitions change."""

    def __init__(self, scene: Scene, home: Path) -> None:
        self.scene = scene
        self._api = scene.control_plane.api
        self._home = home
        self._replace_definitions()
        scene.control_plane.apply(
            [*vmware_source(scene.vcenter, "default"), *old_controller.sources("default")]
        )
        for word in (*FINISHED, *UNDER_WAY, CREATED):
            scene.add_guest_vm(name_of(word))
            self.leave(*old_controller.an_import(name_of(word), word))
        self.leave_image(VM_MADE)
        gone, status = old_controller.an_import("old-deleted", "sourceReady")
        gone["spec"]["sourceCluster"]["name"] = "gone"
        self.leave(gone, status)
        scene.control_plane.kubectl("delete", "virtualmachineimport", "old-deleted", "--wait=false")
        self.stored = self.objects()

    def leave(self, left: dict[str, Any], status: dict[str, Any]) -> None:
        """Store an import, and its status as the old controller writes it."""
        self._api.create(import_path("default", "").rstrip("/"), left)
        if status:
            self._api.merge(f"{import_path('default', left['metadata']['name'])}/status", {"status": status})

    def leave_image(self, words: Iterable[str]) -> None:
        """Store the image that all imports name, as owned by those at some words: it lets go of it late."""
        owners = []
        for word in words:
            owner = self._api.get(import_path("default", name_of(word)))
            reference = {field: owner["metadata"][field] for field in ("name", "uid")}
            owners.append({"apiVersion": owner["apiVersion"], "kind": owner["kind"], **reference})
        image = {
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {"name": "image-abcde", "namespace": "default", "ownerReferences": owners},
            "spec": {"displayName": "old", "sourceType": "download", "url": "http://127.0.0.1:9/disk-0.img"},
        }
        self._api.create(IMAGES, image)

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return all sources and imports, as they are stored; without who has written which field."""
        found = {}
        for kind in KINDS:
            for item in self._api.items(f"/apis/{names.API_VERSION}/{kind}"):
                del item["metadata"]["managedFields"]
                found[f"{kind}/{item['metadata']['name']}"] = item
        return found

    def _replace_definitions(self) -> None:
        for definition in old_controller.definitions():
            path = f"{CRD_PATH}/{definition['metadata']['name']}"
            present = self._api.get(path)
            self._api.request("PUT", path, present | {"spec": definition["spec"]})
            wait_established(self.scene.control_plane, definition["metadata"]["name"])

    def upgrade(self) -> None:
        """Do what the chart's Job does, as its account."""
        items = manifests(templates=("crds",))
        self.scene.control_plane.apply(item for item in items if item["kind"] != "Job")
        (config,) = (item for item in items if item["kind"] == "ConfigMap")
        (job,) = (item for item in items if item["kind"] == "Job")
        for file, text in config["data"].items():
            (self._home / file).write_text(text)
        kubeconfig = self.scene.control_plane.kubeconfig_for_service_account(chart.NAMESPACE, JOB_ACCOUNT)
        _, *words, _ = job["spec"]["template"]["spec"]["containers"][0]["command"]
        subprocess.run(
            [sys.executable, *words, str(self._home)],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)},
            check=True,
        )


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Before]:
    policy = BootPolicy(boot=False)  # what arrives is other tests' business
    with Scene(arguments=["--progress-seconds=1"], start_controller=False, policy=policy) as scene:
        yield Before(scene, tmp_path_factory.mktemp("definitions"))


@pytest.fixture(scope="module")
def upgraded(before: Before) -> dict[str, dict[str, Any]]:
    """All objects when the definitions are ours and nobody has acted yet."""
    before.upgrade()
    return before.objects()


@pytest.fixture(scope="module")
def scene(before: Before, upgraded: dict[str, dict[str, Any]]) -> Scene:
    """The scene with the controller running."""
    assert upgraded
    before.scene.controller.start()
    return before.scene


def test_the_old_definitions_do_drop_our_fields(before: Before) -> None:
    extra = vm_import("default", "probe", "probe", targetName="new")
    text = json.dumps(extra)
    stored = before.scene.control_plane.kubectl(
        "create", "--dry-run=server", "--validate=false", "-o", "json", "-f", "-", stdin=text
    )
    assert "targetName" not in json.loads(stored)["spec"]


def test_the_definitions_become_ours_with_no_more_rights_than_the_job_has(
    before: Before, upgraded: dict[str, dict[str, Any]]
) -> None:
    assert upgraded
    api = before.scene.control_plane.api
    for definition in our_crds():
        stored = api.get(f"{CRD_PATH}/{definition['metadata']['name']}")
        (version,) = stored["spec"]["versions"]
        assert version["schema"] == definition["spec"]["versions"][0]["schema"]
        assert stored["status"]["storedVersions"] == [names.VERSION]


def test_no_object_loses_anything_by_it(before: Before, upgraded: dict[str, dict[str, Any]]) -> None:
    assert upgraded == before.stored
    assert len(upgraded) == len(FINISHED) + len(UNDER_WAY) + 2 + 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_can_be_written_again_as_it_is(
    before: Before, upgraded: dict[str, dict[str, Any]], kind: str
) -> None:
    api = before.scene.control_plane.api
    for key, item in upgraded.items():
        if key.startswith(f"{kind}/"):
            path = f"/apis/{names.API_VERSION}/namespaces/default/{key}"
            for subresource in ("", "/status"):
                written = api.request("PUT", f"{path}{subresource}?dryRun=All", item)
                assert (written["spec"], written.get("status")) == (item["spec"], item.get("status"))


@pytest.mark.parametrize(("word", "phase"), FINISHED.items())
def test_what_has_ended_keeps_its_word_and_nothing_is_done_again(scene: Scene, word: str, phase: str) -> None:
    name = name_of(word)
    status = scene.wait_for_phase(name, phase)
    assert status["importStatus"] == word
    stored = scene.control_plane.api.get(import_path("default", name))
    assert stored["metadata"]["finalizers"] == [names.FINALIZER]
    assert status["diskImportStatus"][0]["VirtualMachineImage"] == "image-abcde"
    (vm,) = (vm for vm in scene.vcenter.state().vms if vm.name == name)
    assert vm.power_state == "poweredOn"


@pytest.mark.parametrize("word", UNDER_WAY)
def test_what_was_under_way_starts_over_and_succeeds(scene: Scene, word: str) -> None:
    status = scene.wait_for_phase(name_of(word), "Succeeded", "Failed", "Invalid", seconds=240)
    assert status["phase"] == "Succeeded"
    assert len(status["diskImportStatus"]) == 2
    assert status["diskImportStatus"][0]["VirtualMachineImage"] != "image-abcde"


def test_clearing_the_status_word_of_a_failed_import_starts_it_again(scene: Scene) -> None:
    name = name_of("VMMigrationFailed")
    scene.wait_for_phase(name, "Failed")
    scene.control_plane.api.merge(f"{import_path('default', name)}/status", {"status": {"importStatus": ""}})
    assert scene.wait_for_phase(name, "Succeeded", "Invalid", seconds=240)["phase"] == "Succeeded"


def test_what_was_created_waits_for_its_machine_and_says_that_it_is_gone(scene: Scene) -> None:
    status = scene.wait_for_phase(name_of(CREATED), "Failed")
    (summary,) = (entry for entry in status["conditions"] if entry["type"] == "Succeeded")
    assert summary["reason"] == "VirtualMachineGone"


def test_what_was_being_deleted_goes_and_so_does_all_the_rest(scene: Scene) -> None:
    for word in (*FINISHED, CREATED):
        scene.wait_for_phase(name_of(word), "Succeeded", "Invalid", "Failed")
    scene.control_plane.kubectl("delete", "virtualmachineimports", "--all", "--timeout=60s")
    assert scene.control_plane.kubectl("get", "virtualmachineimports", "-o", "name") == ""
    image = scene.control_plane.api.get(f"{IMAGES}/image-abcde")["metadata"]
    assert "ownerReferences" not in image, "the disks of a VM do not go with its import"
    assert "deletionTimestamp" not in image
