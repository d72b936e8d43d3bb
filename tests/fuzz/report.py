"""What a run of a fuzzer gives: how every case ended, and what must never happen."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SECONDS = 1.0  # of a case
MAX_MEMORY_GROWTH = 64 * 1024 * 1024
WARM_UP_CASES = 200


def peak_memory() -> int:
    """Return the peak of this process's resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(slots=True)
class Report:
    """The account of a run.

    Attributes:
        cases: Cases that were run.
        outcomes: How they ended: `ok`, or the error's type.
        slowest_seconds: The longest case.
        memory_growth_bytes: How much the peak of resident memory grew after the first cases.
        defects: What went wrong, in words that allow to run the case again; empty is the aim.
    """

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    memory_growth_bytes: int = 0
    defects: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The account for people."""
        ends = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        lines = [
            f"{self.cases} cases: {ends}",
            f"slowest {self.slowest_seconds:.2f} s, memory +{self.memory_growth_bytes / 1024**2:.1f} MiB",
            f"{len(self.defects)} defects",
            *self.defects,
        ]
        return "\n".join(lines)

    def enter(self, name: str, seconds: float, outcome: str, defect: str) -> None:
        """Enter how a case ended; `defect` is empty when all was well."""
        if seconds > MAX_SECONDS:
            defect = defect or f"took {seconds:.1f} s"
        self.cases += 1
        self.outcomes[outcome] += 1
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        if defect:
            self.defects.append(f"{name}: {defect}")


def campaign(
    cases: int, run_case: Callable[[int, Report], None], on_progress: Callable[[Report], None]
) -> Report:
    """Run so many cases, each of which enters its end into the report; tell `on_progress` now and then."""
    report = Report()
    base = 0
    for number in range(cases):
        run_case(number, report)
        if number == WARM_UP_CASES:
            base = peak_memory()
        if number > WARM_UP_CASES:
            report.memory_growth_bytes = peak_memory() - base
        if number % 1000 == 0:
            on_progress(report)
    if report.memory_growth_bytes > MAX_MEMORY_GROWTH:
        report.defects.append(f"memory grew by {report.memory_growth_bytes} bytes")
    return report
