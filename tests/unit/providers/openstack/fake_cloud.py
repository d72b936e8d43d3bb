"""A cloud in memory with the manners of Cinder on Ceph, Glance and Nova, as far as an export meets them.

Answers as `providers.openstack.session.Session` does. Nothing becomes ready before `tick`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from providers.errors import ProviderError, Unreachable
from providers.openstack.catalogue import Service
from providers.openstack.faults import NotThere, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = "p1"


@dataclass
class FakeCloud:
    """The objects of one project, by kind and id.

    Attributes:
        refuse: Asked before every request that changes something; what it returns is raised instead.
        lose: Asked after one; the answer is lost when it says so.
        fails: Names of things that come to an error instead of an end: `snapshot`, `volume`, `upload`.
    """

    refuse: Callable[[str], ProviderError | None] = lambda _: None
    lose: Callable[[], bool] = lambda: False
    fails: set[str] = field(default_factory=set)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=itertools.count)

    def counts(self) -> tuple[int, int, int]:
        return len(self.snapshots), len(self.volumes), len(self.images)

    def tick(self) -> None:
        """Let everything that is under way come one step further."""
        for snapshot in list(self.snapshots.values()):
            if snapshot["status"] == "creating":
                snapshot["status"] = self._end("snapshot", "available", "error")
            elif snapshot["status"] == "deleting":
                busy = any(volume["snapshot_id"] == snapshot["id"] for volume in self.volumes.values())
                if busy:
                    snapshot["status"] = "available"  # as Ceph's driver does: it was accepted, and forgotten
                else:
                    del self.snapshots[snapshot["id"]]
        for volume in list(self.volumes.values()):
            self._tick_volume(volume)
        for image in list(self.images.values()):
            if image["status"] == "saving" and image["volume"] is None:
                image["status"] = "active"

    def _tick_volume(self, volume: dict[str, Any]) -> None:
        if volume["status"] == "creating":
            volume["status"] = self._end("volume", "available", "error")
        elif volume["status"] == "deleting":
            del self.volumes[volume["id"]]
        elif volume["status"] == "uploading":
            volume["status"] = "available"
            image = next((i for i in self.images.values() if i["volume"] == volume["id"]), None)
            if image is not None and self._end("upload", "active", "failed") == "failed":
                del self.images[image["id"]]
            elif image is not None:
                image["status"] = "active"

    def _end(self, what: str, good: str, bad: str) -> str:
        if what in self.fails:
            self.fails.discard(what)
            return bad
        return good

    # --- what a session offers

    def access(self) -> Any:
        return SimpleNamespace(project_id=PROJECT)

    def get(self, _service: Service, path: str, **_params: str) -> Any:
        assert path == "/messages"
        return {"messages": [{"user_message": "upload volume to image failed: quota"}]}

    def pages(self, _service: Service, path: str, _key: str, **params: str) -> Iterator[dict[str, Any]]:
        kinds = {"/images": self.images, "/volumes/detail": self.volumes, "/snapshots/detail": self.snapshots}
        found = [dict(item) for item in kinds[path].values() if item["name"] == params["name"]]
        assert path != "/images" or params["owner"] == PROJECT
        return iter(found)

    def post(self, _service: Service, path: str, body: dict[str, Any]) -> Any:
        self._change(path, lambda: self._post(path, body))

    def delete(self, _service: Service, path: str) -> None:
        self._change(path, lambda: self._delete(path))

    def _change(self, path: str, act: Callable[[], None]) -> None:
        refusal = self.refuse(path)
        if refusal is not None:
            raise refusal
        act()
        if self.lose():
            raise Unreachable("the connection broke")

    def _post(self, path: str, body: dict[str, Any]) -> None:
        identifier = f"id-{next(self.ids)}"
        ((action, details),) = body.items()
        if action == "snapshot":
            assert details["force"]
            self.snapshots[identifier] = {**details, "id": identifier, "size": 1, "status": "creating"}
        elif action == "volume":
            assert self.snapshots[details["snapshot_id"]]["status"] == "available"
            self.volumes[identifier] = {**details, "id": identifier, "status": "creating"}
        elif action == "os-volume_upload_image":
            volume = self.volumes[path.split("/")[2]]
            if volume["status"] != "available":
                raise Refused("the volume is not available")
            volume["status"] = "uploading"
            self._add_image(identifier, details["image_name"], volume["id"])
        else:
            assert action == "createImage"
            self._add_image(identifier, details["name"], None)

    def _add_image(self, identifier: str, name: str, volume: str | None) -> None:
        self.images[identifier] = {"id": identifier, "name": name, "status": "saving", "volume": volume}

    def _delete(self, path: str) -> None:
        _, kind, identifier = path.split("/")
        items: dict[str, dict[str, Any]] = getattr(self, kind)
        if identifier not in items:
            raise NotThere(path)
        if kind == "images":
            del items[identifier]
            return
        if items[identifier]["status"] not in ("available", "error"):
            raise Refused(f"{path} is {items[identifier]['status']}")
        items[identifier]["status"] = "deleting"
