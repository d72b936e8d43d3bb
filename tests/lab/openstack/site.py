"""Where one cloud keeps its files, which ports it listens on, and how its parts are addressed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab.ports import free_ports

ADDRESS = "127.0.0.1"
PASSWORD = "lab-openstack"  # noqa: S105  # of the services, and of a database that only this machine reaches
ADMIN = "admin"
REGION = "RegionOne"
TLS_REGION = "RegionTLS"  # the same cloud behind https
HOST = "compute1"  # the name of the one hypervisor

Service = Literal["identity", "image", "volumev3", "compute", "network", "placement"]
SERVICES: dict[Service, str] = {  # type in the catalogue: path of its endpoint
    "identity": "/v3",
    "image": "",
    "volumev3": "/v3/%(project_id)s",
    "compute": "/v2.1",
    "network": "",
    "placement": "",
}
PUBLIC: tuple[Service, ...] = ("identity", "image", "volumev3", "compute", "network")
_PORTS = ("database", "rabbit", "rabbit-distribution", "epmd", *SERVICES)


@dataclass(frozen=True, slots=True)
class Site:
    """One cloud's place on this machine.

    Attributes:
        directory: Everything that the cloud writes is below it.
        ports: Port of every server, by service type; also `database`, `rabbit` and what RabbitMQ needs.
    """

    directory: Path
    ports: dict[str, int]

    @classmethod
    def at(cls, directory: Path) -> Site:
        """Make the directories of a cloud and choose its ports."""
        site = cls(directory, dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True)))
        for path in (site.etc, site.logs, site.servers, site.volumes, site.lock, site.temporary):
            path.mkdir(parents=True, exist_ok=True)
        for name in ("glance/images", "glance/staging", "cinder/conversion", "neutron", "rabbit"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        return site

    @property
    def etc(self) -> Path:
        """Configuration files."""
        return self.directory / "etc"

    @property
    def logs(self) -> Path:
        """What the services say."""
        return self.directory / "log"

    @property
    def nova(self) -> Path:
        """State of the hypervisor."""
        return self.directory / "nova"

    @property
    def servers(self) -> Path:
        """Disks of servers that were booted from an image: `<uuid>.img`, raw."""
        return self.nova / "servers"

    @property
    def volumes(self) -> Path:
        """What Cinder stores: `volume-<uuid>` and `snapshot-<uuid>`, raw and sparse."""
        return self.directory / "volumes"

    @property
    def lock(self) -> Path:
        """Lock files of the services."""
        return self.directory / "lock"

    @property
    def temporary(self) -> Path:
        """For temporary files; two MariaDBs that share a directory for them remove each other's."""
        return self.directory / "tmp"

    @property
    def database_files(self) -> Path:
        """The database's own directory."""
        return self.directory / "mysql"

    @property
    def database_socket(self) -> Path:
        """Where the database's administrator comes in."""
        return self.directory / "mysql.sock"

    @property
    def keystone_keys(self) -> Path:
        """Keys of Keystone's tokens and credentials; they belong to the database's content."""
        return self.directory / "keystone"

    def url(self, service: Service) -> str:
        """Return a service's own endpoint, as the other services use it."""
        return f"http://{ADDRESS}:{self.ports[service]}{SERVICES[service]}"

    def database_url(self, name: str) -> str:
        """Return a database's URL for SQLAlchemy."""
        return f"mysql+pymysql://lab:{PASSWORD}@{ADDRESS}:{self.ports['database']}/{name}?charset=utf8"

    @property
    def message_url(self) -> str:
        """The message queue's URL for oslo.messaging."""
        return f"rabbit://guest:guest@{ADDRESS}:{self.ports['rabbit']}/"
