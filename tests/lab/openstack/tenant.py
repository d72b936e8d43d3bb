"""One project of the cloud, with its user: makes servers of known bytes, and tells what there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.errors import LabError
from tests.lab.openstack.api import DOMAIN, Api, ApiError
from tests.lab.openstack.site import Service

if TYPE_CHECKING:
    from tests.lab.openstack.cloud import OpenStackCloud

GIB = 1 << 30
WAIT_SECONDS = 300
POLL_SECONDS = 0.2
DEFAULT_NETWORK = "lan"
DEFAULT_CIDR = "10.10.0.0/24"
BROKEN = ("error", "killed", "deactivated")


@dataclass(frozen=True, slots=True)
class Server:
    """A server as it was made.

    Attributes:
        volumes: Ids of its volumes; the first is the one that it boots from, if it boots from a volume.
        image: Id of the image that it boots from, if it does.
    """

    id: str
    name: str
    volumes: tuple[str, ...]
    image: str | None = None


class Tenant:
    """A project, its user, and what the user makes there.

    Attributes:
        project: The project's name; `project_id` its id.
        username: Has the roles `member` and `reader` in the project; the domain is `Default`.
        application_credential_id: With its secret, may do what the user may.
        api: The user's access, with the password.
    """

    def __init__(self, cloud: OpenStackCloud, name: str) -> None:
        """Make the project and everything of it; see `OpenStackCloud.new_tenant`."""
        self._auth_url = cloud.auth_url
        self.project = self.username = name
        self.domain = DOMAIN
        self.password = f"password-of-{name}"
        admin = cloud.admin
        project = admin.post("identity", "/projects", {"project": {"name": name, "domain_id": "default"}})
        user = {"name": name, "password": self.password, "domain_id": "default"}
        self.project_id = str(project["project"]["id"])
        self.user_id = str(admin.post("identity", "/users", {"user": user})["user"]["id"])
        for role in admin.get("identity", "/roles")["roles"]:
            if role["name"] in ("member", "reader"):
                path = f"/projects/{self.project_id}/users/{self.user_id}/roles/{role['id']}"
                admin.call("PUT", "identity", path)
        self.api = Api(cloud.auth_url, username=name, password=self.password, project=name)
        path, wanted = f"/users/{self.user_id}/application_credentials", {"name": "lab"}
        made = self.api.post("identity", path, {"application_credential": wanted})["application_credential"]
        self.application_credential_id = str(made["id"])
        self.application_credential_secret = str(made["secret"])
        self.add_network(DEFAULT_NETWORK, DEFAULT_CIDR)

    def is_welcome(self) -> bool:
        """Tell whether a new token of the user is good."""
        with closing(
            Api(self._auth_url, username=self.username, password=self.password, project=self.project)
        ) as api:
            try:
                api.get("compute", "/servers")
            except ApiError:
                return False
        return True

    def close(self) -> None:
        """Close the tenant's connection. What it made stays, and goes with the cloud."""
        self.api.close()

    # --- what there is

    def inventory(self) -> dict[str, dict[str, str]]:
        """Return everything in the project, to be compared with what there was before: kind -> id -> name."""
        listings: dict[str, tuple[Service, str]] = {
            "servers": ("compute", "/servers"),
            "images": ("image", f"/v2/images?owner={self.project_id}&visibility=private"),
            "volumes": ("volumev3", "/volumes"),
            "snapshots": ("volumev3", "/snapshots"),
            "backups": ("volumev3", "/backups"),
            "ports": ("network", f"/v2.0/ports?project_id={self.project_id}"),
        }
        return {
            kind: {item["id"]: item["name"] for item in self.api.get(*where)[kind]}
            for kind, where in listings.items()
        }

    def server(self, server: str) -> dict[str, Any]:
        """Return what Nova says of a server."""
        return dict(self.api.get("compute", f"/servers/{server}")["server"])

    def volume(self, volume: str) -> dict[str, Any]:
        """Return what Cinder says of a volume."""
        return dict(self.api.get("volumev3", f"/volumes/{volume}")["volume"])

    def image(self, image: str) -> dict[str, Any]:
        """Return what Glance says of an image."""
        return dict(self.api.get("image", f"/v2/images/{image}"))

    # --- parts

    def add_network(self, name: str, *ranges: str) -> str:
        """Make a network with a subnet for each range of addresses (either family) and return its id."""
        network = str(
            self.api.post("network", "/v2.0/networks", {"network": {"name": name}})["network"]["id"]
        )
        for cidr in ranges:
            subnet = {"network_id": network, "cidr": cidr, "ip_version": 6 if ":" in cidr else 4}
            self.api.post("network", "/v2.0/subnets", {"subnet": subnet})
        return network

    def _network(self, name: str) -> str:
        (found,) = self.api.get("network", f"/v2.0/networks?name={name}")["networks"]
        return str(found["id"])

    def add_port(self, network: str = DEFAULT_NETWORK, **attributes: Any) -> str:
        """Make a port in a network, given by name, and return its id. `attributes` are Neutron's."""
        port = {"network_id": self._network(network), **attributes}
        return str(self.api.post("network", "/v2.0/ports", {"port": port})["port"]["id"])

    def add_image(
        self,
        name: str,
        content: Path,
        *,
        disk_format: str = "raw",
        properties: Mapping[str, str] | None = None,
    ) -> str:
        """Upload a file as an image and return its id; `properties` are the image's own, as `hw_disk_bus`."""
        record = {"name": name, "disk_format": disk_format, "container_format": "bare"}
        made = self.api.post("image", "/v2/images", {**record, "visibility": "private", **(properties or {})})
        self.api.upload(f"/v2/images/{made['id']}/file", content)
        return str(made["id"])

    def add_volumes(
        self,
        contents: Sequence[Path],
        *,
        names: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Make volumes, each of the whole GiB that its file needs, and return their ids.

        Args:
            contents: What the volumes begin with; the rest of a volume is zeros.
            names: Default `volume-0`, ...
            properties: Of the image that the first volume is made from and that does not stay: Cinder keeps
                them as the volume's image metadata.
        """
        names = names or [f"volume-{number}" for number in range(len(contents))]
        images: list[str] = []
        made: list[str] = []
        for number, (content, name) in enumerate(zip(contents, names, strict=True)):
            images.append(self.add_image(name, content, properties=None if number else properties))
            size = max(1, -(-content.stat().st_size // GIB))
            wanted = {"name": name, "size": size, "imageRef": images[-1]}
            made.append(str(self.api.post("volumev3", "/volumes", {"volume": wanted})["volume"]["id"]))
        for volume in made:
            self.wait_for_volume(volume, "available")
        for image in images:
            self.api.delete("image", f"/v2/images/{image}")
        return tuple(made)

    # --- servers

    def boot_from_volume(
        self,
        name: str,
        root: Path,
        *,
        data: Sequence[Path] = (),
        properties: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Server:
        """Start a server whose disks are all volumes.

        Args:
            name: Of the server; its volumes are named after it.
            root: Bytes of the disk that it boots from.
            data: Bytes of the others.
            properties: Of the image that the first one was made from.
            options: See `_boot`.
        """
        names = [f"{name}-{number}" for number in range(1 + len(data))]
        volumes = self.add_volumes([root, *data], names=names, properties=properties)
        return self._boot(name, [_volume(volume, i) for i, volume in enumerate(volumes)], volumes, **options)

    def boot_from_image(
        self,
        name: str,
        root: Path,
        *,
        data: Sequence[Path] = (),
        disk_format: str = "raw",
        properties: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Server:
        """Start a server whose first disk is the hypervisor's own copy of an image, which stays.

        Args:
            name: Of the server; its image and volumes are named after it.
            root: The image file.
            data: Bytes of further disks, which are volumes.
            disk_format: Of the image file.
            properties: Of the image.
            options: See `_boot`. The flavor `scratch` adds an ephemeral and a swap disk.
        """
        image = self.add_image(name, root, disk_format=disk_format, properties=properties)
        volumes = self.add_volumes(data, names=[f"{name}-{number + 1}" for number in range(len(data))])
        disks = [{"uuid": image, "source_type": "image", "destination_type": "local", "boot_index": 0}]
        disks += [_volume(volume, i + 1) for i, volume in enumerate(volumes)]
        return self._boot(name, disks, volumes, image=image, **options)

    def _boot(
        self,
        name: str,
        disks: Sequence[Mapping[str, Any]],
        volumes: Sequence[str],
        *,
        image: str | None = None,
        flavor: str = "tiny",
        networks: Sequence[str] = (DEFAULT_NETWORK,),
        ports: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Server:
        """Start a server and wait until it is ACTIVE.

        Args:
            name: Of the server.
            disks: Nova's `block_device_mapping_v2`.
            volumes: Ids, for the answer.
            image: Id of the image that it boots from.
            flavor: One of those that `OpenStackCloud` makes, or another.
            networks: Names; a NIC for each.
            ports: Ids from `add_port`; further NICs.
            metadata: The server's.
        """
        flavors = {item["name"]: item["id"] for item in self.api.get("compute", "/flavors")["flavors"]}
        nics = [{"uuid": self._network(item)} for item in networks] + [{"port": port} for port in ports]
        server: dict[str, Any] = {
            "name": name,
            "flavorRef": flavors[flavor],
            "networks": nics,
            "block_device_mapping_v2": list(disks),
            "metadata": dict(metadata or {}),
        }
        if image:
            server["imageRef"] = image
        made = str(self.api.post("compute", "/servers", {"server": server})["server"]["id"])
        self.wait_for_server(made, "ACTIVE")
        return Server(made, name, tuple(volumes), image)

    def act(self, server: str, action: str, **details: Any) -> Any:
        """Let Nova do something with a server (`os-stop`, `createImage`, ...) and return its answer."""
        return self.api.post("compute", f"/servers/{server}/action", {action: details or None})

    def wait_for_server(self, server: str, status: str) -> None:
        """Return when a server has a status and Nova does nothing with it.

        Raises:
            LabError: it came to ERROR instead, with Nova's own words; or the time is over.
        """

        def state() -> tuple[str, object]:
            found = self.server(server)
            task = found["OS-EXT-STS:task_state"]
            return found["status"] + (f" ({task})" if task else ""), found.get("fault")

        _wait(state, status, ("ERROR",), f"server {server}")

    def wait_for_volume(self, volume: str, status: str = "available") -> None:
        """Return when a volume has a status.

        Raises:
            LabError: it came to an error instead, or the time is over.
        """
        _wait(lambda: (self.volume(volume)["status"], ""), status, ("error",), f"volume {volume}")

    def wait_for_snapshot(self, snapshot: str, status: str = "available") -> None:
        """Return when a volume's snapshot has a status.

        Raises:
            LabError: it came to an error instead, or the time is over.
        """

        def state() -> tuple[str, object]:
            return self.api.get("volumev3", f"/snapshots/{snapshot}")["snapshot"]["status"], ""

        _wait(state, status, ("error",), f"snapshot {snapshot}")

    def wait_for_image(self, image: str, status: str = "active") -> None:
        """Return when an image has a status.

        Raises:
            LabError: it came to an error instead, or the time is over.
        """
        _wait(lambda: (self.image(image)["status"], ""), status, BROKEN, f"image {image}")

    def wait_until_gone(self, service: Service, path: str) -> None:
        """Return when there is nothing at a path any more.

        Raises:
            LabError: the time is over.
        """
        _wait(lambda: (str(self.api.exists(service, path)), ""), "False", (), path)


def _volume(volume: str, number: int) -> dict[str, Any]:
    return {
        "uuid": volume,
        "source_type": "volume",
        "destination_type": "volume",
        "boot_index": 0 if number == 0 else -1,
        "delete_on_termination": False,
    }


def _wait(state: Callable[[], tuple[str, object]], wanted: str, broken: Sequence[str], what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while (now := state())[0] != wanted:
        if now[0] in broken or time.monotonic() > end:
            raise LabError(f"{what} is {now[0]}, not {wanted}: {now[1]}")
        pause.wait(POLL_SECONDS)
