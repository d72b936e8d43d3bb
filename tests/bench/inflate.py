"""Which inflater reads the grains of a VMDK: ISA-L, beside zlib-ng and Python's own zlib."""

from __future__ import annotations

import statistics
import time
import zlib
from typing import TYPE_CHECKING

from isal import isal_zlib
from zlib_ng import zlib_ng

from tests.bench.disk_images import mixed_grains
from tests.bench.figures import Figure
from tests.lab.streamvmdk import GRAIN

if TYPE_CHECKING:
    from types import ModuleType

RUNS = 5
PASSES = 8  # over the grains: 256 MiB in each run
GIB = 1024**3


def run() -> list[Figure]:
    """Inflate the same grains by each in turn, by one thread."""
    grains = [zlib.compress(grain, 1) for grain in mixed_grains()]
    inflated = PASSES * len(grains) * GRAIN
    seconds: dict[ModuleType, list[float]] = {isal_zlib: [], zlib_ng: [], zlib: []}
    for _ in range(RUNS):
        for module, taken in seconds.items():
            taken.append(_inflate(module, grains) * GIB / inflated)
    ours = statistics.median(seconds[isal_zlib])
    return [
        Figure(
            f"inflate: beside {name}",
            round(ours, 2),
            round(statistics.median(seconds[module]), 2),
            "s/GiB",
            f"CPU for a GiB of mixed data in grains of 64 KiB, by ISA-L; beside: {name}; median of {RUNS}",
        )
        for name, module in (("zlib-ng", zlib_ng), ("zlib", zlib))
    ]


def _inflate(module: ModuleType, grains: list[bytes]) -> float:
    """Return the processor's seconds for all grains, each as `converters.vmdk.grains.inflate` does it."""
    started = time.thread_time()
    for _ in range(PASSES):
        for grain in grains:
            module.decompressobj().decompress(grain, GRAIN + 1)
    return time.thread_time() - started
