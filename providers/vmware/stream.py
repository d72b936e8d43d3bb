"""The bytes of one disk of an export, over HTTPS."""

from __future__ import annotations

import http.client
import threading
from typing import TYPE_CHECKING

from providers import wire
from providers.errors import TransferInterrupted

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    from urllib3.connection import HTTPConnection
    from urllib3.response import HTTPResponse

    from providers.vmware.nfc import DiskURL

IDLE_TIMEOUT = 60.0  # seconds of silence after which a disk's bytes count as stalled


class NfcDiskStream:
    """A streamOptimized VMDK as it comes from vCenter or an ESXi host.

    The connection is made, and its certificate checked, by `open`. `close` may be called from any thread and
    makes a reader that is blocked in `chunks` end at once.
    """

    format = "vmdk"
    checksum: tuple[str, str] | None = None

    def __init__(self, what: str, connection: HTTPConnection, report: Callable[[float], None]) -> None:
        self._what = what
        self._connection = connection
        self._report = report
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
        connection = wire.connect(url.host, url.port, context, f"{what}: {url.host}:{url.port}")
        return cls(what, connection, report)

    def request(self, target: str, cookie: str | None) -> None:
        """Ask for the disk and read the answer's head.

        Args:
            target: Path and query.
            cookie: For the endpoint itself only.

        Raises:
            TransferInterrupted: the answer is not the disk.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": wire.USER_AGENT}
        if cookie is not None:
            headers["Cookie"] = cookie
        try:
            with wire.translated(self._what, self._closed, IDLE_TIMEOUT):
                wire.wait_at_most(self._connection, IDLE_TIMEOUT)
                self._connection.request(
                    "GET", target, headers=headers, preload_content=False, decode_content=False
                )
                response = self._connection.getresponse()
        except TransferInterrupted:
            self.close()
            raise
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
        try:
            yield from wire.chunks(self._response, self._what, self._closed, IDLE_TIMEOUT)
        except TransferInterrupted:
            self.close()
            raise

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
        wire.hang_up(self._socket, self._response, self._connection)
