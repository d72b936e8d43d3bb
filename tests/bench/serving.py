"""Serving images to a Go client: beside nginx, and by gzip beside the plain bytes."""

from __future__ import annotations

import os
import random
import socket
import statistics
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from controller import log
from controller.imageserver import ImageServer
from controller.scratch import DiskRecord, Scratch
from tests.bench.figures import Figure
from tests.lab import debian, toolchain
from tests.lab.errors import LabError
from tests.lab.ports import free_ports
from tests.lab.processes import LabProcess, wait_until
from tests.lab.reader import Reading, read

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 5
MEBIBYTE = 1 << 20
SIZE = 8192 * MEBIBYTE
DATA = 1024 * MEBIBYTE
RUN_BYTES = 8 * MEBIBYTE  # of data at once; the holes between are seven times as long
LINK = 110e6  # bytes per second: what a link of 1 Gbit/s carries of a file
# With Longhorn's reads of 4 KiB it is the client that is measured; to measure the servers it must be quick.
QUICK_BUFFER = 256 * 1024
UID = "bench"

# As Debian's nginx is set up, where that matters here; one worker, as a connection has one anyway.
NGINX = """
daemon off; master_process off; worker_processes 1; error_log stderr; pid {home}/pid;
events {{ worker_connections 64; }}
http {{
  sendfile on; tcp_nopush on; access_log off; keepalive_timeout 65; gzip off;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def run() -> list[Figure]:
    """Read one image, which is in the page cache, again and again; what is compared takes turns."""
    program = debian.unpacked_program("nginx", "usr/sbin/nginx")
    toolchain.go_program("reader")
    log.configure()
    with TemporaryDirectory(prefix="bench-serving-") as temporary:
        scratch = Scratch(Path(temporary, "scratch"))
        image = _make_image(scratch)
        server = ImageServer(scratch, "127.0.0.1", 0)
        server.start()
        try:
            ours = f"http://127.0.0.1:{server.port}{server.publish(UID, 0)}"
            with _nginx(program, image.parent, Path(temporary)) as port:
                figures = [_beside_nginx(ours, f"http://127.0.0.1:{port}/{image.name}")]
            return [*figures, *_gzip(ours)]
        finally:
            server.stop()


def _beside_nginx(ours: str, theirs: str) -> Figure:
    urls = {"ours": ours, "theirs": theirs}
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(RUNS + 1):
        for name, url in urls.items():
            reading = _read(url, gzip=False, buffer_bytes=QUICK_BUFFER)
            if number:  # the first one fills the page cache
                rates[name].append(reading.bytes / reading.seconds / 1e6)
    return Figure(
        "serving: identity",
        round(statistics.median(rates["ours"])),
        round(statistics.median(rates["theirs"])),
        "MB/s",
        f"an image of {SIZE >> 30} GiB with {DATA >> 30} GiB of data, as it is, to one Go client on "
        f"loopback; more is better; median of {RUNS}, taking turns; beside: nginx, of the same file",
    )


def _gzip(url: str) -> list[Figure]:
    figures = []
    for name, where, rate in (
        ("loopback", "on loopback", 0.0),
        ("110 MB/s", "over a link of 110 MB/s", LINK),
    ):
        seconds: dict[bool, list[float]] = {True: [], False: []}
        work: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(RUNS):
            for gzip in (True, False):
                before = time.process_time()
                seconds[gzip].append(_read(url, gzip=gzip, bytes_per_second=rate).seconds)
                work[gzip].append(time.process_time() - before)
        what = (
            f"the same image by gzip, {where}, to a default Go client that reads as Longhorn does (4 KiB at "
            f"a time); median of {RUNS}, taking turns; beside: the same without gzip"
        )
        for figure, unit_of, measured in (
            (f"serving: gzip, {name}", what, seconds),
            (f"serving: gzip, {name}, work of the server", f"processor time of the server; {what}", work),
        ):
            median = {gzip: round(statistics.median(measured[gzip]), 2) for gzip in (True, False)}
            figures.append(Figure(figure, median[True], median[False], "s", unit_of))
    return figures


def _read(url: str, *, gzip: bool, bytes_per_second: float = 0, buffer_bytes: int = 4096) -> Reading:
    reading = read(url, gzip=gzip, sha256=False, bytes_per_second=bytes_per_second, buffer_bytes=buffer_bytes)
    if reading.bytes != SIZE or reading.inflated is not gzip:
        raise LabError(f"the client got something else: {reading}")
    return reading


def _make_image(scratch: Scratch) -> Path:
    """Make the image; its data is spread evenly, and nothing of it can be compressed."""
    noise = random.Random(0).randbytes(RUN_BYTES)  # noqa: S311  # the same in every run
    with scratch.prepare(UID, 0).open("wb") as file:
        file.truncate(SIZE)
        for at in range(0, SIZE, SIZE * RUN_BYTES // DATA):
            file.seek(at)
            file.write(noise)
        file.flush()
        os.fsync(file.fileno())
    return scratch.commit(UID, 0, DiskRecord(SIZE, "sparse-sha256-64k:00"))


@contextmanager
def _nginx(program: Path, root: Path, home: Path) -> Iterator[int]:
    """Serve a directory by nginx on a port of 127.0.0.1."""
    (port,) = free_ports(1)
    config = home / "nginx.conf"
    config.write_text(NGINX.format(home=home, port=port, root=root))
    process = LabProcess("nginx", [program, "-p", home, "-c", config, "-e", "stderr"], log=home / "nginx.log")
    process.start()
    try:
        wait_until(lambda: _listens(port), what="nginx to listen", timeout_seconds=30, processes=[process])
        yield port
    finally:
        process.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
