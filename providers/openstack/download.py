"""The bytes of one image, from Glance."""

from __future__ import annotations

import http.client
import threading
from typing import TYPE_CHECKING

from providers import wire
from providers.errors import TransferInterrupted
from providers.openstack.catalogue import Service
from providers.openstack.endpoint import Origin

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from urllib3.connection import HTTPConnection
    from urllib3.response import HTTPResponse

    from providers.openstack.facts import JSON
    from providers.openstack.session import Session

IDLE_TIMEOUT = 60.0  # seconds of silence after which the bytes count as stalled
RESUMES = 5  # times that a dropped download goes on where it was, without a byte in between
# Glance's `disk_format` where it differs from qemu-img's word.
_FORMATS = {"vhd": "vpc"}


class GlanceStream:
    """An image as it comes from Glance. A dropped connection goes on where it was, if the store has ranges.

    `close` may be called from any thread and makes a reader that is blocked in `chunks` end at once. The
    token is sent to the image service only: no redirect is followed.
    """

    def __init__(self, session: Session, image: JSON, what: str) -> None:
        """Ask for nothing yet.

        Args:
            session: Logged in.
            image: Glance's description of an active image.
            what: The disk, for messages.
        """
        self._session = session
        self._what = what
        url = session.url(Service.IMAGE)
        self._origin = Origin.of(url)
        self._target = f"/{url.split('/', 3)[3]}/images/{image['id']}/file"
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: HTTPResponse | None = None
        declared = str(image.get("disk_format") or "raw")
        self.format = _FORMATS.get(declared, declared)
        self.length = int(image["size"]) if image.get("size") is not None else None
        self.checksum = _checksum(image)

    def open(self) -> GlanceStream:
        """Ask for the bytes and read the answer's head.

        Raises:
            TransferInterrupted: the answer is not the image.
            CertificateNotTrusted, CertificateChanged, Unreachable: no connection.
        """
        self._ask(0)
        return self

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive.

        Raises:
            TransferInterrupted: cut too often, stalled, or closed.
        """
        position, resumes = 0, 0
        while True:
            try:
                for chunk in self._rest():
                    position += len(chunk)
                    resumes = 0
                    yield chunk
            except TransferInterrupted:
                resumes += 1
                if self._closed.is_set() or not position or resumes > RESUMES:
                    raise
            else:
                if self.length is None or position >= self.length:
                    return
                resumes += 1
                if resumes > RESUMES:
                    raise TransferInterrupted(f"{self._what}: the bytes ended early, at {position}")
            self._ask(position)

    def report(self, fraction: float) -> None:
        """Glance does not want to know."""

    def close(self) -> None:
        """End the stream; idempotent."""
        self._closed.set()
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._socket is not None and self._connection is not None:
            wire.hang_up(self._socket, self._response, self._connection)

    def _ask(self, position: int) -> None:
        token = self._session.token()
        response = self._request(position, token)
        if response.status == http.client.UNAUTHORIZED:
            response = self._request(position, self._session.token(stale=token))
        wanted = http.client.PARTIAL_CONTENT if position else http.client.OK
        if response.status != wanted:
            self._drop()
            if position and response.status == http.client.OK:
                raise TransferInterrupted(
                    f"{self._what}: cut at {position}, and the image's store has no ranges"
                )
            raise TransferInterrupted(f"{self._what}: Glance answered {response.status} {response.reason}")

    def _request(self, position: int, token: str) -> HTTPResponse:
        """Make a new connection and ask for the bytes from `position` on."""
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": wire.USER_AGENT,
            "X-Auth-Token": token,
        }
        if position:
            headers["Range"] = f"bytes={position}-"
        self._drop()
        connection = self._connect()
        with self._lock:
            self._connection, self._socket = connection, connection.sock
        if self._closed.is_set():  # before it could see this connection
            self.close()
        with wire.translated(self._what, self._closed, IDLE_TIMEOUT):
            connection.request(
                "GET", self._target, headers=headers, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
        with self._lock:
            self._response = response
        return response

    def _connect(self) -> HTTPConnection:
        origin = self._origin
        context = self._session.http.context(origin) if origin.scheme == "https" else None
        connection = wire.connect(origin.host, origin.port, context, f"{self._what}: {origin.authority}")
        wire.wait_at_most(connection, IDLE_TIMEOUT)
        return connection

    def _rest(self) -> Iterator[bytes]:
        response = self._response
        if response is None:
            raise TransferInterrupted(f"{self._what}: not opened")
        yield from wire.chunks(response, self._what, self._closed, IDLE_TIMEOUT)

    def _drop(self) -> None:
        with self._lock:
            self._hang_up()
            self._connection = self._socket = self._response = None


def _checksum(image: JSON) -> tuple[str, str] | None:
    """Return Glance's multihash, else its MD5; what Ceph clones inside itself has neither."""
    if image.get("os_hash_algo") and image.get("os_hash_value"):
        return str(image["os_hash_algo"]), str(image["os_hash_value"])
    return ("md5", str(image["checksum"])) if image.get("checksum") else None
