"""Orders to a proxy to misbehave, and the server that carries them out on its connections."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te"})

Action = Literal["answer", "delay", "drop", "lose", "cut", "silence"]


@dataclass(slots=True, eq=False)
class Fault:
    """One order.

    Attributes:
        action: `answer` (with `status`, the server is not asked), `delay`, `drop` (the connection, before the
            server is asked), `lose` (the connection, after the server has acted), `cut` (a watch, in the
            middle of its next line; another answer, after `after_bytes` of its body), `silence` (a watch, or
            another answer after `after_bytes`: nothing comes any more, and it stays open).
        verb: `WATCH` or the HTTP method; empty means any but WATCH.
        path: Regular expression that the path has to contain.
        status: See `action`.
        retry_after: Seconds, as header of the answer.
        seconds: Of a delay; half of it passes before the server is asked, half before its answer is given.
        after_bytes: See `action`.
        count: How often it happens; -1: until `clear`.
        probability: Of its happening to a request that it fits.
        fired: How often it has happened.
    """

    action: Action
    verb: str = ""
    path: str = ""
    status: int = 500
    retry_after: int | None = None
    seconds: float = 0
    after_bytes: int = 0
    count: int = 1
    probability: float = 1
    fired: int = 0

    def fits(self, verb: str, path: str) -> bool:
        """Tell whether a request is one that it may happen to."""
        wanted = verb != "WATCH" if not self.verb else verb == self.verb
        return wanted and self.count != self.fired and re.search(self.path, path) is not None


class Request(NamedTuple):
    """A request that came; `status` 0 when it got no answer."""

    verb: str
    path: str
    status: int


@dataclass
class Book:
    """Orders, and what came; shared by all connections."""

    rng: random.Random
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, verb: str, path: str, *actions: Action) -> Fault | None:
        """Return the first order for a request and count it."""
        with self.lock:
            for fault in self.faults:
                if fault.action in actions and fault.fits(verb, path):
                    if self.rng.random() >= fault.probability:
                        continue
                    fault.fired += 1
                    return fault
        return None

    def note(self, verb: str, path: str, status: int) -> None:
        """Write a request down."""
        with self.lock:
            self.requests.append(Request(verb, path, status))


class FaultyServer(ThreadingHTTPServer):
    """Accepts, with TLS or without, and knows what is open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, tls: ssl.SSLContext | None) -> None:
        super().__init__(address, handler)
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make the handshake here, in the connection's own thread: a slow one must not hold up the others."""
        try:
            wrapped = self._tls.wrap_socket(request, server_side=True) if self._tls else request
        except OSError:
            request.close()
            return
        with self._lock:
            self._open.add(wrapped)
        try:
            super().process_request_thread(wrapped, client_address)
        finally:
            with self._lock:
                self._open.discard(wrapped)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that connections break is what this server is for."""

    def reset(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            break_off(connection)


def break_off(connection: socket.socket) -> None:
    """Reset a connection: the peer sees an error, not an end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
