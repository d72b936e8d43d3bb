"""What a run of a fuzzer gives: how every case ended, and what must never happen."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass, field


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
