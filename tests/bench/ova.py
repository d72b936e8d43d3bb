"""Reading an OVA beside what people do by hand: a download by curl, `tar`, and `qemu-img convert`."""

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
from tests.lab.ova import archive, package, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.disk_images import Disk

RUNS = 3
DISKS = 2
SIZE = 8 * GIB
DATA = 768 * MIB
NAME = "bench.ova"


def run() -> list[Figure]:
    """Measure OVAs of ordinary data, and of data that cannot be compressed."""
    figures = []
    for kind, noise in (("mixed", False), ("incompressible", True)):
        with tempfile.TemporaryDirectory(prefix="bench-ova-") as name:
            folder = Path(name)
            disks = [
                disk_images.make(folder, f"disk{number}", SIZE, DATA, noise=noise) for number in range(DISKS)
            ]
            figures += _measure(folder, disks, kind)
    return figures


def _measure(folder: Path, disks: Sequence[Disk], kind: str) -> list[Figure]:
    members = package({disk.vmdk.name: disk.vmdk for disk in disks}, [SIZE] * len(disks))
    with (folder / NAME).open("wb") as file:
        for part in archive(members):
            file.writelines(pieces(part))
    digests = [sparse_sha256(disk.raw) for disk in disks]
    with disk_server.running(folder) as url:
        source = f"{url}/{NAME}"
        ours, theirs = side_by_side(
            lambda: _read(emptied(folder), digests, source),
            lambda: _by_hand(emptied(folder), disks, source),
            RUNS,
        )
    what = f"{len(disks)} disks of {SIZE // GIB} GiB with {DATA // MIB} MiB of {kind} data each"
    beside = (
        f"an OVA of {what} over HTTP on loopback, manifest verified; beside: curl, tar, qemu-img convert; "
    )
    beside += f"median of {RUNS}"
    return [
        Figure(f"ova: {kind} data", median(ours, "wall"), median(theirs, "wall"), "s", beside),
        Figure(f"ova: {kind} data, CPU", median(ours, "cpu"), median(theirs, "cpu"), "s", beside),
        Figure(f"ova: {kind} data, written", mib(ours, "written"), mib(theirs, "written"), "MiB", beside),
        Figure(
            f"ova: {kind} data, peak scratch", mib(ours, "scratch"), mib(theirs, "scratch"), "MiB", beside
        ),
    ]


def _read(out: Path, digests: Sequence[str], source: str) -> Cost:
    """Let the product read the OVA, and see to it that it read it right."""
    cost, output = weigh([sys.executable, "-m", "tests.bench.ova_reader", str(out), source], out)
    if [line for line in output.splitlines() if line.startswith(ALGORITHM)] != list(digests):
        raise LabError("the product has made other disks of it")
    return cost


def _by_hand(out: Path, disks: Sequence[Disk], source: str) -> Cost:
    cost = curl(out, source, NAME)
    cost = cost.then(weigh(["tar", "-C", out, "-xf", out / NAME], out)[0])
    for disk in disks:
        target = out / disk.raw.name
        cost = cost.then(weigh(["qemu-img", "convert", "-O", "raw", out / disk.vmdk.name, target], out)[0])
    return cost
