"""Command line of the fuzzers."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable

from tests.fuzz import ova, vmdk
from tests.fuzz.report import Report

FUZZERS: dict[str, Callable[[int, int, Callable[[Report], None]], Report]] = {
    "vmdk": vmdk.run,
    **{kind: functools.partial(ova.run, kind) for kind in ova.KINDS},
}


def main() -> int:
    """Run one fuzzer; 1 when it has found a defect."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=sorted(FUZZERS))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases")
    arguments = parser.parse_args()
    report = FUZZERS[arguments.target](
        arguments.cases,
        arguments.seed,
        lambda report: print(f"\r{report.cases} cases, {len(report.defects)} defects", end="", flush=True),
    )
    print(f"\r{report}")
    return 1 if report.defects else 0


if __name__ == "__main__":
    sys.exit(main())
