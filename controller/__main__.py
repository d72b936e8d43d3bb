"""Command line: read settings, run the controller until it is told to stop."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys

import structlog

from controller import log as logging_setup
from controller.app import App
from controller.config import Settings
from controller.kube.errors import NotConfigured
from controller.stacks import write_stacks

log = structlog.get_logger(__name__)


class StopBell:
    """Ends the wait of the main thread, by a byte in a pipe: at SIGTERM and SIGINT, or from any thread.

    An event will not do: a handler that sets it may meet the lock that its own thread holds, and a signal
    that another thread was given does not end the wait. A byte is there whoever wrote it, and it is the
    signal's number, so that SIGUSR1 wakes the main thread, whose handlers Python runs, and ends nothing.
    """

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        os.set_blocking(self._rung, False)
        signal.set_wakeup_fd(self._rung, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # the byte is written before any handler runs

    def ring(self) -> None:
        """End the wait; idempotent."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._rung, b"\0")

    def wait(self) -> None:
        """Return once it was rung."""
        while os.read(self._heard, 1)[0] == signal.SIGUSR1:
            pass


def main() -> int:
    """Run the controller; returns the exit code.

    0 after SIGTERM or SIGINT; 1 when it could not start, has lost the lease, or cannot serve images: whoever
    runs it (kubelet) starts it again, as a candidate like any other.
    """
    settings = Settings.from_arguments(sys.argv[1:])
    logging_setup.configure(debug=settings.debug)
    bell = StopBell()
    signal.signal(signal.SIGUSR1, lambda *_: write_stacks())
    faulthandler.enable()  # a crash, or SIGABRT to a process whose main thread is stuck, tells as much
    try:
        app = App(settings, give_up=bell.ring)
    except (NotConfigured, OSError) as exc:
        log.error("cannot start", error=str(exc))  # noqa: TRY400  # a plain reason, no traceback
        return 1
    app.start()
    bell.wait()
    app.stop()
    return 1 if app.gave_up else 0


if __name__ == "__main__":
    sys.exit(main())
