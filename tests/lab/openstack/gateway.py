"""What tenants reach the cloud through: a relay before each service, plain and with TLS, faulty to order.

HTTP/1.1, a thread for each connection; bodies are streamed. The services reach each other without it. What
may not live here: what the calls mean.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.lab.faults import HOP_BY_HOP, Action, Book, Fault, FaultyServer, Request, break_off
from tests.lab.openstack.site import ADDRESS
from tests.lab.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

UPSTREAM_SECONDS = 600
READ_BYTES = 1 << 16
STOP_POLL_SECONDS = 0.02
NO_CONTENT, NOT_MODIFIED = 204, 304


class Gateway:
    """The relay before one service, inside `open` and `close`.

    Args:
        upstream_port: The service's own.
        tls: Context of the second, encrypted door.
    """

    def __init__(self, upstream_port: int, tls: ssl.SSLContext) -> None:
        self.port, self.tls_port = free_ports(2)
        self._doors = {self.port: None, self.tls_port: tls}
        self._book = Book(random.Random(0))  # noqa: S311  # a fault's dice
        self._servers: list[tuple[FaultyServer, threading.Thread]] = []
        self._upstream_port = upstream_port

    def order(self, action: Action, **details: Any) -> Fault:
        """Order a fault (see `Fault`; there are no watches here); return it, to see how often it happened."""
        fault = Fault(action, **details)
        with self._book.lock:
            self._book.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all orders."""
        with self._book.lock:
            self._book.faults.clear()

    def requests(self, verb: str = "", path: str = "") -> list[Request]:
        """Return the requests so far, in the order of their answers."""
        with self._book.lock:
            return [
                request
                for request in self._book.requests
                if request.verb.startswith(verb) and re.search(path, request.path)
            ]

    def open(self) -> None:
        """Listen; always on the same ports."""
        for port, tls in self._doors.items():
            server = FaultyServer(
                (ADDRESS, port), _relay(self._book, self._upstream_port, tls is not None), tls
            )
            thread = threading.Thread(
                target=server.serve_forever, args=(STOP_POLL_SECONDS,), name=f"gateway {port}", daemon=True
            )
            thread.start()
            self._servers.append((server, thread))

    def close(self) -> None:
        """Refuse connections and reset those that are open. Idempotent."""
        for server, thread in self._servers:
            server.shutdown()
            thread.join()
            server.server_close()
            server.reset()
        self._servers.clear()

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
        for server, _ in self._servers:
            server.reset()


def _relay(book: Book, upstream_port: int, encrypted: bool) -> type[BaseHTTPRequestHandler]:  # noqa: FBT001
    class Handler(_Relay):
        pass

    Handler.book, Handler.upstream_port = book, upstream_port
    Handler.scheme = "https" if encrypted else "http"
    return Handler


class _Relay(BaseHTTPRequestHandler):
    """Hands each request on over a connection of its own."""

    protocol_version = "HTTP/1.1"
    book: Book
    upstream_port: int
    scheme: str

    def do_GET(self) -> None:
        verb = str(self.command)
        upstream = http.client.HTTPConnection(ADDRESS, self.upstream_port, timeout=UPSTREAM_SECONDS)
        try:
            self._handle(verb, upstream)
        except (OSError, http.client.HTTPException):
            self._break()
        finally:
            upstream.close()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815  # the names that http.server wants

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name upstream
        """Say nothing."""

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _handle(self, verb: str, upstream: http.client.HTTPConnection) -> None:
        if delay := self.book.take(verb, self.path, "delay"):
            threading.Event().wait(delay.seconds)
        fault = self.book.take(verb, self.path, "answer", "drop", "lose", "cut", "silence")
        if fault and fault.action == "drop":
            self.book.note(verb, self.path, 0)
            self._break()
            return
        if fault and fault.action == "answer":
            for _ in self._body():
                pass
            self.book.note(verb, self.path, fault.status)
            self._refuse(fault)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["X-Forwarded-Proto"] = self.scheme
        length = self.headers.get("Content-Length")
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif length is not None:
            headers["Content-Length"] = length
        body = self._body() if chunked or length not in (None, "0") else None
        upstream.request(verb, self.path, body=body, headers=headers, encode_chunked=chunked)
        answer = upstream.getresponse()
        self.book.note(verb, self.path, 0 if fault else answer.status)
        if fault and fault.action == "lose":
            answer.read()
            self._break()
            return
        self._answer(answer, fault)

    def _body(self) -> Iterator[bytes]:
        """Yield the request's body as it comes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            data = self.rfile.read(min(left, READ_BYTES))
            if not data:
                raise ConnectionResetError
            left -= len(data)
            yield data

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or answer.status in (NO_CONTENT, NOT_MODIFIED)
        length = answer.getheader("Content-Length")
        chunked = length is None and not bodiless
        if length is not None:
            self.send_header("Content-Length", length)
        elif chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while not bodiless and (data := answer.read1(READ_BYTES)):
            if fault is not None and sent + len(data) >= fault.after_bytes:
                self._send(data[: fault.after_bytes - sent], chunked=chunked)
                if fault.action == "silence":
                    self.rfile.read(1)  # until the client has had enough
                    self._break()
                self.close_connection = True  # and no reset, which would take back what was sent
                return
            self._send(data, chunked=chunked)
            sent += len(data)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        elif length is not None and not bodiless and sent < int(length):
            self._break()  # the service broke off, and so does this

    def _send(self, data: bytes, *, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked and data else data)

    def _refuse(self, fault: Fault) -> None:
        body = b"ordered by the test"
        self.send_response_only(fault.status)
        if fault.retry_after is not None:
            self.send_header("Retry-After", str(fault.retry_after))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break(self) -> None:
        self.close_connection = True
        break_off(self.connection)
