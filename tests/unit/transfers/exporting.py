"""What the Export step sees of an import."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from providers.model import SourceDisk
from tests.unit.transfers.streams import SIZE

if TYPE_CHECKING:
    from controller.scratch import Scratch
    from controller.transfers import TransferPool


def context(transfers: TransferPool, scratch: Scratch, provider: object, *keys: str) -> Any:
    """Return the context of a pass over import `a`; its disks (`vda`, unless told) come from `provider`."""
    disks = [SourceDisk(key=key, name="disk", size_bytes=SIZE) for key in keys or ("vda",)]
    return SimpleNamespace(
        vmimport=SimpleNamespace(
            namespace="default",
            name="a",
            uid="a",
            export_id="a-1",
            disks=[{"sourceDisk": disk.key, "diskSize": disk.size_bytes} for disk in disks],
        ),
        source_vm=lambda: SimpleNamespace(disks=disks),
        source=lambda: SimpleNamespace(key="cloud", max_transfers=None, max_bytes_per_second=None),
        provider=lambda: provider,
        transfers=transfers,
        scratch=scratch,
        settings=SimpleNamespace(progress_seconds=10, max_transfers_per_source=4),
    )
