"""Convert: every disk is a raw image of exactly its virtual size.

Decoding happened in flight, so that all that is left here is to make sure: of the size, and of what CDI will
take the image for. A disk that is not there any more (an `emptyDir` goes with its pod) sends the import back
to Export, which reads just what is missing.
"""

from __future__ import annotations

from pathlib import Path

from controller.api import conditions
from controller.api.phase import Phase
from controller.phases.base import Advance, Changes, Context, Outcome, count, false, true
from controller.phases.storage import choose_storage
from controller.transfers import TransferStatus
from converters.errors import UnsupportedFormat, scratch_errors
from converters.formats import HEAD_BYTES, unpacked_as


def run(ctx: Context) -> Outcome:
    """Compare each raw image's size with the disk's, and its first bytes with what CDI would unpack.

    Raises:
        UnsupportedFormat: CDI would not import the disk, but what it unpacks of it.
    """
    missing = []
    for index, entry in enumerate(ctx.vmimport.disks):
        state = ctx.transfers.state(ctx.vmimport.uid, index)
        file = state.result if state and state.status is TransferStatus.DONE else None
        if file is None or file.size_bytes != int(entry["diskSize"]):
            missing.append(entry["sourceDisk"])
        else:
            _see_that_it_stays_packed(ctx, entry["sourceDisk"], file.path)
    if missing:
        message = f"scratch has lost disk {', '.join(missing)}; reading again"
        return Advance(
            Phase.EXPORT,
            message,
            Changes(conditions=[false(conditions.DISKS_EXPORTED, "ScratchLost", message)]),
        )
    return Advance(
        Phase.IMAGE_UPLOAD,
        f"{count(len(ctx.vmimport.disks), 'raw image')} ready",
        Changes(conditions=[true(conditions.DISKS_CONVERTED, "Converted")]),
    )


def _see_that_it_stays_packed(ctx: Context, key: str, path: Path) -> None:
    """Refuse a disk whose own first bytes are the mark of a compression, where CDI is to fetch it.

    CDI would unpack it, and report the import of a disk that is not the source's.
    """
    disk = next((disk for disk in ctx.source_vm().disks if disk.key == key), None)
    if choose_storage(ctx, disk).backend != "cdi":
        return
    with scratch_errors(f"{path.name} cannot be read"), path.open("rb") as file:
        packed = unpacked_as(file.read(HEAD_BYTES))
    if packed is not None:
        message = (
            f"disk {key} itself begins like {packed}-compressed data, which CDI would unpack; "
            "import it to a StorageClass of Longhorn's v1 engine"
        )
        raise UnsupportedFormat(message)
