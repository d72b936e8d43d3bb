"""Exports on a cloud in memory: every step, every failure, and processes that end anywhere."""

from __future__ import annotations

import random
from typing import Any

import pytest

from providers.errors import (
    DiscardNotDone,
    DiskNotReady,
    ExportFailed,
    ExportTimedOut,
    QuotaExceeded,
    Unreachable,
)
from providers.model import SourceDisk, SourceVM
from providers.openstack.export import Exports, Patience
from providers.openstack.names import Mark
from tests.unit.fakes import FakeClock
from tests.unit.providers.openstack.fake_cloud import FakeCloud

EXPORT = "uid-run"
ROOT = SourceDisk("vda", "web-root", 1 << 30, handle="server:s1")
DATA = SourceDisk("vdb", "data", 1 << 30, handle="v1")
VM = SourceVM("s1", "web", 1, 256, disks=(ROOT, DATA))
STEPS = 40  # more than any export here takes


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def exports(cloud: FakeCloud, clock: FakeClock, patience: Patience | None = None) -> Exports:
    session: Any = cloud
    return Exports(session, patience or Patience(), clock.monotonic)


def told(exporting: Exports, disk: SourceDisk) -> str:
    """Do one step; return what the source does, or nothing when the image is there."""
    try:
        exporting.image(VM, disk, EXPORT)
    except DiskNotReady as exc:
        return str(exc)
    return ""


def removed(cloud: FakeCloud, exporting: Exports) -> None:
    for _ in range(STEPS):
        try:
            exporting.discard(VM, EXPORT)
        except DiscardNotDone:
            cloud.tick()
        else:
            return
    raise AssertionError("the removal never came to an end")


def test_a_volume_is_copied_step_by_step_and_each_is_told(cloud: FakeCloud, clock: FakeClock) -> None:
    exporting = exports(cloud, clock)
    seen = []
    for _ in range(4):
        seen += [told(exporting, DATA), told(exporting, DATA)]
        cloud.tick()
    assert list(dict.fromkeys(seen)) == [
        "a snapshot of volume 'data' is made",
        "a copy of volume 'data' is made",
        "volume 'data' is uploaded as an image",
        "",
    ]
    assert cloud.counts() == (1, 1, 1)
    removed(cloud, exporting)
    assert cloud.counts() == (0, 0, 0)


def test_the_root_of_an_image_is_one_image(cloud: FakeCloud, clock: FakeClock) -> None:
    exporting = exports(cloud, clock)
    assert told(exporting, ROOT) == "server 'web' is copied into an image"
    assert told(exporting, ROOT) == "root disk 'web-root' is uploaded as an image"
    cloud.tick()
    assert told(exporting, ROOT) == ""
    assert cloud.counts() == (0, 0, 1)
    removed(cloud, exporting)


def test_the_longer_it_takes_the_longer_until_the_next_look(cloud: FakeCloud, clock: FakeClock) -> None:
    exporting = exports(cloud, clock, Patience(count=100, delay=20))
    pauses = []
    for seconds in (0, 8, 32, 1000):
        clock.advance(seconds)
        with pytest.raises(DiskNotReady) as waits:
            exporting.image(VM, ROOT, EXPORT)
        pauses.append(waits.value.retry_after)
    assert pauses == [1, 2, 10, 20]


def test_an_upload_has_as_long_as_the_source_object_says(cloud: FakeCloud, clock: FakeClock) -> None:
    exporting = exports(cloud, clock, Patience(count=3, delay=10))
    assert told(exporting, ROOT)
    clock.advance(30)
    assert told(exporting, ROOT)
    clock.advance(1)
    with pytest.raises(ExportTimedOut, match="30 s"):
        exporting.image(VM, ROOT, EXPORT)


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        ("snapshot", "the snapshot of volume 'data' is in status 'error': upload volume"),
        ("volume", "the copy of volume 'data' is in status 'error': upload volume"),
        ("upload", "the upload of volume 'data' failed: its copy is in status 'available': upload volume"),
    ],
)
def test_a_copy_that_fails_is_told_in_the_clouds_words_and_made_again(
    cloud: FakeCloud, clock: FakeClock, failing: str, words: str
) -> None:
    exporting = exports(cloud, clock)
    cloud.fails = {failing}
    failures = []
    for _ in range(STEPS):
        try:
            if not told(exporting, DATA):
                break
        except ExportFailed as exc:
            failures.append(str(exc))
        cloud.tick()
    assert [failure.startswith(words) for failure in failures] == [True]
    assert cloud.counts() == (1, 1, 1)
    removed(cloud, exporting)


def test_an_image_in_a_bad_state_is_told_removed_and_made_again(cloud: FakeCloud, clock: FakeClock) -> None:
    exporting = exports(cloud, clock)
    assert told(exporting, ROOT)
    (image,) = cloud.images.values()
    image["status"] = "killed"
    with pytest.raises(ExportFailed, match="root disk 'web-root' is in status 'killed'"):
        exporting.image(VM, ROOT, EXPORT)
    assert cloud.counts() == (0, 0, 0)
    assert told(exporting, ROOT) == "server 'web' is copied into an image"


def test_a_refusal_is_passed_on(cloud: FakeCloud, clock: FakeClock) -> None:
    cloud.refuse = lambda _: QuotaExceeded("Maximum number of snapshots exceeded")
    with pytest.raises(QuotaExceeded, match="Maximum number"):
        exports(cloud, clock).image(VM, DATA, EXPORT)


def test_what_somebody_else_has_named_so_is_not_touched(cloud: FakeCloud, clock: FakeClock) -> None:
    theirs = {"id": "t", "name": Mark(EXPORT, "vdb").name, "status": "available", "metadata": {}, "size": 1}
    cloud.snapshots["t"] = theirs
    exporting = exports(cloud, clock)
    assert told(exporting, DATA) == "a snapshot of volume 'data' is made"
    cloud.tick()
    removed(cloud, exporting)
    assert cloud.snapshots == {"t": theirs}


@pytest.mark.parametrize("seed", range(60))
def test_processes_that_end_anywhere_leave_one_of_each_and_then_nothing(seed: int) -> None:
    """A process ends between two steps, or with a request whose answer it never sees; another goes on."""
    chance = random.Random(seed)  # noqa: S311  # dice
    cloud, clock = FakeCloud(lose=lambda: chance.random() < 0.3), FakeClock()
    exporting = exports(cloud, clock)
    given_up = chance.random() < 0.5  # deleted in the middle
    ready: set[str] = set()
    for step in range(10 * STEPS):
        if len(ready) == len(VM.disks) or (given_up and step == seed % 12):
            break
        for disk in VM.disks:
            try:
                exporting.image(VM, disk, EXPORT)
                ready.add(disk.key)
            except (DiskNotReady, Unreachable):
                if chance.random() < 0.5:
                    exporting = exports(cloud, clock)
        if chance.random() < 0.7:
            cloud.tick()
        assert max(len(cloud.snapshots), len(cloud.volumes)) <= 1
        assert len(cloud.images) <= 2
    assert given_up or len(ready) == len(VM.disks)
    for _ in range(10 * STEPS):
        try:
            exporting.discard(VM, EXPORT)
            break
        except (DiscardNotDone, Unreachable):
            cloud.tick()
            exporting = exports(cloud, clock)
    assert cloud.counts() == (0, 0, 0)
