"""Command line: read settings, run the controller until it is told to stop."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading

import structlog

from controller import log as logging_setup
from controller.app import App
from controller.config import Settings
from controller.kube.errors import NotConfigured

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the controller; returns the exit code.

    0 after SIGTERM or SIGINT; 1 when it could not start, has lost the lease, or cannot serve images: whoever
    runs it (kubelet) starts it again, as a candidate like any other.
    """
    settings = Settings.from_arguments(sys.argv[1:])
    logging_setup.configure(debug=settings.debug)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Where each thread stands, to standard error, and nothing of what it holds: no values, so no secrets.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        app = App(settings, give_up=stop.set)
    except (NotConfigured, OSError) as exc:
        log.error("cannot start", error=str(exc))  # noqa: TRY400  # a plain reason, no traceback
        return 1
    app.start()
    stop.wait()
    app.stop()
    return 1 if app.gave_up else 0


if __name__ == "__main__":
    sys.exit(main())
