"""ImageUpload: Harvester has fetched every disk as a VirtualMachineImage.

https://github.com/harvester/harvester/blob/v1.6.0/pkg/apis/harvesterhci.io/v1beta1/image.go is where the
conditions come from; the object has no status subresource, and its status is Harvester's alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from controller import builders, kinds
from controller.api import conditions, names
from controller.api.phase import Phase
from controller.errors import ImageFailed, NameTaken
from controller.kube.errors import REFUSALS, NotFound
from controller.phases.base import Advance, Changes, Context, Outcome, Wait, count, false, format_bytes, true
from controller.phases.storage import choose_storage
from controller.transfers import TransferStatus

POLL_SECONDS = 10.0  # the image's own events wake the import; this is for progress and for lost events
_TOKEN = re.compile(r"(?<=/)[0-9a-f]{32}(?=/disk-)")  # of our image server's URLs
MAX_ATTEMPTS = 3  # of one image, each of which Harvester itself tries spec.retry (3) times more


class ImageState(StrEnum):
    """What an image's conditions come to."""

    IMPORTING = "Importing"
    READY = "Ready"
    FAILED = "Failed"


def run(ctx: Context) -> Outcome:
    """Submit what is missing, replace what failed, go on when all images are imported.

    Raises:
        NameTaken: a foreign image has the name.
        ImageFailed: Harvester gave up on an image for the last time.
    """
    vmimport = ctx.vmimport
    entries: list[dict[str, Any]] = []
    waiting: list[str] = []
    lost: list[str] = []
    refused: list[str] = []
    events: list[tuple[str, str, str]] = []
    for index, entry in enumerate(vmimport.disks):
        image = _find(ctx, index)
        if image is None:
            state = ctx.transfers.state(vmimport.uid, index)
            if state is None or state.status is not TransferStatus.DONE:
                lost.append(entry["sourceDisk"])
                continue
            updated, refusal = _try_to_submit(ctx, index, entry)
            refused += refusal
            waiting += refusal or [f"disk {entry['sourceDisk']}: submitted"]
        else:
            updated, word, failed = _observe(ctx, index, entry, image)
            word = word and f"disk {entry['sourceDisk']}: {word}"
            if word:
                waiting.append(word)
            if failed:  # the summary speaks of the next attempt a moment later
                events.append(("Warning", "ImageFailed", word))
        entries.append(updated)
    if lost:
        return _back_to_export(lost)
    if waiting:
        # How far each is stands in the summary only: a condition that changes is written at once.
        ready = f"{len(entries) - len(waiting)} of {count(len(entries), 'image')} imported"
        reason = "ImageRefused" if refused else "Importing"
        known = conditions.find(vmimport.status.get("conditions") or (), conditions.IMAGES_READY) or {}
        if refused and known.get("reason") != "ImageRefused":
            events.append(("Warning", "ImageRefused", "; ".join(refused)))
        return Wait(
            POLL_SECONDS,
            "ImageRefused" if refused else "ImportingImages",
            "; ".join(waiting),
            Changes(
                disks=entries,
                conditions=[false(conditions.IMAGES_READY, reason, "; ".join([ready, *refused]))],
                events=events,
            ),
        )
    ctx.transfers.discard(vmimport.uid)
    return Advance(
        Phase.VM_CREATE,
        f"{count(len(entries), 'image')} imported",
        Changes(disks=entries, conditions=[true(conditions.IMAGES_READY, "Imported")]),
    )


def judge(image: Mapping[str, Any]) -> tuple[ImageState, str]:
    """Return what the conditions of a VirtualMachineImage say, and in which words.

    Imported False, with whatever reason, is a failure, and so is RetryLimitExceeded True; while Harvester
    retries by itself, Imported stays Unknown. Harvester's readers name the URL in what they say; its token,
    which is a secret, is left out.
    """
    state, words = _judge(image)
    return state, _TOKEN.sub("[token]", words)


def _judge(image: Mapping[str, Any]) -> tuple[ImageState, str]:
    status = image.get("status") or {}
    found = {entry["type"]: entry for entry in status.get("conditions") or ()}
    imported, exceeded = found.get("Imported", {}), found.get("RetryLimitExceeded", {})
    if exceeded.get("status") == conditions.TRUE:
        return ImageState.FAILED, exceeded.get("message") or imported.get("message") or "retry limit exceeded"
    if imported.get("status") == conditions.FALSE:
        return ImageState.FAILED, imported.get("message") or imported.get("reason") or "import failed"
    if imported.get("status") == conditions.TRUE:
        return ImageState.READY, ""
    return ImageState.IMPORTING, f"{int(status.get('progress') or 0)} % imported"


def _find(ctx: Context, index: int) -> dict[str, Any] | None:
    name = builders.image_name(ctx.vmimport, index)
    try:
        image = ctx.kube.get(kinds.IMAGES, name, ctx.vmimport.namespace)
    except NotFound:
        return None
    if (image["metadata"].get("labels") or {}).get(names.LABEL_IMPORT_UID) != ctx.vmimport.uid:
        raise NameTaken(f"VirtualMachineImage {ctx.vmimport.namespace}/{name} is not of this import")
    return image


def _try_to_submit(ctx: Context, index: int, entry: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the disk's entry, and why the cluster refuses its image, which people have to mend.

    Failing here would throw away what took hours to copy.
    """
    try:
        return _submit(ctx, index, entry), []
    except REFUSALS as exc:
        return entry, [f"disk {entry['sourceDisk']}: {_TOKEN.sub('[token]', str(exc))}"]


def _submit(ctx: Context, index: int, entry: dict[str, Any]) -> dict[str, Any]:
    vmimport = ctx.vmimport
    ctx.images.withdraw(vmimport.uid, index)  # what a killed process published before it could submit
    path = ctx.images.publish(vmimport.uid, index)
    disk = next((disk for disk in ctx.source_vm().disks if disk.key == entry["sourceDisk"]), None)
    plain = builders.image_display_name(vmimport, index)
    image = builders.build_image(
        vmimport,
        index,
        url=ctx.settings.image_url(path, ctx.images.port),
        storage=choose_storage(ctx, disk),
        unique_name=_name_in_use(ctx, plain),
    )
    created = ctx.kube.create(kinds.IMAGES, image)
    return {
        **entry,
        "VirtualMachineImage": created["metadata"]["name"],
        "diskRoute": f"disk-{index}",  # the old controller's field; the real path is a secret
        "imageAttempts": int(entry.get("imageAttempts") or 0) + 1,
        "diskConditions": [
            *(entry.get("diskConditions") or ()),
            true(conditions.IMAGE_SUBMITTED, "Submitted"),
            false(conditions.IMAGE_READY, "Importing"),
            *_replaced(entry),
        ],
    }


def _replaced(entry: Mapping[str, Any]) -> list[conditions.Condition]:
    """Return the end of a failure: the failed image has a successor."""
    failed = conditions.find(entry.get("diskConditions") or (), conditions.IMAGE_FAILED)
    if failed is None or failed.get("status") != conditions.TRUE:
        return []
    return [false(conditions.IMAGE_FAILED, "Replaced", failed.get("message", ""))]


def _name_in_use(ctx: Context, display_name: str) -> bool:
    """Harvester wants display names unique in a namespace, and an earlier run's image may bear this one."""
    selector = f"{names.LABEL_IMAGE_DISPLAY_NAME}={display_name}"
    return bool(ctx.kube.list(kinds.IMAGES, ctx.vmimport.namespace, label_selector=selector))


def _observe(
    ctx: Context, index: int, entry: dict[str, Any], image: Mapping[str, Any]
) -> tuple[dict[str, Any], str, bool]:
    """Return the disk's entry, what is still waited for (empty: nothing), whether an attempt has failed."""
    name = image["metadata"]["name"]
    known = list(entry.get("diskConditions") or ())
    entry = {**entry, "VirtualMachineImage": name, "imageAttempts": int(entry.get("imageAttempts", 1))}
    if image["metadata"].get("deletionTimestamp"):
        return entry, "the failed image is being deleted", False
    state, words = judge(image)
    if state is ImageState.READY:
        ctx.images.withdraw(ctx.vmimport.uid, index)
        ready = true(conditions.IMAGE_READY, "Imported", _size(image))
        submitted = true(conditions.IMAGE_SUBMITTED, "Submitted")
        return {**entry, "diskConditions": [*known, submitted, ready, *_replaced(entry)]}, "", False
    if state is ImageState.FAILED:
        attempts = entry["imageAttempts"]
        if attempts >= MAX_ATTEMPTS and ctx.images.unbroken(ctx.vmimport.uid, index):
            raise ImageFailed(
                f"Harvester could not import image {name} of disk {entry['sourceDisk']} in "
                f"{MAX_ATTEMPTS} attempts: {words}"
            )
        message = f"attempt {attempts} of {MAX_ATTEMPTS} failed: {words}"
        if not ctx.images.unbroken(ctx.vmimport.uid, index):
            # Harvester's few tries ran out while no controller was there to be read from.
            entry["imageAttempts"] = attempts - 1
            message = f"interrupted by a restart of the controller, which does not count: {words}"
        ctx.kube.delete(kinds.IMAGES, name, ctx.vmimport.namespace, uid=image["metadata"]["uid"])
        submitted = false(conditions.IMAGE_SUBMITTED, "Failed", message)
        failed = true(conditions.IMAGE_FAILED, "Failed", message)
        return {**entry, "diskConditions": [*known, submitted, failed]}, f"{message}; submitting again", True
    # The image server forgets with its process what it published; Harvester does not.
    ctx.images.publish(ctx.vmimport.uid, index)
    submitted = true(conditions.IMAGE_SUBMITTED, "Submitted")
    importing = false(conditions.IMAGE_READY, "Importing")
    return {**entry, "diskConditions": [*known, submitted, importing]}, words, False


def _back_to_export(lost: list[str]) -> Outcome:
    message = f"scratch has lost disk {', '.join(lost)} before it was submitted; reading again"
    return Advance(
        Phase.EXPORT,
        message,
        Changes(
            conditions=[
                false(conditions.DISKS_EXPORTED, "ScratchLost", message),
                false(conditions.DISKS_CONVERTED, "ScratchLost", message),
            ]
        ),
    )


def _size(image: Mapping[str, Any]) -> str:
    status = image.get("status") or {}
    return f"{format_bytes(int(status['virtualSize']))}" if status.get("virtualSize") else ""
