"""A proxy before the API server that misbehaves to order: delays, refusals, lost answers, broken watches.

TLS ends here and begins again: its certificate is of the cluster's own authority, tokens pass through, client
certificates do not. HTTP/1.1, a thread per connection. What may not live here: what the API means.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import yaml

from tests.lab.faults import HOP_BY_HOP, Action, Book, Fault, FaultyServer, Request, break_off
from tests.lab.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.lab.control_plane import ControlPlane

UPSTREAM_SECONDS = 600  # longer than any watch
READ_BYTES = 1 << 16
STOP_POLL_SECONDS = 0.02
REASONS = {
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class ApiProxy:
    """The proxy, inside a `with`.

    Args:
        control_plane: Whose API server stands behind it; it may be away.
        seed: Of the random choices of orders with a probability.
    """

    def __init__(self, control_plane: ControlPlane, *, seed: int = 0) -> None:
        (self._port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self._port}"
        self._book = Book(random.Random(seed))  # noqa: S311  # a fault's dice
        self._directory = control_plane.directory
        pair = control_plane.authority.issue("api-proxy", common_name="api-proxy", hosts=["127.0.0.1"])
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        upstream = ssl.create_default_context(cafile=str(control_plane.authority.certificate))
        host, port = urlsplit(control_plane.url).hostname or "", urlsplit(control_plane.url).port

        def connect() -> http.client.HTTPSConnection:
            return http.client.HTTPSConnection(host, port, timeout=UPSTREAM_SECONDS, context=upstream)

        self._handler = _handler(self._book, connect)
        self._server: FaultyServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def kubeconfig(self, original: Path) -> Path:
        """Return the path of a kubeconfig that leads through the proxy; the `original` has a token."""
        config = yaml.safe_load(original.read_text())
        config["clusters"][0]["cluster"]["server"] = self.url
        path = self._directory / f"proxied-{original.name}"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def order(self, action: Action, **details: Any) -> Fault:
        """Order a fault (see `Fault`); return it, to see how often it happened."""
        fault = Fault(action, **details)
        with self._book.lock:
            self._book.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all orders; watches that are silent stay so until their client gives up."""
        with self._book.lock:
            self._book.faults.clear()

    def requests(self, verb: str = "", path: str = "") -> list[Request]:
        """Return the requests so far, in the order of their answers (of a watch: of its beginning)."""
        with self._book.lock:
            return [
                request
                for request in self._book.requests
                if request.verb.startswith(verb) and re.search(path, request.path)
            ]

    def open(self) -> None:
        """Listen; always on the same port."""
        self._server = FaultyServer(("127.0.0.1", self._port), self._handler, self._tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_SECONDS,), name="api-proxy", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Refuse connections and reset those that are open. Idempotent."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            thread.join()
            server.server_close()
            server.reset()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Be unreachable inside the block."""
        self.close()
        try:
            yield
        finally:
            self.open()

    def reset(self) -> None:
        """Reset every connection that is open."""
        if self._server is not None:
            self._server.reset()


def _handler(book: Book, connect: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(_Relay):
        def setup(self) -> None:
            super().setup()
            self.book = book
            self.upstream = connect()

    return Handler


class _Relay(BaseHTTPRequestHandler):
    """Hands requests on and answers back, over one connection of its own to the server."""

    protocol_version = "HTTP/1.1"
    book: Book
    upstream: http.client.HTTPSConnection

    def do_GET(self) -> None:
        self._relay()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # the names that http.server wants

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name upstream
        """Say nothing."""

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        verb = "WATCH" if "watch=true" in self.path else str(self.command)
        delay = self.book.take(verb, self.path, "delay")
        pause = threading.Event()
        if delay:
            pause.wait(delay.seconds / 2)
        fault = self.book.take(verb, self.path, "answer", "drop", "lose")
        if fault and fault.action == "answer":
            self.book.note(verb, self.path, fault.status)
            self._answer(fault)
            return
        try:
            if fault and fault.action == "drop":
                self.book.note(verb, self.path, 0)
                raise ConnectionResetError
            answer = self._ask(body)
            if delay:
                pause.wait(delay.seconds / 2)
            self.book.note(verb, self.path, 0 if fault else answer.status)
            if fault:
                answer.read()
                raise ConnectionResetError
        except (OSError, http.client.HTTPException):
            self._break()
            return
        if verb == "WATCH":
            self._stream(answer)
        else:
            self._send(answer.status, dict(answer.getheaders()), answer.read())

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        self.upstream.request(self.command, self.path, body=body or None, headers=headers)
        return self.upstream.getresponse()

    def _answer(self, fault: Fault) -> None:
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": "ordered by the test",
            "reason": REASONS.get(fault.status, "Unknown"),
            "code": fault.status,
        }
        headers = {"Content-Type": "application/json"}
        if fault.retry_after is not None:
            headers["Retry-After"] = str(fault.retry_after)
        self._send(fault.status, headers, json.dumps(status).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        silent = False
        while chunk := answer.read1(READ_BYTES):
            silent = silent or self.book.take("WATCH", self.path, "silence") is not None
            if silent:
                continue
            if self.book.take("WATCH", self.path, "cut"):
                self._chunk(chunk[: len(chunk) // 2])
                self._break()
                return
            self._chunk(chunk)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _break(self) -> None:
        self.close_connection = True
        break_off(self.connection)
