"""A web server of the files of one folder, as slow per connection as is wanted: `python -m ... FOLDER`.

`GET /name?rate=25000000` sends 25 MB per second. Ranges are offered. Prints its port.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Serve a folder from a process of its own; yields the URL of its root."""
    command = [sys.executable, "-m", "tests.bench.disk_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            rate = float(urllib.parse.parse_qs(url.query).get("rate", ["0"])[0])
            with (folder / Path(url.path).name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                first, end = 0, size
                asked = _RANGE.fullmatch(self.headers.get("Range", ""))
                if asked:
                    first, end = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
                self.send_response(206 if asked else 200)
                if asked:
                    self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
                self.send_header("Content-Length", str(end - first))
                self.end_headers()
                self.wfile.flush()
                with contextlib.suppress(ConnectionError):  # the reader has gone
                    _send(self.connection.fileno(), file.fileno(), first, end, rate)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def _send(connection: int, file: int, first: int, end: int, rate: float) -> None:
    pause = threading.Event()
    started = time.monotonic()
    at = first
    while at < end:
        at += os.sendfile(connection, file, at, min(PIECE_BYTES, end - at) if rate else end - at)
        if rate:
            pause.wait(max(0.0, started + (at - first) / rate - time.monotonic()))


if __name__ == "__main__":
    main()
