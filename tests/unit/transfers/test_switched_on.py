"""A source VM that is switched on while it is read: nothing that was read before goes into the new VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.api.phase import Phase
from controller.phases import export
from controller.phases.base import Advance, Wait
from providers.errors import DiscardNotDone, Unreachable
from providers.model import PowerState
from tests.unit.fakes import eventually
from tests.unit.transfers.exporting import context, noted
from tests.unit.transfers.streams import FakeStream, Source, settled

if TYPE_CHECKING:
    from controller.scratch import Scratch
    from controller.transfers import TransferPool
    from tests.unit.transfers.streams import Crowd


class Cloud:
    """A provider of two disks whose VM is switched on and off by others."""

    def __init__(self, *disks: Source) -> None:
        self.power = PowerState.OFF
        self.removes: list[Exception | None] = []
        self._disks = dict(zip(("vda", "vdb"), disks, strict=True))

    def power_state(self, _vm: object) -> PowerState:
        return self.power

    def open_disk(self, _vm: object, disk: Any, _export_id: str) -> FakeStream:
        return self._disks[disk.key].open()

    def discard_export(self, _vm: object, _export_id: str, *, complete: bool) -> None:  # noqa: ARG002  # as it is called
        answer = self.removes.pop() if self.removes else None
        if answer:
            raise answer


def passed(ctx: Any) -> Any:
    """Make a pass; its conditions are written."""
    outcome = export.run(ctx)
    noted(ctx, outcome)
    return outcome


@pytest.mark.parametrize("trouble", [DiscardNotDone("a volume is removed"), Unreachable("down"), None])
def test_it_is_read_anew_though_it_is_off_again_before_the_source_has_put_things_back(
    transfers: TransferPool, scratch: Scratch, crowd: Crowd, trouble: Exception | None
) -> None:
    first = Source()
    waiting = crowd.job("a.1")
    cloud = Cloud(first, Source())
    cloud._disks["vdb"] = waiting  # type: ignore[assignment]  # opened alike
    ctx = context(transfers, scratch, cloud, "vda", "vdb")
    passed(ctx)
    settled(transfers, "a", 0)
    cloud.power = PowerState.ON
    told = passed(ctx)
    assert [reason for _, reason, _ in told.changes.events] == ["PoweredOnAgain"]
    cloud.power = PowerState.OFF
    cloud.removes = [trouble]

    def back() -> bool:
        try:
            outcome = passed(ctx)
        except Unreachable:
            return False
        assert not outcome.changes.events or isinstance(outcome, Advance)
        return isinstance(outcome, Advance) and outcome.to is Phase.SHUTDOWN

    eventually(back)
    assert scratch.uids() == set()
    assert transfers.state("a", 0) is None


def test_images_that_were_made_of_it_before_are_dropped_too(
    transfers: TransferPool, scratch: Scratch
) -> None:
    """An import that lost a disk of its scratch comes back from ImageUpload with the images of the others."""
    cloud = Cloud(Source(), Source())
    ctx = context(transfers, scratch, cloud, "vda", "vdb")
    for entry in ctx.vmimport.disks:
        entry |= {
            "VirtualMachineImage": "import-a-1",
            "imageAttempts": 2,
            "diskConditions": [],
            "diskName": "d",
        }
    deleted = []
    image = {"metadata": {"name": "import-a-1", "uid": "9", "ownerReferences": [{"uid": "a"}]}}
    ctx.kube.list = lambda resource, *_, **__: [image] if resource.plural.endswith("images") else []
    ctx.kube.delete = lambda _resource, name, _namespace, uid: deleted.append((name, uid))
    cloud.power = PowerState.ON
    passed(ctx)
    outcome = passed(ctx)
    assert isinstance(outcome, Advance)
    assert deleted == [("import-a-1", "9")]
    assert outcome.changes.disks is not None
    assert {frozenset(entry) for entry in outcome.changes.disks} == {
        frozenset({"sourceDisk", "diskSize", "diskName", "bytesTransferred", "progress"})
    }


def test_a_power_state_that_nobody_knows_is_no_switching_on(
    transfers: TransferPool, scratch: Scratch, crowd: Crowd
) -> None:
    """The cell of an OpenStack may be away for a minute; hours of reading are not dropped for that."""
    cloud = Cloud(Source(), Source())
    cloud._disks["vdb"] = crowd.job("a.1")  # type: ignore[assignment]  # opened alike
    ctx = context(transfers, scratch, cloud, "vda", "vdb")
    passed(ctx)
    settled(transfers, "a", 0)
    cloud.power = PowerState.UNKNOWN
    outcome = passed(ctx)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.changes.events) == ("PowerStateUnknown", ())
    cloud.power = PowerState.OFF
    crowd.release_all()
    settled(transfers, "a", 1)
    assert isinstance(passed(ctx), Advance)
