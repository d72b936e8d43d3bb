"""A web server of OVA files, with the manners of those that people have, and their faults when asked for.

It speaks HTTPS with a certificate of its own authority, or HTTP; asks for a password if it has one; offers
ranges or not; cuts, refuses and redirects as ordered. It remembers every request.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import re
import ssl
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from providers import tls
from tests.lab.ova import Content, length_of, read_content
from tests.lab.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

PIECE_BYTES = 128 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True)
class Request:
    """A request that came.

    Attributes:
        authorization: The header as it came, empty for none.
        sent: Bytes of the body that were sent so far.
    """

    method: str
    path: str
    range: str = ""
    authorization: str = ""
    sent: int = 0


@dataclass(slots=True)
class Manners:
    """How a file is served; may be changed at any time.

    Attributes:
        ranges: Whether ranges are offered.
        head_status: Status of the answer to a HEAD, where it is refused.
        statuses: Of the next answers to GETs, one each, instead of the file.
        cuts: Bytes of the body after which the connection is cut, for the next downloads, one each; a look at
            the beginning of the file is none.
        stall_after: Bytes of the body after which nothing more comes.
        redirect: Where every request is sent.
        etag: Entity tag; empty for none.
        bytes_per_second: How fast; `None` for as fast as it goes.
        without_length: Send neither length nor chunks: the end of the connection is the end of the file.
    """

    ranges: bool = True
    head_status: int | None = None
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    stall_after: int | None = None
    redirect: str = ""
    etag: str = '"1"'
    bytes_per_second: int | None = None
    without_length: bool = False


@dataclass(slots=True)
class Served:
    """A file on the server."""

    parts: Sequence[Content]
    manners: Manners

    @property
    def length(self) -> int:
        """Its bytes."""
        return sum(length_of(part) for part in self.parts)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `stop`."""
        at = 0
        for part in self.parts:
            length = length_of(part)
            first, last = max(start - at, 0), min(stop - at, length)
            while first < last:
                piece = read_content(part, first, min(PIECE_BYTES, last - first))
                first += len(piece)
                yield piece
            at += length


class OvaServer:
    """`with OvaServer() as server: server.put("web.ova", parts); server.url("web.ova")`.

    Attributes:
        username: Asked for when not empty, with `password`.
        requests: All that came so far; each is here before its answer begins.
        ca_pem: The authority of its certificate.
        fingerprint: SHA-256 of its certificate.
        context: Its side of TLS; `None` for plain HTTP.
    """

    def __init__(self, *, secure: bool = True, username: str = "", password: str = "") -> None:
        self.username = username
        self.password = password
        self.requests: list[Request] = []
        self.ca_pem = self.fingerprint = ""
        self.context: ssl.SSLContext | None = None
        self._secure = secure
        self._files: dict[str, Served] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="lab-ova-")
        self._stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"lab": self}))
        if secure:
            self._use_certificate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self._server.server_address[1])

    def url(self, name: str, host: str = "localhost") -> str:
        """Return the URL of a file."""
        return f"{'https' if self._secure else 'http'}://{host}:{self.port}/{urllib.parse.quote(name)}"

    def put(self, name: str, parts: Sequence[Content], manners: Manners | None = None) -> Manners:
        """Serve a file under a name; return its manners."""
        served = Served(parts, manners or Manners())
        self._files[f"/{urllib.parse.quote(name)}"] = served
        return served.manners

    def manners(self, name: str) -> Manners:
        """Return the manners of a file."""
        return self._files[f"/{urllib.parse.quote(name)}"].manners

    def gets(self, name: str) -> list[Request]:
        """Return the GETs of a file."""
        path = f"/{urllib.parse.quote(name)}"
        return [
            request for request in list(self.requests) if request.path == path and request.method == "GET"
        ]

    def find(self, path: str) -> Served | None:
        """Return what is served at a path."""
        return self._files.get(path)

    def wait(self, seconds: float) -> bool:
        """Wait, or end at once when the server ends; return whether it has."""
        return self._stopped.wait(seconds)

    def _use_certificate(self) -> None:
        authority = Authority(Path(self._folder.name), "OVA lab CA")
        pair = authority.issue("server", common_name="localhost", hosts=["localhost", "127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.context = context
        self.ca_pem = authority.certificate.read_text()
        self.fingerprint = tls.fingerprint_of(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._folder.cleanup()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what is tested."""


class _Handler(http.server.BaseHTTPRequestHandler):
    lab: OvaServer  # set by a subclass for each server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds, of an idle connection

    def setup(self) -> None:
        """Shake hands, in the connection's own thread."""
        if self.lab.context is not None:
            self.request = self.lab.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.request.close()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        served = self.lab.find(path)
        self._request = Request(
            self.command, path, self.headers.get("Range", ""), self.headers.get("Authorization", "")
        )
        self.lab.requests.append(self._request)
        if not self._may_enter():
            self._plain(401, {"WWW-Authenticate": 'Basic realm="lab"'})
        elif served is None:
            self._plain(404)
        elif served.manners.redirect:
            self._plain(302, {"Location": served.manners.redirect})
        elif self.command == "HEAD" and served.manners.head_status:
            self._plain(served.manners.head_status)
        elif self.command == "GET" and served.manners.statuses:
            self._plain(served.manners.statuses.pop(0))
        else:
            self._file(served)

    def _may_enter(self) -> bool:
        if not self.lab.username:
            return True
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        wanted = f"{self.lab.username}:{self.lab.password}".encode()
        return kind == "Basic" and wanted == _decoded(encoded)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, served: Served) -> None:
        manners, length = served.manners, served.length
        asked = _RANGE.fullmatch(self.headers.get("Range", "")) if manners.ranges else None
        start, stop = 0, length
        if asked:
            start = int(asked[1])
            stop = min(int(asked[2]) + 1 if asked[2] else length, length)
            if start >= length:
                self._plain(416, {"Content-Range": f"bytes */{length}"})
                return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{length}")
        if manners.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if manners.etag:
            self.send_header("ETag", manners.etag)
        if manners.without_length:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "GET":
            self._body(served, start, stop)

    def _body(self, served: Served, start: int, stop: int) -> None:
        manners, request = served.manners, self._request
        is_download = not request.range.startswith("bytes=0-")
        cut = manners.cuts.pop(0) if is_download and manners.cuts else None
        began = time.monotonic()
        for piece in served.read(start, stop):
            part = piece if cut is None else piece[: cut - request.sent]
            try:
                self.wfile.write(part)
            except OSError:  # the reader has gone
                self.close_connection = True
                return
            request.sent += len(part)
            if cut is not None and request.sent >= cut:
                self.close_connection = True
                return
            if manners.stall_after is not None and request.sent >= manners.stall_after:
                self.lab.wait(3600)
            if manners.bytes_per_second:
                self.lab.wait(max(0.0, began + request.sent / manners.bytes_per_second - time.monotonic()))


def _decoded(encoded: str) -> bytes:
    with contextlib.suppress(ValueError):
        return base64.b64decode(encoded)
    return b""
