"""A project of the lab's OpenStack as a source of imports, and servers whose bytes are known."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from converters.digest import sparse_sha256
from tests.integration.boot_sector import boot_sector
from tests.lab.scene import API_VERSION, Scene, vm_import

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant

SOURCE = "cloud"
GIB, MIB = 1 << 30, 1 << 20
SECONDS = 700  # an import's gigabytes go through Cinder, Glance and this machine's two cores


def openstack_source(
    cloud: OpenStackCloud, tenant: Tenant, namespace: str, **spec: Any
) -> list[dict[str, Any]]:
    """Return the Secret and the OpenstackSource of a project."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{SOURCE}-credentials", "namespace": namespace},
            "stringData": {
                "username": tenant.username,
                "password": tenant.password,
                "project_name": tenant.project,
                "domain_name": tenant.domain,
            },
        },
        {
            "apiVersion": API_VERSION,
            "kind": "OpenstackSource",
            "metadata": {"name": SOURCE, "namespace": namespace},
            "spec": {
                "endpoint": cloud.auth_url,
                "region": cloud.region,
                "uploadImageRetryCount": 120,  # uploads are slow where many run on two cores
                "credentials": {"name": f"{SOURCE}-credentials", "namespace": namespace},
                **spec,
            },
        },
    ]


def server_import(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """Return the import of a server under the server's name."""
    made = vm_import(namespace, name, name, source=SOURCE, **{"networkMapping": [], **spec})
    made["spec"]["sourceCluster"]["kind"] = "OpenstackSource"
    return made


@dataclass(frozen=True, slots=True)
class Disks:
    """The disks of a server: the first boots and says so, the others hold noise at odd places."""

    root: Path
    data: tuple[Path, ...]

    @classmethod
    def make(cls, directory: Path, data: int, seed: int) -> Self:
        """Write the files: a few MiB each, sparse."""
        noise = random.Random(seed)  # noqa: S311  # the same at every run
        files = [directory / f"disk-{seed}-{number}.img" for number in range(1 + data)]
        for path in files:
            with path.open("wb") as file:
                for _ in range(4):
                    file.seek(noise.randrange(MIB, 6 * MIB) // 512 * 512)
                    file.write(noise.randbytes(100_000))
                file.truncate(7 * MIB)
        with files[0].open("r+b") as file:
            file.write(boot_sector("VMIMPORT-GUEST OK"))
        return cls(files[0], tuple(files[1:]))

    def digests(self, *, root_is_volume: bool) -> list[str]:
        """Return what the imported images must be; volumes are whole GiB."""
        digests = []
        for number, path in enumerate((self.root, *self.data)):
            if number or root_is_volume:
                with path.open("r+b") as file:
                    file.truncate(GIB)
            digests.append(sparse_sha256(path))
        return digests


def imported(scene: Scene, namespace: str, status: dict[str, Any]) -> list[str]:
    """Return the digests of the images that Harvester has fetched."""
    entries = status["diskImportStatus"]
    return [sparse_sha256(scene.harvester.image_path(namespace, e["VirtualMachineImage"])) for e in entries]
