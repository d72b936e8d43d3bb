"""The copies that an export makes of a disk: looking for them, making them, removing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from providers.errors import ExportFailed
from providers.openstack.catalogue import Service
from providers.openstack.faults import NotThere, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.openstack.facts import JSON
    from providers.openstack.names import Mark
    from providers.openstack.session import Session


class Copies:
    """The snapshots, volumes and images of one export in the source's project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def image(self, mark: Mark) -> JSON | None:
        """Return the disk's image."""
        return next(self.images(mark), None)

    def volume(self, mark: Mark) -> JSON | None:
        """Return the disk's temporary volume."""
        return next(self.volumes(mark), None)

    def snapshot(self, mark: Mark) -> JSON | None:
        """Return the disk's snapshot."""
        return next(self.snapshots(mark), None)

    def images(self, mark: Mark) -> Iterator[JSON]:
        """Yield the images of the disk, the oldest first; one is what there should be.

        An image that Cinder uploads carries no marks of ours, for it takes none; its name is unique enough.
        Images that others share with the project are not looked at: their bytes would be somebody else's.
        """
        owner = str(self._session.access().project_id)
        order = {"sort_key": "created_at", "sort_dir": "asc"}
        found = self._session.pages(Service.IMAGE, "/images", "images", name=mark.name, owner=owner, **order)
        return (image for image in found if image.get("name") == mark.name)

    def volumes(self, mark: Mark) -> Iterator[JSON]:
        """Yield the temporary volumes of the disk."""
        return self._marked("/volumes/detail", "volumes", mark)

    def snapshots(self, mark: Mark) -> Iterator[JSON]:
        """Yield the snapshots of the disk."""
        return self._marked("/snapshots/detail", "snapshots", mark)

    def make_snapshot(self, mark: Mark, volume_id: str) -> None:
        """Make a snapshot of a volume that is attached, too."""
        self._session.post(
            Service.VOLUME,
            "/snapshots",
            {
                "snapshot": {
                    "volume_id": volume_id,
                    "name": mark.name,
                    "description": "Made by an import into Harvester, which removes it",
                    "metadata": mark.metadata,
                    "force": True,  # the volume is attached; its server is off
                }
            },
        )

    def make_volume(self, mark: Mark, snapshot: JSON) -> None:
        """Make a volume of a snapshot."""
        self._session.post(
            Service.VOLUME,
            "/volumes",
            {
                "volume": {
                    "snapshot_id": snapshot["id"],
                    "size": snapshot["size"],
                    "name": mark.name,
                    "description": "Made by an import into Harvester, which removes it",
                    "metadata": mark.metadata,
                }
            },
        )

    def upload(self, mark: Mark, volume: JSON) -> None:
        """Let Cinder upload the temporary volume as a raw image, which can be written as it comes."""
        self._session.post(
            Service.VOLUME,
            f"/volumes/{volume['id']}/action",
            {
                "os-volume_upload_image": {
                    "image_name": mark.name,
                    "disk_format": "raw",
                    "container_format": "bare",
                    "force": False,
                }
            },
        )

    def make_server_image(self, mark: Mark, server_id: str) -> None:
        """Let Nova make an image of the root disk of a server that was booted from an image."""
        self._session.post(
            Service.COMPUTE,
            f"/servers/{server_id}/action",
            {"createImage": {"name": mark.name, "metadata": mark.metadata}},
        )

    def delete_image(self, image: JSON) -> None:
        """Delete an image; gone is success."""
        self._delete(Service.IMAGE, f"/images/{image['id']}")

    def delete_volume(self, volume: JSON) -> None:
        """Ask for the deletion of a volume; gone is success."""
        self._delete(Service.VOLUME, f"/volumes/{volume['id']}")

    def delete_snapshot(self, snapshot: JSON) -> None:
        """Ask for the deletion of a snapshot; gone is success."""
        self._delete(Service.VOLUME, f"/snapshots/{snapshot['id']}")

    def failure(self, what: str, resource: JSON) -> ExportFailed:
        """Return the error for a resource in an error state, with what Cinder tells its users of it.

        Cinder's messages (from microversion 3.3) say `No valid backend was found`, `Image exceeds quota`.
        """
        words: list[str] = []
        try:
            messages = self._session.get(Service.VOLUME, "/messages", resource_uuid=str(resource["id"]))[
                "messages"
            ]
            words = [str(message["user_message"]) for message in messages if message.get("user_message")]
        except (NotThere, Refused, KeyError):
            pass
        told = f": {words[0]}" if words else ""
        return ExportFailed(f"{what} is in status {resource.get('status')!r}{told}")

    def _marked(self, path: str, key: str, mark: Mark) -> Iterator[JSON]:
        for found in self._session.pages(Service.VOLUME, path, key, name=mark.name):
            metadata: Any = found.get("metadata") or {}
            if found.get("name") == mark.name and mark.metadata.items() <= dict(metadata).items():
                yield found

    def _delete(self, service: Service, path: str) -> None:
        try:
            self._session.delete(service, path)
        except NotThere:
            return
