"""The byte path beside what people use today: a download by curl, and `qemu-img convert`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from converters.digest import ALGORITHM, sparse_sha256
from tests.bench import disk_images, disk_server
from tests.bench.figures import Figure
from tests.bench.weighing import GIB, MIB, Cost, curl, emptied, median, mib, side_by_side, weigh
from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.disk_images import Disk

RUNS = 5
CAPPED_RUNS = 5
CAP = 25_000_000  # bytes per second and connection: what an ESXi host gives, see docs/benchmarks.md
CAPPED_DISKS = 4
STORED = "stored.vmdk"


def run() -> list[Figure]:
    """Measure decoding alone, download with decoding, and downloads that are capped."""
    with tempfile.TemporaryDirectory(prefix="byte-path-") as name:
        folder = Path(name)
        figures = []
        for size, data in ((8 * GIB, 2 * GIB), (1024 * GIB, GIB)):
            what = f"{size // GIB} GiB with {data // GIB} GiB of data"
            disk = disk_images.make(folder, f"disk-{size // GIB}", size, data)
            digest = sparse_sha256(disk.raw)
            with disk_server.running(folder) as url:
                figures += _decode_only(folder, disk, digest, what)
                figures += _download_and_decode(folder, disk, digest, what, url)
                if size == 1024 * GIB:
                    figures += _capped(folder, disk, digest, what, url)
        return figures


def _decode_only(folder: Path, disk: Disk, digest: str, what: str) -> list[Figure]:
    ours, theirs = side_by_side(
        lambda: _read(emptied(folder), disk, digest, [str(disk.vmdk)]),
        lambda: _qemu_convert(emptied(folder), disk.vmdk),
        RUNS,
    )
    beside = (
        f"a streamOptimized VMDK, {what}, file to raw image; beside: `qemu-img convert`; median of {RUNS}"
    )
    return _wall_and_cpu("decode", what, beside, ours, theirs)


def _download_and_decode(folder: Path, disk: Disk, digest: str, what: str, url: str) -> list[Figure]:
    source = f"{url}/{disk.vmdk.name}"

    def curl_and_convert() -> Cost:
        out = emptied(folder)
        return curl(out, source, STORED).then(_qemu_convert(out, out / STORED))

    ours, theirs = side_by_side(
        lambda: _read(emptied(folder), disk, digest, [source]), curl_and_convert, RUNS
    )
    beside = (
        f"the same over HTTP on loopback, {what}; beside: a download into a file, then `qemu-img convert`; "
        f"median of {RUNS}"
    )
    named = f"byte-path: download and decode, {what}"
    return [
        *_wall_and_cpu("download and decode", what, beside, ours, theirs),
        Figure(f"{named}, peak memory", mib(ours, "rss"), mib(theirs, "rss"), "MiB", beside),
        Figure(f"{named}, written", mib(ours, "written"), mib(theirs, "written"), "MiB", beside),
        Figure(
            f"{named}, peak scratch",
            mib(ours, "scratch"),
            round(disk.allocated_bytes / MIB, 1),
            "MiB",
            f"allocated on the scratch volume, {what}; beside: allocated bytes of the raw image",
        ),
    ]


def _capped(folder: Path, disk: Disk, digest: str, what: str, url: str) -> list[Figure]:
    source = f"{url}/{disk.vmdk.name}?rate={CAP}"
    one, alone, four = [], [], []
    for _ in range(CAPPED_RUNS):
        alone.append(curl(emptied(folder), source, STORED))
        one.append(_read(emptied(folder), disk, digest, [source]))
        four.append(_read(emptied(folder), disk, digest, [source] * CAPPED_DISKS))
    per_connection = f"{CAP // 1_000_000} MB/s per connection, {what}; median of {CAPPED_RUNS}"
    return [
        Figure(
            "byte-path: capped, 1 disk",
            median(one, "wall"),
            median(alone, "wall"),
            "s",
            f"download and decode at {per_connection}; beside: the download alone, by curl",
        ),
        Figure(
            f"byte-path: capped, {CAPPED_DISKS} disks",
            median(four, "wall"),
            median(one, "wall"),
            "s",
            f"{CAPPED_DISKS} such disks at once at {per_connection}; beside: one",
        ),
        Figure(
            f"byte-path: capped, {CAPPED_DISKS} disks, peak memory",
            mib(four, "rss"),
            200,
            "MiB",
            "resident, of the whole process; beside: expectation",
        ),
    ]


def _wall_and_cpu(
    name: str, what: str, beside: str, ours: Sequence[Cost], theirs: Sequence[Cost]
) -> list[Figure]:
    return [
        Figure(f"byte-path: {name}, {what}", median(ours, "wall"), median(theirs, "wall"), "s", beside),
        Figure(f"byte-path: {name}, {what}, CPU", median(ours, "cpu"), median(theirs, "cpu"), "s", beside),
    ]


def _read(out: Path, disk: Disk, digest: str, sources: Sequence[str]) -> Cost:
    """Let the product read disks, and see to it that it read them right."""
    reader = [sys.executable, "-m", "tests.bench.disk_reader"]
    cost, output = weigh([*reader, str(out), str(disk.size_bytes), *sources], out)
    if [line for line in output.splitlines() if line.startswith(ALGORITHM)] != [digest] * len(sources):
        raise LabError("the byte path has made another disk of it")
    return cost


def _qemu_convert(out: Path, vmdk: Path) -> Cost:
    return weigh(["qemu-img", "convert", "-O", "raw", vmdk, out / "qemu.raw"], out)[0]
