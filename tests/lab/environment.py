"""Makes the Python environment of this checkout exist, and prints the path of its interpreter.

`python3 -m tests.lab.environment` is what every target of the Makefile starts with. The environment stands in
the user's cache, keyed by the lock file and the interpreter, so that a fresh clone with the same lock file
finds it ready. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.cache import cache_dir, locked
from tests.lab.errors import LabError
from tests.lab.progress import Progress

PYTHON_MINIMUM = (3, 11)
LOCK_FILE = Path(__file__).parents[2] / "requirements-dev.lock"
_STAMP = "complete"


def ensure() -> Path:
    """Return the interpreter of an environment with exactly the locked packages, making it if need be.

    Raises:
        LabError: Python is too old, or a package cannot be installed; the message says what to do.
    """
    if sys.version_info[:2] < PYTHON_MINIMUM:
        wanted = ".".join(map(str, PYTHON_MINIMUM))
        raise LabError(f"Python {wanted} or newer is needed; this is {sys.version.split()[0]}")
    identity = hashlib.sha256(LOCK_FILE.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = cache_dir() / f"python-{identity}"
    interpreter = home / "bin" / "python"
    if (home / _STAMP).exists():
        return interpreter
    with locked(f"python-{identity}"):
        if not (home / _STAMP).exists():
            shutil.rmtree(home, ignore_errors=True)
            with Progress("Python packages"):
                _create(home)
                _run(
                    [
                        str(interpreter),
                        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                        *("--no-input", "--require-hashes", "--requirement", str(LOCK_FILE)),
                    ]
                )
            (home / _STAMP).touch()
    return interpreter


def _create(home: Path) -> None:
    command = [sys.executable, "-m", "venv", str(home)]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    if first.returncode == 0:
        return
    # Debian keeps ensurepip in a package of its own.
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        said = f"{first.stdout}{first.stderr}".strip()
        raise LabError(f"cannot make a virtual environment (on Debian: apt install python3-venv): {said}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "python3-venv"], environment)
    shutil.rmtree(home, ignore_errors=True)
    _run(command)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Print the interpreter's path; 1 and a plain reason when it cannot be had."""
    try:
        print(ensure())
    except LabError as exc:
        print(f"setup failed: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
