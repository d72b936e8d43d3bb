"""A small HTTP server that offers one image, as an image server may: HEAD, GET, ranges, gzip, refusals."""

from __future__ import annotations

import gzip
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

# Short members, as a server makes them that sends holes as ready-made ones.
MEMBER_BYTES = 1 << 18


class ImageSource:
    """Serves `content` under one path while the block lasts.

    Attributes:
        url: Of the image.
        status: What every request is answered with.
        compress: Whether a client that accepts gzip gets it, in many members.
        cut: Whether the connection ends in the middle of a body.
    """

    def __init__(self, content: bytes, *, compress: bool = False) -> None:
        self.content = content
        self.status = HTTPStatus.OK
        self.compress = compress
        self.cut = False
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                source.answer(self, with_body=False)

            def do_GET(self) -> None:
                source.answer(self, with_body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/image.raw"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        """Answer one request."""
        status, body, headers = self.status, self.content, {}
        if status is HTTPStatus.OK and (
            match := re.match(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        ):
            status, body = HTTPStatus.PARTIAL_CONTENT, body[int(match[1]) : int(match[2]) + 1]
        elif with_body and self.compress and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            starts = range(0, len(body), MEMBER_BYTES)
            body = b"".join(gzip.compress(body[start : start + MEMBER_BYTES], 1) for start in starts)
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body[: len(body) // 2] if self.cut else body)
