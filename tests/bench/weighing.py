"""What a run of programs takes: seconds, memory, bytes written, room. Shared by the benchmarks of bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GIB = 1024**3
MIB = 1024**2
SAMPLE_SECONDS = 0.05
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


def median(costs: Sequence[Cost], field: str) -> float:
    """Return the median of a field, in its own unit."""
    return round(float(statistics.median(getattr(cost, field) for cost in costs)), 2)


def mib(costs: Sequence[Cost], field: str) -> float:
    """Return the median of a field of bytes, in MiB."""
    return round(float(statistics.median(getattr(cost, field) for cost in costs)) / MIB, 1)


def side_by_side(
    ours: Callable[[], Cost], theirs: Callable[[], Cost], runs: int
) -> tuple[list[Cost], list[Cost]]:
    """Run both in turns: a minute in which the machine is slow is one for both."""
    costs: tuple[list[Cost], list[Cost]] = [], []
    for _ in range(runs):
        for kept, measure in zip(costs, (ours, theirs), strict=True):
            kept.append(measure())
    return costs


def emptied(folder: Path) -> Path:
    """Return an empty folder to write to, with nothing of the run before still on its way to the disk."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    return out


def curl(out: Path, url: str, name: str) -> Cost:
    """Download into a file of that name, by curl or, where there is none, by Python."""
    program = shutil.which("curl")
    if program:
        return weigh([program, "--silent", "--fail", "--output", out / name, url], out)[0]
    return weigh([sys.executable, "-c", _DOWNLOAD, url, out / name], out)[0]


def weigh(command: Sequence[str | Path], out: Path) -> tuple[Cost, str]:
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
