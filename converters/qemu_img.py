"""Conversion by `qemu-img`, for formats that need random access. The only place that starts a process.

The program gets an image that may be hostile: its format is always named and never probed, images that refer
to other files are refused before, and QEMU is told to open no backing file whatever the image says; memory is
limited, and it dies with us.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from converters import childguard
from converters.errors import NO_ROOM, Cancelled, ConverterFailed, DiskFull, SizeMismatch
from converters.references import refuse_references

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from converters.formats import DiskFormat
    from converters.sink import Progress

_POLL_SECONDS = 0.2  # how soon a stop is seen
_MAX_OUTPUT = 64 * 1024
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_QEMU_IMG = "qemu-img"


def convert(
    src: Path,
    image_format: DiskFormat,
    dst: Path,
    *,
    size_bytes: int,
    on_progress: Progress,
    stop: threading.Event,
) -> None:
    """Write the content of the image `src` into the raw file `dst`, leaving holes where it is zero.

    Args:
        src: The image; not modified.
        image_format: Its format.
        dst: An existing file of `size_bytes` that is all zero.
        size_bytes: Virtual size that the image must have.
        on_progress: Told bytes of the virtual disk, of which qemu-img has done so many percent.
        stop: Kills the process group.

    Raises:
        UnsupportedFormat: the image refers to other files.
        SizeMismatch: its virtual size is another one.
        ConverterFailed: qemu-img is missing or refuses.
        DiskFull: there is no room for the raw file.
        Cancelled: `stop` was set.
    """
    refuse_references(src, image_format)
    file = {"driver": "file", "filename": os.fspath(src.absolute())}
    source = "json:" + json.dumps({"driver": image_format, "file": file, "backing": None})
    info = _run(["info", "--output=json", source], stop)
    try:
        actual = int(json.loads(info)["virtual-size"])
    except (ValueError, KeyError, TypeError) as exc:
        raise ConverterFailed("qemu-img does not tell the size of the image") from exc
    if actual != size_bytes:
        raise SizeMismatch(f"the {image_format} image is a disk of {actual} bytes, expected {size_bytes}")

    def on_output(output: bytes) -> None:
        percents = _PERCENT.findall(output)
        if percents:
            on_progress(min(size_bytes, int(size_bytes * float(percents[-1]) / 100)))

    command = ["convert", "-p", "-n", "--target-is-zero", "-S", "64k", "-O", "raw"]
    _run([*command, source, os.fspath(dst.absolute())], stop, on_output)
    on_progress(size_bytes)


def _run(
    arguments: list[str], stop: threading.Event, on_output: Callable[[bytes], None] | None = None
) -> bytes:
    """Run qemu-img to its end and return the last `_MAX_OUTPUT` bytes of its standard output."""
    guard = [sys.executable, "-I", childguard.__file__, str(os.getpid())]
    try:
        process = subprocess.Popen(  # noqa: S603  # no shell, fixed program, absolute paths
            [*guard, _QEMU_IMG, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
            bufsize=0,
        )
    except OSError as exc:
        raise ConverterFailed(f"qemu-img cannot be started: {exc.strerror}") from exc
    with process:
        try:
            output, complaint = _follow(process, stop, on_output)
            code = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        if any(os.strerror(number) in last for number in NO_ROOM):  # in English, as LC_ALL says
            raise DiskFull(f"qemu-img {arguments[0]} found no room: {last}")
        raise ConverterFailed(f"qemu-img {arguments[0]} failed ({code}): {last}")
    return output


def _follow(
    process: subprocess.Popen[bytes], stop: threading.Event, on_output: Callable[[bytes], None] | None
) -> tuple[bytes, bytes]:
    """Read both outputs until the process closes them."""
    output, complaint = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, output), (process.stderr, complaint)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, kept)
        while selector.get_map():
            for key, _ in selector.select(_POLL_SECONDS):
                data = os.read(key.fd, _MAX_OUTPUT)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                key.data.extend(data)
                del key.data[:-_MAX_OUTPUT]
                if key.data is output and on_output is not None:
                    on_output(data)
            if stop.is_set():
                raise Cancelled("stopped")
    return bytes(output), bytes(complaint)
