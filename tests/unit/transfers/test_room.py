from __future__ import annotations

import errno
import os
import shutil
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from controller.phases import export
from controller.phases.base import Advance, Wait
from controller.scratch import Scratch, ScratchError
from controller.transfers import DiskJob, TransferPool, TransferStatus
from controller.transfers.room import MARGIN_BYTES, Room
from providers.errors import DiskNotReady, Unreachable
from providers.model import PowerState, SourceDisk
from tests.unit.fakes import FakeClock, eventually
from tests.unit.transfers.exporting import context, noted
from tests.unit.transfers.streams import BLOCK, SIZE, FakeStream, Source, files, job, settled

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 1024**3


@pytest.mark.parametrize(
    ("free", "reserved", "wanted", "expected"),
    [(10, 0, 10, 0), (10, 0, 11, 11), (10, 3, 7, 0), (10, 3, 8, 11), (10, 20, 0, 20), (10, 10, 0, 0)],
)
def test_an_import_begins_when_there_is_room_beside_what_others_will_need(
    free: int, reserved: int, wanted: int, expected: int
) -> None:
    room = Room(free * GIB, reserved * GIB, alone=False)
    assert room.missing_for(wanted * GIB, begun=False, insufficient=None) == expected * GIB


def test_an_import_that_has_begun_or_is_alone_is_not_held_up() -> None:
    assert Room(GIB, 5 * GIB, alone=False).missing_for(9 * GIB, begun=True, insufficient=None) == 0
    assert Room(GIB, 0, alone=True).missing_for(9 * GIB, begun=False, insufficient=None) == 0


@pytest.mark.parametrize("begun", [True, False])
def test_a_disk_that_met_a_full_volume_waits_for_more_than_did_not_suffice(begun: bool) -> None:  # noqa: FBT001
    needed = 2 * GIB + 3 * GIB + MARGIN_BYTES
    for free, expected in ((3 * GIB, needed), (needed - 1, needed), (needed, 0)):
        room = Room(free, 2 * GIB, alone=True)
        assert room.missing_for(GIB, begun=begun, insufficient=3 * GIB) == expected


class Volume:
    """A scratch volume that says it has so many bytes free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 10 * SIZE
        self.broken = False
        monkeypatch.setattr(shutil, "disk_usage", self._usage)

    def _usage(self, _path: object) -> object:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return SimpleNamespace(free=self.free)


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> Volume:
    return Volume(monkeypatch)


def expecting(name: str, source: Source, expected: int = SIZE) -> DiskJob:
    uid, _, index = name.partition(".")
    return DiskJob(uid, int(index), SIZE, "vc", 99, source.open, expected_bytes=expected)


def needed(transfers: TransferPool, uid: str, index: int = 0) -> int:
    state = transfers.state(uid, index)
    return state.needed_bytes if state else 0


def test_what_an_import_under_way_will_need_is_kept_for_it(transfers: TransferPool, volume: Volume) -> None:
    volume.free = 3 * SIZE
    gate = threading.Event()
    first = FakeStream(gate=gate)
    transfers.start(*(expecting(f"a.{index}", Source(first)) for index in range(2)))
    assert first.reading.wait(60)
    second = Source()
    transfers.start(*(expecting(f"b.{index}", second) for index in range(2)))
    assert 3 * SIZE < needed(transfers, "b") <= 4 * SIZE, "half of a disk of the first may have come"
    assert needed(transfers, "b", 1) == needed(transfers, "b")
    assert second.opened == 0
    gate.set()
    for uid in ("a", "b"):
        for index in range(2):
            assert settled(transfers, uid, index).status is TransferStatus.DONE


def test_an_import_that_has_the_volume_for_itself_may_try(transfers: TransferPool, volume: Volume) -> None:
    """What a source says may count zeros that are never written."""
    volume.free = SIZE // 2
    transfers.start(expecting("a.0", Source()))
    assert settled(transfers, "a").status is TransferStatus.DONE


def test_an_import_whose_disks_failed_keeps_no_room_from_others(scratch: Scratch, volume: Volume) -> None:
    clock = FakeClock()
    transfers = TransferPool(scratch, clock, limit=8, on_change=lambda _: None)
    volume.free = 3 * SIZE // 2
    failing = Source(Unreachable("away"))
    transfers.start(expecting("a.0", failing))
    settled(transfers, "a")
    transfers.retry_failures("a", {0}, 30)
    gate = threading.Event()
    stream = FakeStream(gate=gate)
    transfers.start(expecting("b.0", Source(stream)))
    assert stream.reading.wait(60)
    clock.advance(30)
    transfers.start(expecting("a.0", failing))
    assert needed(transfers, "a"), "its place is taken by now"
    gate.set()
    settled(transfers, "b")
    volume.free = 3 * SIZE
    transfers.start(expecting("a.0", failing))
    settled(transfers, "a")
    assert failing.opened == 2


def test_what_an_import_with_an_image_here_will_need_is_kept_for_it_though_a_disk_of_it_fails(
    transfers: TransferPool, volume: Volume
) -> None:
    """Else each of two imports might have the room that the other needs."""
    transfers.start(expecting("a.0", Source()), expecting("a.1", Source(Unreachable("away"))))
    settled(transfers, "a", 0)
    settled(transfers, "a", 1)
    transfers.retry_failures("a", {1}, 3600)
    volume.free = 3 * SIZE // 2
    transfers.start(expecting("b.0", Source()))
    assert needed(transfers, "b") == 2 * SIZE


def test_a_disk_that_its_source_prepares_keeps_its_room(transfers: TransferPool, volume: Volume) -> None:
    transfers.start(expecting("a.0", Source(DiskNotReady("a snapshot is made", 3600))))
    eventually(lambda: (state := transfers.state("a", 0)) and state.preparing)
    volume.free = 3 * SIZE // 2
    transfers.start(expecting("b.0", Source()))
    assert needed(transfers, "b") == 2 * SIZE


def test_images_of_others_are_waited_for_where_they_take_the_room(
    transfers: TransferPool, scratch: Scratch, volume: Volume
) -> None:
    transfers.start(expecting("a.0", Source()))
    settled(transfers, "a")
    volume.free = SIZE // 2
    transfers.start(expecting("b.0", Source()))
    assert needed(transfers, "b") == SIZE
    volume.free = 2 * SIZE
    transfers.cancel("a")
    transfers.discard("a")
    assert settled(transfers, "b").status is TransferStatus.DONE
    assert files(scratch, "a") == set()


def test_disks_whose_size_nobody_knows_do_not_wait(transfers: TransferPool, volume: Volume) -> None:
    volume.free = 1
    for uid in ("a", "b"):
        transfers.start(job(Source().open, uid))
        settled(transfers, uid)


def test_a_disk_that_meets_a_full_volume_gives_its_room_back_and_waits_for_more(
    transfers: TransferPool,
    scratch: Scratch,
    volume: Volume,
    changes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume.free = SIZE // 2
    real = os.pwritev

    def full(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if offset >= volume.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", full)
    source = Source()
    wanted = job(source.open, "a")
    transfers.start(wanted)
    eventually(lambda: changes == ["a"])
    assert needed(transfers, "a") == SIZE // 2 + MARGIN_BYTES
    state = transfers.state("a", 0)
    assert state is not None
    assert (state.status, state.error, source.opened) == (TransferStatus.QUEUED, None, 1)
    assert files(scratch, "a") == set()
    transfers.start(wanted)
    assert needed(transfers, "a"), "nothing has changed"
    volume.free = 2 * MARGIN_BYTES
    transfers.start(wanted)
    assert settled(transfers, "a").status is TransferStatus.DONE
    assert source.opened == 2


def test_a_disk_for_which_not_even_its_record_has_room_leaves_nothing(
    transfers: TransferPool, scratch: Scratch, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be one that has something on the volume, and keep others from having it for themselves."""
    volume.free = 0

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    transfers.start(expecting("a.0", Source()))
    eventually(lambda: needed(transfers, "a"))
    assert scratch.uids() == set()


def test_a_disk_that_waits_for_room_can_be_cancelled(
    transfers: TransferPool, scratch: Scratch, volume: Volume
) -> None:
    scratch.prepare("other", 0).write_bytes(b"of another import")
    volume.free = 0
    transfers.start(expecting("a.0", Source()))
    assert needed(transfers, "a") == SIZE
    assert transfers.cancel("a")
    assert transfers.state("a", 0) is None


def test_a_volume_that_cannot_be_examined_holds_nobody_up(
    transfers: TransferPool, scratch: Scratch, volume: Volume
) -> None:
    scratch.prepare("other", 0).write_bytes(b"of another import")
    volume.broken = True
    with pytest.raises(ScratchError):
        scratch.free_bytes()
    transfers.start(expecting("a.0", Source()))
    assert settled(transfers, "a").status is TransferStatus.DONE


def importing(transfers: TransferPool, scratch: Scratch, source: Source) -> Any:
    """What the Export step sees of an import with one disk."""
    provider = SimpleNamespace(
        power_state=lambda _: PowerState.OFF,
        open_disk=lambda *_: source.open(),
        discard_export=lambda *_, **__: None,
    )
    ctx = context(transfers, scratch, provider)
    disk = SourceDisk(key="vda", name="disk", size_bytes=SIZE, allocated_bytes=SIZE)
    ctx.source_vm = lambda: SimpleNamespace(disks=[disk])
    return ctx


def test_the_import_says_what_it_waits_for_and_goes_on_when_there_is_room(
    transfers: TransferPool, scratch: Scratch, volume: Volume
) -> None:
    scratch.prepare("other", 0).write_bytes(b"of another import")
    volume.free = SIZE // 2
    ctx = importing(transfers, scratch, Source())
    told = []
    for free in ("1.2", "1.4"):
        waits = export.run(ctx)
        assert isinstance(waits, Wait)
        assert (waits.reason, waits.trouble) == ("ScratchSpaceInsufficient", False)
        assert f"1 disk waiting until 2.5 MiB are free on the scratch volume, now {free} MiB" in waits.message
        (condition,) = waits.changes.conditions
        assert condition["message"] in waits.message
        told += [reason for _, reason, _ in waits.changes.events]
        noted(ctx, waits)
        volume.free += BLOCK * 2
    assert told == ["ScratchSpaceInsufficient"], "that the room has changed is no news"
    volume.free = 2 * SIZE
    assert isinstance(export.run(ctx), Wait)
    settled(transfers, "a")
    assert isinstance(export.run(ctx), Advance)
