"""Convert: every disk is a raw image of exactly its virtual size.

Decoding happened in flight, so that all that is left here is to make sure. A disk that is not there any more
(an `emptyDir` goes with its pod) sends the import back to Export, which reads just what is missing.
"""

from __future__ import annotations

from controller.api import conditions
from controller.api.phase import Phase
from controller.phases.base import Advance, Changes, Context, Outcome, count, false, true
from controller.transfers import TransferStatus


def run(ctx: Context) -> Outcome:
    """Compare each raw image's size with the disk's."""
    missing = []
    for index, entry in enumerate(ctx.vmimport.disks):
        state = ctx.transfers.state(ctx.vmimport.uid, index)
        file = state.result if state and state.status is TransferStatus.DONE else None
        if file is None or file.size_bytes != int(entry["diskSize"]):
            missing.append(entry["sourceDisk"])
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
