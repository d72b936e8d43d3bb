"""Where each thread stands: told by a process that goes on, whatever its threads are at."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading

from controller.stacks import write_stacks

ASKED = 1500  # by faulthandler's own means, the process was dead after some hundred
BUSY = """
    import json, signal, threading, time
    from controller.__main__ import StopBell
    from controller.stacks import write_stacks

    def deep(n):
        return n if n < 1 else deep(n - 1) + 1

    def busy():
        source = "def made(n):\\n return n if n < 1 else made(n - 1) + 1\\nmade(40)"
        while True:
            exec(compile(source, "made", "exec"), {})  # code that is gone the moment after
            deep(60)

    bell = StopBell()
    signal.signal(signal.SIGUSR1, lambda *_: write_stacks())
    for _ in range(4):
        threading.Thread(target=busy, name="busy", daemon=True).start()
    print("ready", flush=True)
    bell.wait()
"""


def written(asked: threading.Event) -> str:
    """Return what is written while another thread waits in `asked`."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as answer:
        thread = threading.Thread(target=asked.wait, name="the one that waits")
        thread.start()
        write_stacks(writing)
        os.close(writing)
        asked.set()
        thread.join()
        return answer.read()


def test_every_thread_is_named_with_its_calls_and_none_of_their_values() -> None:
    secret = "hunter2-in-a-local"  # noqa: S105  # the point
    text = written(threading.Event())
    for line in (
        r"Thread 0x[0-9a-f]+ the one that waits \(most recent call first\):",
        r'  File ".*threading\.py", line \d+ in wait',
        rf'  File "{re.escape(__file__)}", line \d+ in written',
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE)
    assert secret not in text


def test_who_is_asked_where_nobody_reads_goes_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        write_stacks(writing)
    finally:
        os.close(writing)


def test_a_process_that_is_asked_again_and_again_goes_on_and_ends_when_it_is_told_to() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUSY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"ready\n"
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        for _ in range(ASKED):
            process.send_signal(signal.SIGUSR1)
            threading.Event().wait(0.001)
        process.send_signal(signal.SIGTERM)
        reader.join()
    assert process.returncode == 0
