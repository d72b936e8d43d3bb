"""A web server of the files of one folder, as slow per connection as is wanted: `python -m ... FOLDER`.

`GET /name?rate=25000000` sends 25 MB per second. Prints its port.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import os
import threading
import time
import urllib.parse
from pathlib import Path

PIECE_BYTES = 256 * 1024


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
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                self.wfile.flush()
                with contextlib.suppress(ConnectionError):  # the reader has gone
                    _send(self.connection.fileno(), file.fileno(), size, rate)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def _send(connection: int, file: int, size: int, rate: float) -> None:
    pause = threading.Event()
    started = time.monotonic()
    sent = 0
    while sent < size:
        sent += os.sendfile(connection, file, sent, min(PIECE_BYTES, size - sent) if rate else size - sent)
        if rate:
            pause.wait(max(0.0, started + sent / rate - time.monotonic()))


if __name__ == "__main__":
    main()
