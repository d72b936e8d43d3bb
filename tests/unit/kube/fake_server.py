"""An HTTP server on loopback that answers as a test tells it to, byte by byte if need be."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

Answer = tuple[int, Any]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeServer:
    """Answers each request with the next of `answers`; the last one is repeated.

    An answer is `(status, JSON value or bytes)`, or a function that writes to the handler what it likes.
    """

    answers: list[Answer | Callable[[Handler], None]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"fake": self}))
        self.http.daemon_threads = True
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def port(self) -> int:
        return int(self.http.server_address[1])

    def next_answer(self) -> Answer | Callable[[Handler], None]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def kubeconfig(self, directory: Path, token: str = "s3cret-t0ken") -> str:  # noqa: S107  # not a real one
        return write_kubeconfig(directory, f"http://127.0.0.1:{self.port}", token)


class Handler(BaseHTTPRequestHandler):
    """One connection to a `FakeServer`."""

    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def answer(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.fake.requests.append(
            Request(self.command, url.path, query, dict(self.headers), json.loads(body) if body else None)
        )
        answer = self.fake.next_answer()
        if callable(answer):
            answer(self)
        else:
            self.reply(*answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  # names given by http.server

    def reply(self, status: int, body: Any, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """Send one HTTP chunk; the empty one ends the stream."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def hang(self) -> None:
        """Say nothing more until the test is over."""
        self.fake.ending.wait(20)
        self.close_connection = True

    def cut(self) -> None:
        """Break the connection."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass


def write_kubeconfig(directory: Path, server: str, token: str) -> str:
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": server}}],
                "users": [{"name": "fake", "user": {"token": token}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                "current-context": "fake",
            }
        )
    )
    return str(path)
