"""What the services tell of one server, as decoded JSON: the input of the pure functions beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server and what belongs to it.

    Attributes:
        server: Nova's `server`, as `GET /servers/{id}` gives it with microversion 2.61 or whatever is newest
            below.
        flavor: The flavor: embedded in `server` from microversion 2.47, else `GET /flavors/{id}`; empty when
            it was deleted and Nova is too old to embed it.
        image: Glance's image that the server was booted from; empty when from a volume, or when it is gone.
        attachments: Nova's `volumeAttachments`.
        volumes: Cinder's `volume`s, by UUID; an attachment whose volume is not to be seen has none.
        ports: Neutron's `port`s of the server.
        networks: Names of networks by UUID: those of the ports, and all that the project can see.
        quota: Cinder's `quota_set` with usage; empty when it is not told.
        image_quota: Glance's `usage`; empty when it is not told or nothing is limited.
    """

    server: JSON
    flavor: JSON = field(default_factory=dict)
    image: JSON = field(default_factory=dict)
    attachments: tuple[JSON, ...] = ()
    volumes: Mapping[str, JSON] = field(default_factory=dict)
    ports: tuple[JSON, ...] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    quota: JSON = field(default_factory=dict)
    image_quota: JSON = field(default_factory=dict)

    @property
    def booted_from_volume(self) -> bool:
        """Nova leaves `image` empty then; it says `{"id": ...}` otherwise."""
        return not self.server.get("image")

    @property
    def root_volume(self) -> JSON:
        """The volume the server boots from; empty when it boots from an image."""
        if not self.booted_from_volume:
            return {}
        ordered = by_device(self.attachments)
        named = self.server.get("OS-EXT-SRV-ATTR:root_device_name")
        candidates = [a for a in ordered if named and a.get("device") == named]
        candidates += [a for a in ordered if _is_bootable(self.volumes.get(volume_id(a), {}))]
        candidates += ordered
        return self.volumes.get(volume_id(candidates[0]), {}) if candidates else {}

    @property
    def hints(self) -> JSON:
        """Properties of the image that the root disk was made from: `hw_*`, `os_*`.

        A volume keeps those of its image in `volume_image_metadata`; an image has them at its top level.
        """
        if self.booted_from_volume:
            metadata = self.root_volume.get("volume_image_metadata")
            return metadata if isinstance(metadata, Mapping) else {}
        return self.image

    @property
    def extra_specs(self) -> JSON:
        """The flavor's extra specs (embedded from microversion 2.61)."""
        return self.flavor.get("extra_specs") or {}


def volume_id(attachment: JSON) -> str:
    """Return the volume of an attachment."""
    return str(attachment.get("volumeId") or attachment.get("id") or "")


def by_device(attachments: tuple[JSON, ...]) -> list[JSON]:
    """Sort attachments as the guest counts them: `/dev/vda`, ..., `/dev/vdz`, `/dev/vdaa`; nameless last."""

    def order(attachment: JSON) -> tuple[bool, int, str, str]:
        device = str(attachment.get("device") or "")
        return not device, len(device), device, volume_id(attachment)

    return sorted(attachments, key=order)


def _is_bootable(volume: JSON) -> bool:
    return str(volume.get("bootable")).lower() == "true"
