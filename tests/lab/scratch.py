"""Directories of the lab that are removed even when the run that made them was killed: by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALIVE = "alive"


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Make a directory below the system's temporary one, for the block.

    What others with the same prefix left behind is removed first: those whose lock nobody holds any more.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_if_abandoned(path)
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        new, alive = Path(made, f"{_ALIVE}.new"), Path(made, _ALIVE)
        with new.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(alive)  # nobody sees it without its lock
            yield Path(made)


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError), (path / _ALIVE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
