"""How much memory a process holds."""

from __future__ import annotations

from pathlib import Path


def resident_mib(pid: int) -> float:
    """Return the resident set of a process now, in MiB (proc(5), `VmRSS`)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kib = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
    return int(kib) / 1024
