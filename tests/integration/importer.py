"""What an importer asks of Harvester, in a namespace of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.lab.harvester.images import condition
from tests.lab.processes import wait_until
from tests.lab.qemu import Bus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.kube_api import KubeApi


class Namespace:
    """The test's namespace, with the requests that an importer makes."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self.api = api
        self.name = name
        self.images = f"/apis/harvesterhci.io/v1beta1/namespaces/{name}/virtualmachineimages"
        self.claims = f"/api/v1/namespaces/{name}/persistentvolumeclaims"
        self.vms = f"/apis/kubevirt.io/v1/namespaces/{name}/virtualmachines"

    def create_image(self, url: str, *, name: str = "image-1", **spec: Any) -> None:
        name = f"{name}-{self.name}"  # its StorageClass, named after it, belongs to the whole cluster
        manifest = {
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {"name": name},
            "spec": {"displayName": name, "sourceType": "download", "url": url, **spec},
        }
        self.api.create(self.images, manifest)

    def image(self, name: str = "image-1") -> dict[str, Any]:
        return self.api.get(f"{self.images}/{name}-{self.name}")

    def create_claim(self, *, image: str = "image-1", **changes: Any) -> None:
        spec = {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "storageClassName": f"longhorn-{image}-{self.name}",
            "resources": {"requests": {"storage": "4Mi"}},
        }
        annotations = {"harvesterhci.io/imageId": f"{self.name}/{image}-{self.name}"}
        manifest = {"metadata": {"name": "disk-1", "annotations": annotations}, "spec": spec | changes}
        self.api.create(self.claims, manifest)

    def claim_phase(self) -> str:
        return str(self.api.get(f"{self.claims}/disk-1")["status"]["phase"])

    def create_vm(self, *, bus: Bus = Bus.SATA, claim: str = "disk-1", **changes: Any) -> None:
        devices = {"disks": [{"name": "disk", "bootOrder": 1, "disk": {"bus": bus}}]}
        domain = {"cpu": {"cores": 2}, "memory": {"guest": "64Mi"}, "devices": devices, **changes}
        volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": claim}}]
        manifest = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "vm-1", "labels": {"migration.harvesterhci.io/imported": "true"}},
            "spec": {
                "runStrategy": "RerunOnFailure",
                "template": {"spec": {"domain": domain, "volumes": volumes}},
            },
        }
        self.api.create(self.vms, manifest)

    def vm(self) -> dict[str, Any]:
        return self.api.get(f"{self.vms}/vm-1")


def eventually(probe: Callable[[], bool], what: str) -> None:
    wait_until(probe, what=what, timeout_seconds=120)


def imported(here: Namespace) -> None:
    eventually(lambda: condition(here.image(), "Imported") == "True", "the import of the image")
