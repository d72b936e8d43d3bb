"""The bytes of one disk of an export, over HTTPS."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING

from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from providers import tls
from providers.errors import TransferInterrupted

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from urllib3.response import HTTPResponse

    from providers.vmware.nfc import DiskURL

IDLE_TIMEOUT = 60.0  # seconds of silence after which a disk's bytes count as stalled
CHUNK_BYTES = 256 * 1024  # four grains: large enough that the calls do not count


class NfcDiskStream:
    """A streamOptimized VMDK as it comes from vCenter or an ESXi host.

    The connection is made, and its certificate checked, by `open`. `close` may be called from any thread and
    makes a reader that is blocked in `chunks` end at once.
    """

    format = "vmdk"
    checksum: tuple[str, str] | None = None

    def __init__(self, what: str, connection: HTTPSConnection, report: Callable[[float], None]) -> None:
        self._what = what
        self._connection = connection
        self._report = report
        # Kept apart: http.client forgets its socket as soon as the answer says `Connection: close`.
        self._socket: socket.socket = connection.sock
        self._response: HTTPResponse | None = None
        self._closed = threading.Event()
        self.length: int | None = None

    @classmethod
    def connect(
        cls, what: str, url: DiskURL, context: ssl.SSLContext, report: Callable[[float], None]
    ) -> NfcDiskStream:
        """Make the connection; nothing is asked yet.

        Args:
            what: The disk, for messages.
            url: Where it is.
            context: Checks the host's certificate.
            report: Called with the fraction that was read.

        Raises:
            CertificateNotTrusted, CertificateChanged: as the context says.
            Unreachable: no connection can be made.
        """
        connection = HTTPSConnection(url.host, url.port, timeout=tls.CONNECT_TIMEOUT, ssl_context=context)
        try:
            connection.connect()
        except (HTTPError, OSError, UnicodeError) as exc:
            connection.close()
            raise tls.connection_error(_os_error(exc), f"{what}: {url.host}:{url.port}") from exc
        return cls(what, connection, report)

    def request(self, target: str, cookie: str | None) -> None:
        """Ask for the disk and read the answer's head.

        Args:
            target: Path and query.
            cookie: For the endpoint itself only.

        Raises:
            TransferInterrupted: the answer is not the disk.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "harvester-vm-import-controller"}
        if cookie is not None:
            headers["Cookie"] = cookie
        with self._translated():
            self._socket.settimeout(IDLE_TIMEOUT)
            self._connection.timeout = IDLE_TIMEOUT
            self._connection.request(
                "GET", target, headers=headers, preload_content=False, decode_content=False
            )
            response = self._connection.getresponse()
        if response.status != http.client.OK:
            self.close()
            raise TransferInterrupted(f"{self._what}: the host answered {response.status} {response.reason}")
        self._response = response
        self.length = response.length_remaining

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive.

        Raises:
            TransferInterrupted: cut, stalled for `IDLE_TIMEOUT`, or closed.
        """
        assert self._response is not None  # noqa: S101  # `request` came first
        received = self._response.stream(CHUNK_BYTES, decode_content=False)
        while True:
            with self._translated():
                chunk = next(received, None)
            if chunk is None:
                return
            yield chunk

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def report(self, fraction: float) -> None:
        """Tell the lease how far the reader is (0..1)."""
        self._report(fraction)

    def close(self) -> None:
        """End the stream; idempotent."""
        self._closed.set()
        # The plain socket's method: SSLSocket's own one forgets the TLS layer, so that a reader in another
        # thread would be given ciphertext. The descriptor itself is freed with the response, below or by the
        # reader, never under a reader's feet.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        if self._response is not None:
            self._response.close()
        self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn whatever the libraries raise, and any end that `close` brought about, into our error."""
        try:
            yield
        except (HTTPError, http.client.HTTPException, OSError, ValueError, AttributeError) as exc:
            how = "closed by the reader" if self._closed.is_set() else _in_words(exc)
            self.close()
            raise TransferInterrupted(f"{self._what}: {how}") from exc
        if self._closed.is_set():
            raise TransferInterrupted(f"{self._what}: closed by the reader")


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
