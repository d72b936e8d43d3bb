"""Finding a server, and collecting what the services tell of it. Reads only."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from providers.errors import PermissionDenied, SourceBusy, SourceVMNotFound, SourceVMNotUnique
from providers.openstack import state
from providers.openstack.catalogue import Service
from providers.openstack.facts import JSON, ServerFacts, volume_id
from providers.openstack.faults import NotThere, Refused

if TYPE_CHECKING:
    from providers.openstack.session import Session

_SIMILAR = 5  # names in a message


class Inventory:
    """The servers of the project that the credentials are for."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, name: str) -> str:
        """Return the UUID of the server that has this UUID or exactly this name.

        Raises:
            SourceVMNotFound: lists servers of similar names.
            SourceVMNotUnique: lists the candidates with id, time of creation and status.
        """
        if _is_uuid(name):
            with contextlib.suppress(NotThere):
                return str(self.server(name)["id"])
        # Nova's `name` is a regular expression, with a dialect that depends on its database; compare here.
        servers = list(self._session.pages(Service.COMPUTE, "/servers/detail", "servers", limit="500"))
        found = [server for server in servers if server.get("name") == name]
        if not found:
            raise SourceVMNotFound(f"the project has no server {name!r}; {_similar(name, servers)}")
        if len(found) > 1:
            listed = "; ".join(
                f"{server['id']} (created {server.get('created')}, {server.get('status')})"
                for server in sorted(found, key=lambda server: str(server.get("created")))
            )
            raise SourceVMNotUnique(f"{len(found)} servers are named {name!r}, write one's id: {listed}")
        return str(found[0]["id"])

    def server(self, identifier: str) -> JSON:
        """Return Nova's description of a server; `NotThere` when it is gone."""
        server: JSON = self._session.get(Service.COMPUTE, f"/servers/{identifier}")["server"]
        return server

    def facts(self, identifier: str) -> ServerFacts:
        """Collect everything.

        Raises:
            SourceBusy: a task is under way that changes what is told here.
        """
        server = self.server(identifier)
        busy = state.busy_with(server)
        if busy:
            raise SourceBusy(f"server {server.get('name')!r}: {busy}")
        attachments = tuple(
            self._session.get(Service.COMPUTE, f"/servers/{identifier}/os-volume_attachments")[
                "volumeAttachments"
            ]
        )
        project = str(server.get("tenant_id") or "")
        return ServerFacts(
            server=server,
            flavor=self._flavor(server),
            image=self._optional(Service.IMAGE, f"/images/{_id(server.get('image'))}")
            if server.get("image")
            else {},
            attachments=attachments,
            volumes={volume_id(entry): self._volume(volume_id(entry)) for entry in attachments},
            ports=tuple(self._session.pages(Service.NETWORK, "/ports", "ports", device_id=identifier)),
            networks=self._networks(),
            quota=self._optional(Service.VOLUME, f"/os-quota-sets/{project}", usage="True").get("quota_set")
            or {},
            image_quota=self._optional(Service.IMAGE, "/info/usage").get("usage") or {},
        )

    def _flavor(self, server: JSON) -> JSON:
        flavor: JSON = server.get("flavor") or {}
        if "vcpus" in flavor:
            return flavor
        return self._optional(Service.COMPUTE, f"/flavors/{_id(flavor)}").get("flavor") or {}

    def _volume(self, identifier: str) -> JSON:
        return self._optional(Service.VOLUME, f"/volumes/{identifier}").get("volume") or {}

    def _networks(self) -> dict[str, str]:
        networks = self._session.pages(Service.NETWORK, "/networks", "networks")
        return {str(network["id"]): str(network.get("name") or "") for network in networks}

    def _optional(self, service: Service, path: str, **params: str) -> JSON:
        """Return the answer; empty when the thing is gone, not to be seen, or not known to this version."""
        try:
            answer: JSON = self._session.get(service, path, **params)
        except (NotThere, PermissionDenied, Refused):
            return {}
        return answer


def _id(reference: Any) -> str:
    return str(reference.get("id") if isinstance(reference, dict) else reference)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _similar(name: str, servers: list[JSON]) -> str:
    names = sorted({str(server.get("name")) for server in servers})
    close = [known for known in names if name.lower() in known.lower() or known.lower() in name.lower()]
    listed = ", ".join(repr(known) for known in (close or names)[:_SIMILAR])
    return f"{'similar' if close else 'it has'}: {listed}" if listed else "it has none"
