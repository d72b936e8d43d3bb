"""What a person sees while the lab builds or downloads something for minutes. Standard library only."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

TERMINAL_INTERVAL_SECONDS = 0.5
LOG_INTERVAL_SECONDS = 15  # a build server's log: a line now and then shows that it is alive


class Progress:
    """Shows `what`, the elapsed time and a changing detail on standard error until the block ends.

    On a terminal the line is rewritten in place; elsewhere one line comes out at the start, every 15 s and at
    the end.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._detail = ""
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._run, name=f"progress {what}", daemon=True)

    def __enter__(self) -> Self:
        self._show()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._show("failed" if error else "done", end="\n")

    def detail(self, text: str) -> None:
        """Replace the detail that stands behind the elapsed time."""
        self._detail = text

    def _run(self) -> None:
        interval = TERMINAL_INTERVAL_SECONDS if self._terminal else LOG_INTERVAL_SECONDS
        while not self._ended.wait(interval):
            self._show()

    def _show(self, outcome: str = "", end: str = "") -> None:
        seconds = int(time.monotonic() - self._started)
        parts = (self._what, f"{seconds // 60}:{seconds % 60:02}", self._detail, outcome)
        line = "  ".join(part for part in parts if part)
        if self._terminal:
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
