"""Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`. Nothing is decided here."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from controller.metrics import CONTENT_TYPE, Metrics

_CLIENT_TIMEOUT_SECONDS = 10.0
_PLAIN = "text/plain; charset=utf-8"


class Vitals(Protocol):
    """What is to be told; each call answers within a second or so."""

    def ailments(self) -> list[str]:
        """Return why the process should be replaced; empty: it is alive."""
        ...

    def obstacles(self) -> list[str]:
        """Return why no work should be sent here; empty: it is ready."""
        ...

    def remarks(self) -> list[str]:
        """Return what else a person should know."""
        ...


class HealthServer:
    """Answers probes and scrapes, in threads of its own.

    `/healthz` and `/readyz` are 200 with `ok` and remarks, or 503 with what is wrong, one sentence a line.

    Ready means: acts, and serves images. A standby is alive and not ready, and says who leads: the Service of
    the image server sends readers to ready pods only, and a standby has no image to serve. A leader that
    cannot renew its lease is not ready either, for another may have taken over. The price: of two replicas
    one is always unready, so that tools which wait for all replicas of a Deployment wait in vain. With
    strategy Recreate nothing else does: no pod waits for another to become ready.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, vitals: Vitals) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            OSError: the port is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            timeout = _CLIENT_TIMEOUT_SECONDS

            def do_GET(self) -> None:  # the name that http.server wants
                if self.path == "/healthz":
                    self._tell(vitals.ailments())
                elif self.path == "/readyz":
                    self._tell(vitals.obstacles())
                elif self.path == "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE, metrics.render())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, _PLAIN, b"not found\n")

            def _tell(self, wrong: list[str]) -> None:
                status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
                lines = wrong or ["ok", *vitals.remarks()]
                self._answer(status, _PLAIN, ("\n".join(lines) + "\n").encode())

            def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name upstream
                """Say nothing: probes come every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start answering; once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
