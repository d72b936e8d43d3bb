"""The product's reading of an OVA in a process of its own, as the controller runs it, to be weighed.

`python -m tests.bench.ova_reader SCRATCH URL`: looks at the package, reads its disks by the transfer pool,
and prints their digests.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
from contextlib import closing
from pathlib import Path

import structlog

from controller.runtime.clock import SystemClock
from controller.scratch import Scratch
from controller.transfers import DiskJob, TransferPool, TransferStatus
from providers import registry
from providers.base import SourceConfig, SourceKind

UID = "bench"


def main() -> None:
    """Read the disks and print what the controller would know of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("url")
    arguments = parser.parse_args()
    # The pool's threads log while the digests are printed: two writers on one stream mix their lines.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    changed = threading.Event()
    scratch = Scratch(arguments.scratch)
    pool = TransferPool(scratch, SystemClock(), limit=4, on_change=lambda _: changed.set())
    with closing(registry.connect(SourceConfig(SourceKind.OVA, arguments.url, {}))) as provider:
        vm = provider.inspect("")
        jobs = [
            DiskJob(
                UID,
                index,
                disk.size_bytes,
                "bench",
                source_limit=4,
                open=functools.partial(provider.open_disk, vm, disk, UID),
            )
            for index, disk in enumerate(vm.disks)
        ]
        pool.start(*jobs)
        for index in range(len(jobs)):
            while (state := pool.state(UID, index)) and state.status is not TransferStatus.DONE:
                if state.error:
                    raise SystemExit(f"disk {index} was not read: {state}")
                changed.wait()
                changed.clear()
            if state is not None and state.result is not None:
                print(state.result.digest)
    pool.shut_down(10)


if __name__ == "__main__":
    main()
