"""The byte path beside what people use today: a download by curl, and `qemu-img convert`."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.digest import ALGORITHM, sparse_sha256
from tests.bench import disk_images
from tests.bench.figures import Figure
from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.disk_images import Disk

GIB = 1024**3
MIB = 1024**2
RUNS = 5
CAPPED_RUNS = 5
CAP = 25_000_000  # bytes per second and connection: what an ESXi host gives, see docs/benchmarks.md
CAPPED_DISKS = 4
SAMPLE_SECONDS = 0.05
STORED = "stored.vmdk"
_DOWNLOAD = """\
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1024 * 1024)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of one or more programs took.

    Attributes:
        wall: Seconds.
        cpu: Seconds, user and system.
        rss: Peak of the resident memory of the largest of them, bytes.
        written: Bytes handed to the file system.
        scratch: Peak of the bytes allocated in the folder that they wrote to, unnamed files included.
    """

    wall: float
    cpu: float
    rss: int
    written: int
    scratch: int

    def then(self, other: Cost) -> Cost:
        """Return the cost of both, one behind the other."""
        return Cost(
            self.wall + other.wall,
            self.cpu + other.cpu,
            max(self.rss, other.rss),
            self.written + other.written,
            max(self.scratch, other.scratch),
        )


def run() -> list[Figure]:
    """Measure decoding alone, download with decoding, and downloads that are capped."""
    with tempfile.TemporaryDirectory(prefix="byte-path-") as name:
        folder = Path(name)
        figures = []
        for size, data in ((8 * GIB, 2 * GIB), (1024 * GIB, GIB)):
            what = f"{size // GIB} GiB with {data // GIB} GiB of data"
            disk = disk_images.make(folder, f"disk-{size // GIB}", size, data)
            digest = sparse_sha256(disk.raw)
            with _server(folder) as url:
                figures += _decode_only(folder, disk, digest, what)
                figures += _download_and_decode(folder, disk, digest, what, url)
                if size == 1024 * GIB:
                    figures += _capped(folder, disk, digest, what, url)
        return figures


def _decode_only(folder: Path, disk: Disk, digest: str, what: str) -> list[Figure]:
    ours, theirs = _side_by_side(
        lambda: _read(_emptied(folder), disk, digest, [str(disk.vmdk)]),
        lambda: _qemu_convert(_emptied(folder), disk.vmdk),
    )
    beside = (
        f"a streamOptimized VMDK, {what}, file to raw image; beside: `qemu-img convert`; median of {RUNS}"
    )
    return _wall_and_cpu("decode", what, beside, ours, theirs)


def _download_and_decode(folder: Path, disk: Disk, digest: str, what: str, url: str) -> list[Figure]:
    source = f"{url}/{disk.vmdk.name}"

    def curl_and_convert() -> Cost:
        out = _emptied(folder)
        return _curl(out, source).then(_qemu_convert(out, out / STORED))

    ours, theirs = _side_by_side(lambda: _read(_emptied(folder), disk, digest, [source]), curl_and_convert)
    beside = (
        f"the same over HTTP on loopback, {what}; beside: a download into a file, then `qemu-img convert`; "
        f"median of {RUNS}"
    )
    named = f"byte-path: download and decode, {what}"
    return [
        *_wall_and_cpu("download and decode", what, beside, ours, theirs),
        Figure(f"{named}, peak memory", _mib(ours, "rss"), _mib(theirs, "rss"), "MiB", beside),
        Figure(f"{named}, written", _mib(ours, "written"), _mib(theirs, "written"), "MiB", beside),
        Figure(
            f"{named}, peak scratch",
            _mib(ours, "scratch"),
            round(disk.allocated_bytes / MIB, 1),
            "MiB",
            f"allocated on the scratch volume, {what}; beside: allocated bytes of the raw image",
        ),
    ]


def _capped(folder: Path, disk: Disk, digest: str, what: str, url: str) -> list[Figure]:
    source = f"{url}/{disk.vmdk.name}?rate={CAP}"
    one, alone, four = [], [], []
    for _ in range(CAPPED_RUNS):
        alone.append(_curl(_emptied(folder), source))
        one.append(_read(_emptied(folder), disk, digest, [source]))
        four.append(_read(_emptied(folder), disk, digest, [source] * CAPPED_DISKS))
    per_connection = f"{CAP // 1_000_000} MB/s per connection, {what}; median of {CAPPED_RUNS}"
    return [
        Figure(
            "byte-path: capped, 1 disk",
            _median(one, "wall"),
            _median(alone, "wall"),
            "s",
            f"download and decode at {per_connection}; beside: the download alone, by curl",
        ),
        Figure(
            f"byte-path: capped, {CAPPED_DISKS} disks",
            _median(four, "wall"),
            _median(one, "wall"),
            "s",
            f"{CAPPED_DISKS} such disks at once at {per_connection}; beside: one",
        ),
        Figure(
            f"byte-path: capped, {CAPPED_DISKS} disks, peak memory",
            _mib(four, "rss"),
            200,
            "MiB",
            "resident, of the whole process; beside: expectation",
        ),
    ]


def _wall_and_cpu(
    name: str, what: str, beside: str, ours: Sequence[Cost], theirs: Sequence[Cost]
) -> list[Figure]:
    return [
        Figure(f"byte-path: {name}, {what}", _median(ours, "wall"), _median(theirs, "wall"), "s", beside),
        Figure(f"byte-path: {name}, {what}, CPU", _median(ours, "cpu"), _median(theirs, "cpu"), "s", beside),
    ]


def _median(costs: Sequence[Cost], field: str) -> float:
    return round(float(statistics.median(getattr(cost, field) for cost in costs)), 2)


def _mib(costs: Sequence[Cost], field: str) -> float:
    return round(float(statistics.median(getattr(cost, field) for cost in costs)) / MIB, 1)


def _side_by_side(ours: Callable[[], Cost], theirs: Callable[[], Cost]) -> tuple[list[Cost], list[Cost]]:
    """Run both in turns: a minute in which the machine is slow is one for both."""
    costs: tuple[list[Cost], list[Cost]] = [], []
    for _ in range(RUNS):
        for kept, measure in zip(costs, (ours, theirs), strict=True):
            kept.append(measure())
    return costs


def _emptied(folder: Path) -> Path:
    """Return an empty folder to write to, with nothing of the run before still on its way to the disk."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    return out


def _read(out: Path, disk: Disk, digest: str, sources: Sequence[str]) -> Cost:
    """Let the product read disks, and see to it that it read them right."""
    reader = [sys.executable, "-m", "tests.bench.disk_reader"]
    cost, output = _weigh([*reader, str(out), str(disk.size_bytes), *sources], out)
    if [line for line in output.splitlines() if line.startswith(ALGORITHM)] != [digest] * len(sources):
        raise LabError("the byte path has made another disk of it")
    return cost


def _qemu_convert(out: Path, vmdk: Path) -> Cost:
    return _weigh(["qemu-img", "convert", "-O", "raw", vmdk, out / "qemu.raw"], out)[0]


def _curl(out: Path, url: str) -> Cost:
    """Download into a file, by curl or, where there is none, by Python."""
    curl = shutil.which("curl")
    if curl:
        return _weigh([curl, "--silent", "--fail", "--output", out / STORED, url], out)[0]
    return _weigh([sys.executable, "-c", _DOWNLOAD, url, out / STORED], out)[0]


def _weigh(command: Sequence[str | Path], out: Path) -> tuple[Cost, str]:
    """Run a program that writes to `out`; return what it took and what it printed.

    Raises:
        LabError: it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    ended = threading.Event()
    scratch, rss = [0], [0]

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            scratch.append(_allocated(out, process.pid))
            rss.append(_peak_rss(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    sampler.join()
    if process.returncode:
        raise LabError(f"{command[0]} failed ({process.returncode})")
    return (
        Cost(
            wall=wall,
            cpu=usage.ru_utime + usage.ru_stime,
            rss=max(rss),
            written=usage.ru_oublock * 512,
            scratch=max(*scratch, _allocated(out, process.pid)),
        ),
        output,
    )


def _peak_rss(pid: int) -> int:
    """Return the peak so far; the one of wait4(2) is never below that of the process that forked."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _allocated(folder: Path, pid: int) -> int:
    """Return the bytes that a folder's files take, with those a process has open there without a name."""
    sizes: dict[int, int] = {}
    for path in [*folder.rglob("*"), *Path(f"/proc/{pid}/fd").glob("*")]:
        with contextlib.suppress(OSError):
            if path.resolve().is_relative_to(folder):
                status = path.stat()
                sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.disk_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
