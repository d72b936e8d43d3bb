"""Preparing a disk for reading, one step a call, and removing what that has made.

Where a disk stands is what exists at the source under its `Mark`; this process remembers only since when it
waits and what it has started, for the sake of messages and limits. So any process goes on from anywhere.

A volume: snapshot -> volume of it -> image of that. The root disk of a server that was booted from an image:
Nova's image of the server. Snapshots are taken of attached volumes, hence `force`; the server is off.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.errors import DiscardNotDone, DiskNotReady, ExportFailed, ExportTimedOut
from providers.openstack.copies import Copies
from providers.openstack.disks import ROOT_HANDLE
from providers.openstack.names import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from providers.model import SourceDisk, SourceVM
    from providers.openstack.facts import JSON
    from providers.openstack.session import Session

_FIRST_LOOK, _LAST_LOOK = 1.0, 10.0  # seconds between two looks: a quarter of the time that it takes already
_REMOVAL_LOOK = 2.0
_UPLOADING = frozenset({"queued", "saving", "uploading", "importing"})
_DELETABLE = frozenset({"available", "error", "error_deleting"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upload may take: `spec.uploadImageRetryCount` looks, `uploadImageRetryDelay` apart.

    Attributes:
        delay: Seconds; also the longest time between two looks.
    """

    count: int = 30
    delay: float = 10.0

    @property
    def seconds(self) -> float:
        """The whole time."""
        return self.count * self.delay


class Exports:
    """Prepares and removes the copies that exports make. Safe for many threads, one at a time per disk."""

    def __init__(
        self, session: Session, patience: Patience, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._copies = Copies(session)
        self._patience = patience
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since: dict[tuple[Mark, str], float] = {}
        self._uploads: set[Mark] = set()

    def image(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> JSON:
        """Return the disk's image when it is complete, else do what brings it nearer.

        Raises:
            DiskNotReady: says what the source does.
            ExportFailed: a copy failed; it is removed, so that the next call begins again.
            ExportTimedOut: the upload takes longer than the source object allows.
            QuotaExceeded: the source has no room for a copy.
        """
        mark = Mark(export_id, disk.key)
        image = self._copies.image(mark)
        if image is not None:
            return self._judge_image(mark, disk, image)
        if mark in self._uploads:  # Nova and Cinder delete the image of an upload that failed
            raise self._vanished(mark, disk)
        if disk.handle.startswith(ROOT_HANDLE):
            self._copies.make_server_image(mark, vm.id)
            raise self._uploading(mark, f"server {vm.name!r} is copied into an image")
        volume = self._copies.volume(mark)
        if volume is not None:
            raise self._advance_volume(mark, disk, volume)
        snapshot = self._copies.snapshot(mark)
        if snapshot is not None:
            raise self._advance_snapshot(mark, disk, snapshot)
        self._copies.make_snapshot(mark, disk.handle)
        raise self._wait(mark, "snapshot", f"a snapshot of volume {disk.name!r} is made")

    def discard(self, vm: SourceVM, export_id: str) -> None:
        """Remove every copy of every disk: images first, then volumes, then the snapshots they were made of.

        With Ceph, a snapshot that a volume was made of is not deleted before that volume is gone: Cinder
        accepts the request and silently drops it.

        Raises:
            DiscardNotDone: the source is at it; names what is left.
        """
        left = [what for disk in vm.disks for what in self._discard(Mark(export_id, disk.key), disk)]
        if left:
            raise DiscardNotDone(
                f"the source removes the copies that were exported: {'; '.join(left)}", _REMOVAL_LOOK
            )

    def _discard(self, mark: Mark, disk: SourceDisk) -> Iterator[str]:
        self._forget(mark)
        for image in self._copies.images(mark):
            self._copies.delete_image(image)
        if disk.handle.startswith(ROOT_HANDLE):
            return
        volumes = list(self._copies.volumes(mark))
        for volume in volumes:
            # Cinder deletes none that is being made or uploaded; when its image is gone, the upload ends.
            if volume.get("status") in _DELETABLE:
                self._copies.delete_volume(volume)
            yield f"volume {volume['id']} is {volume.get('status')}"
        for snapshot in self._copies.snapshots(mark):
            if not volumes and snapshot.get("status") in _DELETABLE:
                self._copies.delete_snapshot(snapshot)
            yield f"snapshot {snapshot['id']} is {snapshot.get('status')}"

    def _judge_image(self, mark: Mark, disk: SourceDisk, image: JSON) -> JSON:
        status = str(image.get("status"))
        if status == "active":
            with self._lock:
                self._uploads.discard(mark)
            return image
        if status in _UPLOADING:
            waits = self._uploading(mark, f"{_what(disk)} is uploaded as an image")
            if self._waited(mark, "image") > self._patience.seconds:
                raise ExportTimedOut(
                    f"{waits} for more than {self._patience.seconds:.0f} s; raise the source's "
                    "uploadImageRetryCount or uploadImageRetryDelay"
                )
            raise waits
        self._forget(mark)
        self._copies.delete_image(image)
        raise ExportFailed(f"the image of {_what(disk)} is in status {status!r}")

    def _advance_volume(self, mark: Mark, disk: SourceDisk, volume: JSON) -> DiskNotReady:
        status = str(volume.get("status"))
        if status == "available":
            self._copies.upload(mark, volume)
            return self._uploading(mark, f"{_what(disk)} is uploaded as an image")
        if status.startswith("error"):
            failure = self._copies.failure(f"the copy of {_what(disk)}", volume)
            self._forget(mark)
            self._copies.delete_volume(volume)
            raise failure
        if status == "deleting":
            return self._wait(mark, "removal", f"an earlier copy of {_what(disk)} is removed")
        return self._wait(mark, "volume", f"a copy of {_what(disk)} is made")

    def _advance_snapshot(self, mark: Mark, disk: SourceDisk, snapshot: JSON) -> DiskNotReady:
        status = str(snapshot.get("status"))
        if status == "available":
            self._copies.make_volume(mark, snapshot)
            return self._wait(mark, "volume", f"a copy of {_what(disk)} is made")
        if status.startswith("error"):
            failure = self._copies.failure(f"the snapshot of {_what(disk)}", snapshot)
            self._forget(mark)
            self._copies.delete_snapshot(snapshot)
            raise failure
        if status == "deleting":
            return self._wait(mark, "removal", f"an earlier snapshot of {_what(disk)} is removed")
        return self._wait(mark, "snapshot", f"a snapshot of {_what(disk)} is made")

    def _vanished(self, mark: Mark, disk: SourceDisk) -> ExportFailed:
        self._forget(mark)
        volume = None if disk.handle.startswith(ROOT_HANDLE) else self._copies.volume(mark)
        if volume is None:
            return ExportFailed(f"the image of {_what(disk)} is gone: the source gave up making it")
        return self._copies.failure(f"the upload of {_what(disk)} failed: its copy", volume)

    def _uploading(self, mark: Mark, what: str) -> DiskNotReady:
        with self._lock:
            self._uploads.add(mark)
        return self._wait(mark, "image", what, self._patience.delay)

    def _wait(self, mark: Mark, stage: str, what: str, longest: float = _LAST_LOOK) -> DiskNotReady:
        """Return how to wait; the longer it takes, the longer until the next look."""
        pause = max(_FIRST_LOOK, min(longest, self._waited(mark, stage) / 4))
        return DiskNotReady(what, pause)

    def _waited(self, mark: Mark, stage: str) -> float:
        """Return for how long this process has seen the disk in this stage, in seconds."""
        now = self._monotonic()
        with self._lock:
            return now - self._since.setdefault((mark, stage), now)

    def _forget(self, mark: Mark) -> None:
        with self._lock:
            self._uploads.discard(mark)
            self._since = {key: since for key, since in self._since.items() if key[0] != mark}


def _what(disk: SourceDisk) -> str:
    kind = "root disk" if disk.handle.startswith(ROOT_HANDLE) else "volume"
    return f"{kind} {disk.name!r}"
