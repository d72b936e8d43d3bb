"""What the Export step sees of an import."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from controller.api import conditions
from controller.phases.base import true
from providers.model import SourceDisk
from tests.unit.fakes import FakeClock
from tests.unit.transfers.streams import SIZE

if TYPE_CHECKING:
    from controller.phases.base import Outcome
    from controller.scratch import Scratch
    from controller.transfers import TransferPool


class NoImages:
    """A cluster in which the import has made nothing."""

    def list(self, *_: object, **__: object) -> list[Any]:
        return []


def noted(ctx: Any, outcome: Outcome) -> None:
    """Have the import's conditions as they are after a pass."""
    stored = ctx.vmimport.status["conditions"]
    stored[:] = conditions.merge(stored, outcome.changes.conditions, FakeClock().now())


def context(transfers: TransferPool, scratch: Scratch, provider: object, *keys: str) -> Any:
    """Return the context of a pass over import `a`; its disks (`vda`, unless told) come from `provider`."""
    disks = [SourceDisk(key=key, name="disk", size_bytes=SIZE) for key in keys or ("vda",)]
    return SimpleNamespace(
        vmimport=SimpleNamespace(
            namespace="default",
            name="a",
            uid="a",
            export_id="a-1",
            run="1",
            status={"conditions": [true(conditions.SOURCE_POWERED_OFF, "PoweredOff")]},
            disks=[{"sourceDisk": disk.key, "diskSize": disk.size_bytes} for disk in disks],
        ),
        source_vm=lambda: SimpleNamespace(disks=disks),
        source=lambda: SimpleNamespace(key="cloud", max_transfers=None, max_bytes_per_second=None),
        provider=lambda: provider,
        transfers=transfers,
        scratch=scratch,
        kube=NoImages(),
        connections=SimpleNamespace(refused=lambda _user, _error: False),
        settings=SimpleNamespace(progress_seconds=10, max_transfers_per_source=4),
    )
