"""Run a program so that it cannot outlive its parent. A script: started as a process, imported by nobody.

Usage: `python -I childguard.py PARENT_PID PROGRAM [ARGUMENT...]`. The kernel kills the program when the
thread that started this script ends (prctl(2), PR_SET_PDEATHSIG; it survives execve). Doing this between fork
and exec of a process with threads would be unsafe, hence the script.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A hostile image can make its reader ask for memory without end. The tables of a 16 TiB disk need 200 MiB.
ADDRESS_SPACE_BYTES = 4 * 1024**3


def main() -> None:
    """Arm the guard and become the program."""
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child began")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = ADDRESS_SPACE_BYTES if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    os.execvp(program, [program, *arguments])  # noqa: S606  # no shell is what is wanted


if __name__ == "__main__":
    main()
