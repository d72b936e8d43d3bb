"""A file as it comes over a connection of its own: made, read, broken off, and what went wrong, in our words.

The sources that are read over HTTP have this in common. urllib3's connection is used bare, without its pool
and its retries: where a download goes on, and whether it does, is for each source to say.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from providers import tls
from providers.errors import TransferInterrupted

if TYPE_CHECKING:
    import ssl
    import threading
    from collections.abc import Iterator

    from urllib3.response import HTTPResponse

CHUNK_BYTES: Final = 256 * 1024  # four grains of a VMDK: large enough that the calls do not count
USER_AGENT: Final = "harvester-vm-import-controller"
# The last two are what the libraries raise when another thread closes what they read from.
ERRORS: Final = (HTTPError, http.client.HTTPException, OSError, ValueError, AttributeError)


def connect(host: str, port: int, context: ssl.SSLContext | None, where: str) -> HTTPConnection:
    """Return a connection that is made, its certificate checked; nothing is asked yet.

    Args:
        host: Name or address.
        port: TCP port.
        context: Checks the certificate; `None` for plain HTTP.
        where: The peer, for messages.

    Raises:
        CertificateNotTrusted, CertificateChanged: as the context says.
        Unreachable: no connection can be made.
    """
    if context is None:
        connection = HTTPConnection(host, port, timeout=tls.CONNECT_TIMEOUT)
    else:
        connection = HTTPSConnection(host, port, timeout=tls.CONNECT_TIMEOUT, ssl_context=context)
    try:
        connection.connect()
    except (HTTPError, OSError, UnicodeError) as exc:
        connection.close()
        raise tls.connection_error(_os_error(exc), where) from exc
    return connection


def wait_at_most(connection: HTTPConnection, silence: float | None) -> None:
    """Have the connection give up after so many seconds without a byte; `None`: never."""
    connection.sock.settimeout(silence)
    connection.timeout = silence


def hang_up(sock: socket.socket, response: HTTPResponse | None, connection: HTTPConnection) -> None:
    """End a connection, also under a thread that reads from it; idempotent.

    The socket is told by the plain socket's method: SSLSocket's own one forgets the TLS layer, so that a
    reader in another thread would be given ciphertext. The descriptor itself is freed with the response, here
    or by the reader, never under a reader's feet.

    Args:
        sock: The connection's, kept by the caller: http.client forgets it as soon as an answer says
            `Connection: close`.
        response: What was answered so far.
        connection: To be ended.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    if response is not None:
        response.close()
    connection.close()


def chunks(
    response: HTTPResponse, what: str, closed: threading.Event, silence: float | None
) -> Iterator[bytes]:
    """Yield a body as it arrives.

    Args:
        response: Its head was read.
        what: The file, for messages.
        closed: Set before the reader's own side hangs up.
        silence: Seconds after which the connection gives up, for messages.

    Raises:
        TransferInterrupted: see `translated`.
    """
    received = response.stream(CHUNK_BYTES, decode_content=False)
    while True:
        with translated(what, closed, silence):
            chunk = next(received, None)
        if chunk is None:
            return
        yield chunk


@contextlib.contextmanager
def translated(what: str, closed: threading.Event, silence: float | None) -> Iterator[None]:
    """Turn whatever the libraries raise, and any end that was brought about by `closed`, into our error.

    Raises:
        TransferInterrupted: broken, silent for too long, or closed by the reader.
    """
    try:
        yield
    except ERRORS as exc:
        how = "closed by the reader" if closed.is_set() else in_words(exc, silence)
        raise TransferInterrupted(f"{what}: {how}") from exc
    if closed.is_set():
        raise TransferInterrupted(f"{what}: closed by the reader")


def in_words(exc: BaseException, silence: float | None) -> str:
    """Return what happened, without what the libraries quote: addresses with signatures, for instance."""
    # With an errno (ETIMEDOUT) it was the kernel that gave up, at a time of its own.
    waited = isinstance(exc, TimeoutError | ReadTimeoutError) and _os_error(exc).errno is None
    if waited and silence is not None:
        return f"no byte for {silence:g} s"
    return f"the connection broke ({type(exc).__name__})"


def _os_error(exc: BaseException) -> OSError:
    """Return the socket's or OpenSSL's error inside urllib3's."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or OSError(str(exc))
