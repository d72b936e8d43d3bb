"""Where each thread stands, for whoever asks a running controller by SIGUSR1.

It is written with the interpreter's lock held. `faulthandler.register` looks at the other threads while they
run on, and a frame that ends under its eyes ends the process with it (SIGSEGV, seen with CPython 3.11); as a
last word, when the process is dying anyway, it is right, and `__main__` has it for that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback

STANDARD_ERROR = 2


def write_stacks(descriptor: int = STANDARD_ERROR) -> None:
    """Write the stack of every thread, the innermost call first: files, lines and functions.

    No values, so no secrets. Safe in a handler of a signal: the descriptor is written to directly, because
    whatever this thread was at may be a write to `sys.stderr`, and nothing is raised, because that would end
    whatever it was at. What nobody reads is lost.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # documented, for this very use
        lines.append(f"Thread {ident:#x} {names.get(ident, '')} (most recent call first):".replace("  ", " "))
        calls = [(called.f_code, line) for called, line in traceback.walk_stack(frame)]
        lines += [f'  File "{code.co_filename}", line {line} in {code.co_name}' for code, line in calls]
    text = memoryview("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(descriptor, text) :]
