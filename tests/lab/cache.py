"""The lab's place in the user's cache, its locks, and how it runs other programs. Standard library only."""

from __future__ import annotations

import fcntl
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError
from tests.lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def cache_dir() -> Path:
    """Return the lab's directory below the user's cache; it exists."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "harvester-vm-import-controller"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`; the kernel releases it when its holder dies."""
    path = cache_dir() / f"{name}.lock"
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Progress(f"waiting for another run that works on {name}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(
    command: Sequence[str | Path],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        LabError: it failed; with the end of what it said.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout)[-2000:]
        raise LabError(f"{' '.join(str(word) for word in command)} failed:\n{said}")
    return done.stdout
