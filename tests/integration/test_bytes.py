"""Whole transfers under what happens to them: a killed process, a full volume, a silent server, a cancel."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from controller.runtime.clock import SystemClock
from controller.scratch import DiskRecord, Scratch
from controller.transfers import DiskJob, TransferPool, TransferStatus
from converters.digest import sparse_sha256
from tests.bench import disk_images
from tests.bench.disk_reader import UID, open_source
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.disk_images import Disk

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
SLOW = "?rate=1000000"  # bytes per second; a disk then takes half a minute


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return disk_images.make(tmp_path_factory.mktemp("disk"), "disk", 200 * MIB, 48 * MIB)


@pytest.fixture(scope="module")
def url(disk: Disk) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.disk_server", str(disk.vmdk.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/{disk.vmdk.name}"
        server.kill()


def reader(scratch: Path, disk: Disk, sources: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.disk_reader", str(scratch), str(disk.size_bytes), *sources]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def job(disk: Disk, source: str, index: int = 0, **more: Any) -> DiskJob:
    return DiskJob(UID, index, disk.size_bytes, "web", 9, functools.partial(open_source, source), **more)


def is_done(pool: TransferPool, index: int = 0) -> bool:
    state = pool.state(UID, index)
    assert state is not None
    assert state.error is None
    return state.status is TransferStatus.DONE


def names(scratch: Path) -> set[str]:
    return {path.name for path in (scratch / UID).glob("*")}


def test_a_process_that_was_killed_goes_on_with_the_disks_that_are_not_finished(
    tmp_path: Path, disk: Disk, url: str
) -> None:
    scratch = tmp_path / "scratch"
    with reader(scratch, disk, [url, *[url + SLOW] * 3]) as killed:
        eventually((scratch / UID / "disk-0.json").exists)
        eventually(lambda: len(list((scratch / UID).glob("*.partial-*"))) == 3)
        killed.send_signal(signal.SIGKILL)
    finished = (scratch / UID / "disk-0.raw").stat().st_ino
    assert not {"disk-1.raw", "disk-2.raw", "disk-3.raw"} & names(scratch)

    with reader(scratch, disk, ["http://127.0.0.1:1/must-not-be-asked", url, url, url]) as again:
        output, _ = again.communicate(timeout=240)

    assert again.returncode == 0
    digests = [line for line in output.splitlines() if line.startswith("sparse-sha256")]
    assert digests == [sparse_sha256(disk.raw)] * 4
    assert (scratch / UID / "disk-0.raw").stat().st_ino == finished
    assert names(scratch) == {f"disk-{index}.{kind}" for index in range(4) for kind in ("raw", "json")}
    for index in range(4):
        assert sparse_sha256(scratch / UID / f"disk-{index}.raw") == digests[0]


def mount(folder: Path, mebibytes: int, *, again: bool = False) -> bool:
    folder.mkdir(exist_ok=True)
    options = f"size={mebibytes}m" + (",remount" if again else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    if not mount(folder, 72):
        pytest.skip("no file systems can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_volume_is_waited_out(small_volume: Path, disk: Disk, url: str) -> None:
    """The second disk of 48 MiB does not fit, and nobody knew."""
    pool = TransferPool(Scratch(small_volume), SystemClock(), limit=1, on_change=lambda _: None)
    jobs = [job(disk, url, index) for index in range(2)]
    pool.start(*jobs)
    eventually(lambda: is_done(pool))
    eventually(lambda: (state := pool.state(UID, 1)) and state.needed_bytes)
    assert names(small_volume) == {"disk-0.raw", "disk-0.json"}
    pool.start(*jobs)
    assert not is_done(pool, 1), "nothing has changed"

    assert mount(small_volume, 72 + 48 + 64, again=True)
    pool.start(*jobs)
    eventually(lambda: is_done(pool, 1))
    assert sparse_sha256(small_volume / UID / "disk-1.raw") == sparse_sha256(disk.raw)
    assert pool.shut_down(60)


def test_an_image_that_took_the_last_block_is_complete_all_the_same(small_volume: Path) -> None:
    """Others fill the volume while it is written; its sidecar must not be what finds no room."""
    scratch = Scratch(small_volume)
    partial = scratch.prepare(UID, 0)
    with partial.open("wb", buffering=0) as image, contextlib.suppress(OSError):
        while image.write(bytes(MIB)):
            pass
    with pytest.raises(OSError, match="No space"):
        (small_volume / "one more").write_bytes(b"x" * 10)
    size = partial.stat().st_size

    scratch.commit(UID, 0, DiskRecord(size, "sparse-sha256-64k:0"))

    assert Scratch(small_volume).record(UID, 0) == DiskRecord(size, "sparse-sha256-64k:0")
    assert names(small_volume) == {"disk-0.raw", "disk-0.json"}


def test_a_full_volume_is_foreseen(small_volume: Path, disk: Disk, url: str) -> None:
    scratch = Scratch(small_volume)
    pool = TransferPool(scratch, SystemClock(), limit=9, on_change=lambda _: None)
    other = DiskJob(
        "other", 0, disk.size_bytes, "web", 9, functools.partial(open_source, url), expected_bytes=48 * MIB
    )
    pool.start(job(disk, url + SLOW, expected_bytes=48 * MIB))
    pool.start(other)
    state = pool.state("other", 0)
    assert state is not None
    assert 72 * MIB < state.needed_bytes <= 96 * MIB
    assert not (small_volume / "other").exists(), "not begun in vain"
    eventually(lambda: pool.cancel(UID))
    pool.discard(UID)
    eventually(lambda: scratch.record("other", 0))
    assert pool.shut_down(60)


@pytest.mark.parametrize("rate", ["?rate=1", SLOW, ""])
def test_a_cancel_ends_a_transfer_whether_bytes_come_or_not(
    tmp_path: Path, disk: Disk, url: str, rate: str
) -> None:
    """At one byte per second the server is silent after its first piece."""
    pool = TransferPool(Scratch(tmp_path), SystemClock(), limit=4, on_change=lambda _: None)
    pool.start(*(job(disk, url + rate, index) for index in range(4)))
    eventually(lambda: len({name.partition(".")[0] for name in names(tmp_path)}) == 4)  # all are begun
    eventually(lambda: pool.cancel(UID))
    assert not [name for name in names(tmp_path) if ".partial" in name]
    assert pool.shut_down(60)
