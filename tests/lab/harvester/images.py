"""VirtualMachineImages: the states through which Harvester and its two storage backends take one.

Source: harvester v1.6 `pkg/controller/master/image`, `pkg/image/common/operator.go`,
`pkg/image/backingimage`, `pkg/image/cdi`. The kind has no status subresource: status is written with the
object.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab.crds import LONGHORN
from tests.lab.harvester.fetch import Faults, Fetcher, FetchError, Request
from tests.lab.kube_api import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from tests.lab.kube_api import KubeApi

COLLECTION = "/apis/harvesterhci.io/v1beta1/virtualmachineimages"
DISPLAY_NAME_LABEL = "harvesterhci.io/imageDisplayName"
GOLDEN_IMAGE_ANNOTATION = "harvesterhci.io/goldenImage"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
PROGRESS_INTERVAL_SECONDS = 0.3  # of one image; of many at once each tells less often, ten a second in all
PROGRESS_PER_SECOND = 10
DEFAULT_RETRY = 3
# Longhorn: copies of an image to other nodes, and volumes on it, want whole sectors.
# https://longhorn.io/kb/troubleshooting-backing-image-creation-is-stuck-or-has-failed/
SECTOR_BYTES = 512
ALMOST = 99  # what is shown until the image is ready


def image_path(namespace: str, name: str) -> str:
    """Return the API path of one image."""
    return f"/apis/harvesterhci.io/v1beta1/namespaces/{namespace}/virtualmachineimages/{name}"


def condition(obj: dict[str, Any], kind: str) -> str:
    """Return the status of a condition, "" when it is not there."""
    conditions = obj.get("status", {}).get("conditions", [])
    return next((str(item["status"]) for item in conditions if item["type"] == kind), "")


@dataclass
class _Task:
    """One image in the works."""

    fetcher: Fetcher
    storage_class: str | None
    thread: threading.Thread | None = None
    not_before: float = 0
    shown: int = -1
    shown_at: float = 0

    def join(self) -> None:
        """Wait for the end of its thread, if it has one."""
        if (thread := self.thread) is not None:
            thread.join()


class ImageController:
    """Takes images from submitted to imported, each in a thread of its own.

    Args:
        api: The administrator's access.
        directory: Where the images' bytes go, by UID.
        faults: What goes wrong.
        record: Told of every request made to fetch an image.
        fault: Told of every exception that nobody handles.
        retry_seconds: Between two attempts; ten in a real Harvester.
    """

    def __init__(
        self,
        api: KubeApi,
        directory: Path,
        *,
        faults: Faults,
        record: Callable[[Request], None],
        fault: Callable[[Exception], None],
        retry_seconds: float,
    ) -> None:
        self._api = api
        self._directory = directory
        self._faults = faults
        self._record = record
        self._fault = fault
        self._retry_seconds = retry_seconds
        self._tasks: dict[str, _Task] = {}

    def path(self, uid: str) -> Path:
        """Return where the bytes of an image are, once it is imported."""
        return self._directory / f"{uid}.img"

    def sync(self, image: dict[str, Any]) -> None:
        """Look at one image and do what is due."""
        metadata, uid = image["metadata"], image["metadata"]["uid"]
        if "deletionTimestamp" in metadata or image["spec"]["sourceType"] != "download":
            return
        if condition(image, "Imported") == "True":
            self._label(image)
            return
        task = self._tasks.get(uid)
        if task is not None and (task.thread is not None or time.monotonic() < task.not_before):
            return
        if condition(image, "RetryLimitExceeded") == "True":
            return
        fetcher = Fetcher(image["spec"]["url"], faults=self._faults, record=self._record)
        backing = image["spec"].get("backend", "backingimage") == "backingimage"
        task = _Task(fetcher, f"longhorn-{metadata['name']}" if backing else None)
        self._tasks[uid] = task
        work = self._import_backing_image if backing else self._import_cdi
        task.thread = threading.Thread(
            target=self._run, args=(work, image, task), name=f"image {uid}", daemon=True
        )
        task.thread.start()

    def forget_all_but(self, uids: Collection[str]) -> None:
        """Drop what belongs to images that were deleted: a download, the StorageClass, the bytes."""
        for uid in [uid for uid in self._tasks if uid not in uids]:
            task = self._tasks.pop(uid)
            task.fetcher.stop.set()
            task.join()
            if task.storage_class is not None:
                self._api.delete(f"{STORAGE_CLASSES}/{task.storage_class}")
            self.path(uid).unlink(missing_ok=True)

    def stop(self) -> None:
        """End all downloads; what is stored stays."""
        for task in self._tasks.values():
            task.fetcher.stop.set()
        for task in self._tasks.values():
            task.join()

    def _run(self, work: Callable[[dict[str, Any], _Task], None], image: dict[str, Any], task: _Task) -> None:
        try:
            if self._is_due(image):
                work(image, task)
        except Exception as exc:  # noqa: BLE001  # told to the test through `fault`
            self._fault(exc)
        finally:
            task.not_before = time.monotonic() + self._retry_seconds
            task.thread = None

    def _is_due(self, image: dict[str, Any]) -> bool:
        """Look at the image as it is now: what `sync` was given may be older than the end of its import."""
        now = self._api.find(image_path(image["metadata"]["namespace"], image["metadata"]["name"]))
        return (
            now is not None
            and now["metadata"]["uid"] == image["metadata"]["uid"]
            and condition(now, "Imported") != "True"
            and condition(now, "RetryLimitExceeded") != "True"
        )

    def _import_backing_image(self, image: dict[str, Any], task: _Task) -> None:
        """Longhorn's way: HEAD, a StorageClass for the image, one GET of everything."""
        uid = image["metadata"]["uid"]
        self._api.delete(f"{STORAGE_CLASSES}/{task.storage_class}")
        try:
            length = task.fetcher.length()
        except FetchError as exc:
            self._fail(image, "Initialized", str(exc))
            return
        parameters = {**image["spec"].get("storageClassParameters", {}), "backingImage": f"vmi-{uid}"}
        self._api.ensure(
            STORAGE_CLASSES,
            {
                "metadata": {"name": task.storage_class},
                "provisioner": LONGHORN,
                "reclaimPolicy": "Delete",
                "allowVolumeExpansion": True,
                "volumeBindingMode": "Immediate",
                "parameters": parameters,
            },
        )
        self._initialized(image, task.storage_class or "", {"size": length} if length > 0 else {})
        partial = self.path(uid).with_suffix(".partial")
        try:
            size = task.fetcher.download(partial, lambda count: self._progress(image, task, count, length))
        except FetchError as exc:
            if not task.fetcher.stop.is_set():
                self._fail(image, "Imported", f"failed to process sync file: {exc}")
            return
        if size % SECTOR_BYTES:
            why = f"the file size {size} should be a multiple of {SECTOR_BYTES} bytes"
            self._fail(image, "Imported", why)
            return
        partial.replace(self.path(uid))
        self._imported(image, {"size": size, "virtualSize": _virtual_size(self.path(uid))})

    def _import_cdi(self, image: dict[str, Any], task: _Task) -> None:
        """CDI's way: a look at the first bytes, HEAD, a volume under the image's name, then ranges."""
        uid = image["metadata"]["uid"]
        target_class = image["spec"].get("targetStorageClassName", "")
        try:
            virtual_size = task.fetcher.virtual_size()
            length = task.fetcher.known_length()
        except FetchError as exc:
            self._fail(image, "Initialized", f"failed to fetch image size: {exc}")
            return
        size = virtual_size or length
        self._create_volume(image, target_class, size)
        self._initialized(image, target_class, {"size": length, "virtualSize": size})
        partial = self.path(uid).with_suffix(".partial")
        try:
            task.fetcher.download_ranges(
                partial, length, lambda count: self._progress(image, task, count, length)
            )
        except FetchError:
            return  # CDI's importer pod is restarted for ever; Harvester shows nothing of it
        partial.replace(self.path(uid))
        self._imported(image, {"size": length, "virtualSize": size})

    def _create_volume(self, image: dict[str, Any], storage_class: str, size: int) -> None:
        metadata = image["metadata"]
        claims = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims"
        owner = {key: image[key] for key in ("apiVersion", "kind")} | {
            key: metadata[key] for key in ("name", "uid")
        }
        self._api.ensure(
            claims,
            {
                "metadata": {
                    "name": metadata["name"],
                    "annotations": {GOLDEN_IMAGE_ANNOTATION: "true"},
                    "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
                },
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "volumeMode": "Block",
                    "storageClassName": storage_class,
                    "resources": {"requests": {"storage": str(size)}},
                },
            },
        )

    def _initialized(self, image: dict[str, Any], storage_class: str, sizes: dict[str, int]) -> None:
        status = {
            "appliedUrl": image["spec"]["url"],
            "storageClassName": storage_class,
            "progress": 0,
            **sizes,
        }
        importing = ("Imported", "Unknown", "Importing", "")
        self._write(image, status, importing, ("Initialized", "True", "Initialized", ""))

    def _progress(self, image: dict[str, Any], task: _Task, count: int, length: int) -> None:
        percent = min(100 * count // length, ALMOST) if length > 0 else 0
        now = time.monotonic()
        under_way = sum(other.thread is not None for other in list(self._tasks.values()))
        interval = max(PROGRESS_INTERVAL_SECONDS, under_way / PROGRESS_PER_SECOND)
        if percent == task.shown or now < task.shown_at + interval:
            return
        task.shown, task.shown_at = percent, now
        self._write(image, {"progress": percent}, ("Imported", "Unknown", "Importing", ""))

    def _imported(self, image: dict[str, Any], sizes: dict[str, int]) -> None:
        done = ("Imported", "True", "Imported", "")
        self._write(image, {"progress": 100, **sizes}, done, ("RetryLimitExceeded", "False", "", ""))

    def _fail(self, image: dict[str, Any], kind: str, why: str) -> None:
        """Count a failure; the last one makes the condition `kind` False, the others leave it as it is."""
        metadata = image["metadata"]
        now = self._api.get(image_path(metadata["namespace"], metadata["name"]))
        failed = now.get("status", {}).get("failed", 0) + 1
        retry = now["spec"].get("retry", DEFAULT_RETRY)
        message = f"failed due to error: {why}"
        if failed > 1:
            message = f"retry attempted {failed - 1}/{retry} {message}"
        status = {"failed": failed, "lastFailedTime": _now(), "progress": 0}
        if failed > retry:
            exceeded = ("RetryLimitExceeded", "True", "", message)
            self._write(image, status, exceeded, (kind, "False", "", message))
        else:
            self._write(image, status, ("RetryLimitExceeded", "False", "", message))

    def _label(self, image: dict[str, Any]) -> None:
        """Overwrite the label by which images are listed with the display name."""
        metadata, name = image["metadata"], image["spec"]["displayName"]
        if metadata.get("labels", {}).get(DISPLAY_NAME_LABEL) != name:
            patch = {"metadata": {"labels": {DISPLAY_NAME_LABEL: name}}}
            self._api.merge(image_path(metadata["namespace"], metadata["name"]), patch)

    def _write(
        self, image: dict[str, Any], status: dict[str, Any], *conditions: tuple[str, str, str, str]
    ) -> None:
        path = image_path(image["metadata"]["namespace"], image["metadata"]["name"])
        now = self._api.get(path)
        if now["metadata"]["uid"] != image["metadata"]["uid"]:
            raise ApiError(404, "NotFound", "the image was replaced by another of its name")
        merged = {item["type"]: item for item in now.get("status", {}).get("conditions", [])}
        for kind, value, reason, message in conditions:
            old = merged.get(kind, {})
            changed = old.get("lastTransitionTime") if old.get("status") == value else None
            merged[kind] = {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastUpdateTime": _now(),
                "lastTransitionTime": changed or _now(),
            }
        self._api.merge(path, {"status": {**status, "conditions": list(merged.values())}})


def _virtual_size(path: Path) -> int:
    """Return the size of the disk that an image holds; of a raw one, the size of the file."""
    with path.open("rb") as stream:
        head = stream.read(32)
    is_qcow2 = head.startswith(b"QFI\xfb")
    return int.from_bytes(head[24:32], "big") if is_qcow2 else path.stat().st_size


def _now() -> str:
    moment = dt.datetime.now(dt.UTC)  # noqa: TID251  # Harvester stamps by the wall clock
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
