"""Programs that the lab starts: each in its own process group, with a log, and never outliving the lab."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

POLL_SECONDS = 0.05
TAIL_LINES = 20

# prctl(2): the parent-death signal is sent when the *thread* that started the child ends, not the process.
# One thread that lives as long as the interpreter therefore starts everything.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


class LabProcess:
    """One running program.

    It gets SIGKILL when the lab's process ends, however that ends (its data is always disposable), and Ctrl-C
    at a terminal does not reach it, so that the lab decides the order of the end.
    """

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._argv = [str(word) for word in argv]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; its output is appended to `log`.

        Raises:
            LabError: it runs already, or cannot be executed.
        """
        if self.running:
            raise LabError(f"{self.name} runs already")
        try:
            self._process = _SPAWNER.submit(self._spawn).result()
        except OSError as exc:
            raise LabError(f"{self.name} cannot be started: {exc}") from exc

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the program has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        if self._process is None:
            raise LabError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; `None` while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End the whole process group at once and reap it; idempotent."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self, grace_seconds: float = 10) -> None:
        """Ask it to end; kill what still runs after the grace period. Idempotent."""
        self._signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_seconds)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


def running_with(text: str) -> list[str]:
    """Return the command lines of all running programs that contain the text: a path that only they know."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if text in line]


def wait_until(
    probe: Callable[[], bool],
    *,
    what: str,
    timeout_seconds: float,
    processes: Sequence[LabProcess] = (),
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return when `probe` is true.

    Args:
        probe: Free of side effects.
        what: What is waited for, for the message.
        timeout_seconds: How long at most.
        processes: Programs without which it can never become true.
        poll_seconds: Between two calls of `probe`; longer for one that costs something.

    Raises:
        LabError: the time is over or one of `processes` has ended; with the tail of their logs.
    """
    end = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not probe():
        dead = [process for process in processes if not process.running]
        if dead or time.monotonic() > end:
            story = (
                f"{dead[0].name} ended with {dead[0].returncode}" if dead else f"{timeout_seconds} s passed"
            )
            logs = "\n".join(f"--- {process.name}: {process.log}\n{process.tail()}" for process in processes)
            raise LabError(f"{what}: {story}\n{logs}")
        pause.wait(poll_seconds)
