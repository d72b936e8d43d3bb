"""Command line of the benchmarks: runs them, prints and publishes their figures."""

from __future__ import annotations

import argparse
import sys

from tests.bench import byte_path, control_loop, fleet, inflate, ova, serving
from tests.bench.figures import publish
from tests.lab import toolchain
from tests.lab.errors import LabError

BENCHMARKS = {
    "byte-path": byte_path.run,
    "control-loop": control_loop.run,
    "requests": control_loop.requests_per_import,
    "fleet": fleet.run,
    "inflate": inflate.run,
    "ova": ova.run,
    "serving": serving.run,
}


def main() -> int:
    """Run all benchmarks, or the one named; 0 when each has given its figures."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", choices=sorted(BENCHMARKS), default=None)
    only = parser.parse_args().only
    try:
        toolchain.prepare(toolchain.PROGRAMS)
        for name in [only] if only else BENCHMARKS:
            print(f"{name} ...", flush=True)
            figures = BENCHMARKS[name]()
            for figure in figures:
                print(
                    f"  {figure.name}: {figure.ours:g} {figure.unit} (beside {figure.theirs:g})", flush=True
                )
            publish(figures)
    except LabError as exc:
        print(f"benchmark failed: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
