"""The bytes of one image, from Glance."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from providers import tls
from providers.errors import ProviderError, TransferInterrupted
from providers.openstack.catalogue import Service
from providers.openstack.endpoint import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import HTTPResponse

    from providers.openstack.facts import JSON
    from providers.openstack.session import Session

IDLE_TIMEOUT = 60.0  # seconds of silence after which the bytes count as stalled
CHUNK_BYTES = 256 * 1024
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
        if self._socket is not None:
            # The plain socket's method: SSLSocket's own one forgets the TLS layer under a reader's feet.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()

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
            "User-Agent": "harvester-vm-import-controller",
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
        with self._translated():
            connection.request(
                "GET", self._target, headers=headers, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
        with self._lock:
            self._response = response
        return response

    def _connect(self) -> HTTPConnection:
        origin = self._origin
        connection: HTTPConnection
        if origin.scheme == "https":
            context = self._session.http.context(origin)
            connection = HTTPSConnection(
                origin.host, origin.port, timeout=tls.CONNECT_TIMEOUT, ssl_context=context
            )
        else:
            connection = HTTPConnection(origin.host, origin.port, timeout=tls.CONNECT_TIMEOUT)
        try:
            connection.connect()
        except (HTTPError, OSError) as exc:
            connection.close()
            raise tls.connection_error(_os_error(exc), f"{self._what}: {origin.authority}") from exc
        connection.sock.settimeout(IDLE_TIMEOUT)
        connection.timeout = IDLE_TIMEOUT
        return connection

    def _rest(self) -> Iterator[bytes]:
        response = self._response
        if response is None:
            raise TransferInterrupted(f"{self._what}: not opened")
        received = response.stream(CHUNK_BYTES, decode_content=False)
        while True:
            with self._translated():
                chunk = next(received, None)
            if chunk is None:
                return
            yield chunk

    def _drop(self) -> None:
        with self._lock:
            self._hang_up()
            self._connection = self._socket = self._response = None

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn whatever the libraries raise, and any end that `close` brought about, into our error."""
        try:
            yield
        except ProviderError:
            raise
        except (HTTPError, http.client.HTTPException, OSError, ValueError, AttributeError) as exc:
            how = "closed by the reader" if self._closed.is_set() else _in_words(exc)
            raise TransferInterrupted(f"{self._what}: {how}") from exc
        if self._closed.is_set():
            raise TransferInterrupted(f"{self._what}: closed by the reader")


def _checksum(image: JSON) -> tuple[str, str] | None:
    """Return Glance's multihash, else its MD5; what Ceph clones inside itself has neither."""
    if image.get("os_hash_algo") and image.get("os_hash_value"):
        return str(image["os_hash_algo"]), str(image["os_hash_value"])
    return ("md5", str(image["checksum"])) if image.get("checksum") else None


def _os_error(exc: BaseException) -> OSError:
    """Return the socket's or OpenSSL's error inside urllib3's."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or OSError(str(exc))


def _in_words(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError | ReadTimeoutError):
        return f"no byte for {IDLE_TIMEOUT:.0f} s"
    return f"the connection broke ({type(exc).__name__})"
