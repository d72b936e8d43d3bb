"""Requests to the web server of one source: certificates, credentials, redirects, ranges, silence."""

from __future__ import annotations

import base64
import http.client
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers import tls, wire
from providers.errors import (
    AuthenticationFailed,
    PermissionDenied,
    ProviderError,
    RedirectRefused,
    SourceFileNotFound,
    TransferInterrupted,
    Unreachable,
)
from providers.throttle import LoginThrottle

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator, Mapping

    from urllib3.connection import HTTPConnection
    from urllib3.response import HTTPResponse

    from providers.base import TLSPolicy
    from providers.ova.location import Location

CALL_TIMEOUT = 30.0  # seconds of silence in calls that reconcile waits for
CALL_SECONDS = 60.0  # for all of such a call: who sends a byte now and then is not silent
MAX_REDIRECTS = 5
OK, PARTIAL = http.client.OK, http.client.PARTIAL_CONTENT
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one version of a file from another; empty and `None` where the server does not say.

    Attributes:
        size: Bytes of the whole file.
        etag: Strong entity tag.
        modified: Header `Last-Modified`.
    """

    size: int | None = None
    etag: str = ""
    modified: str = ""

    def differs(self, other: Version) -> bool:
        """Whether the two are surely different: mirrors of one file have tags of their own."""
        if self.size is not None and other.size is not None and self.size != other.size:
            return True
        marks = [
            mine == theirs
            for mine, theirs in ((self.etag, other.etag), (self.modified, other.modified))
            if mine and theirs
        ]
        return bool(marks) and not any(marks)


UNKNOWN = Version()


class Answer:
    """The answer to one request, on a connection of its own; to be closed.

    Attributes:
        status: HTTP status, with redirects followed.
        start: Place in the file of the first byte that comes.
        version: Of the file.
        length: Bytes to come, when known.
        deadline: On the monotonic clock; `None` for none.
    """

    def __init__(
        self, where: str, connection: HTTPConnection, sock: socket.socket, response: HTTPResponse
    ) -> None:
        self._where = where
        self._silence = sock.gettimeout()
        self._connection = connection
        self._socket = sock
        self._response = response
        self._closed = threading.Event()
        headers = response.headers
        self.status = response.status
        self.length = response.length_remaining
        self.start = 0
        self.deadline: float | None = None
        announced = headers.get("Content-Length", "")  # urllib3 counts 0 for the answer to a HEAD
        size = int(announced) if announced.isascii() and announced.isdigit() else None
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if self.status == PARTIAL and match:
            self.start = int(match[1])
            size = int(match[3]) if match[3] != "*" else None
        etag = headers.get("ETag", "")
        self.version = Version(size, "" if etag.startswith("W/") else etag, headers.get("Last-Modified", ""))
        self._partial = self.status == PARTIAL and match is not None

    @property
    def ranged(self) -> bool:
        """Whether it is the part that was asked for, of a file of known size."""
        return self._partial and self.version.size is not None

    @property
    def end_is_certain(self) -> bool:
        """Whether a cut connection cannot be taken for the end of the body."""
        return (
            self.length is not None
            or "chunked" in self._response.headers.get("Transfer-Encoding", "").lower()
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers; names in any case."""
        return self._response.headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            TransferInterrupted: cut, silent for too long, or closed.
        """
        try:
            for chunk in wire.chunks(self._response, self._where, self._closed, self._silence):
                self._check_deadline()
                yield chunk
        except TransferInterrupted:
            self.close()
            raise

    def _check_deadline(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TransferInterrupted(f"{self._where}: the server is too slow")

    def close(self) -> None:
        """End it; idempotent, callable from another thread, makes a blocked `chunks` end."""
        self._closed.set()
        wire.hang_up(self._socket, self._response, self._connection)


class Web:
    """The way to one server. Thread-safe; a connection for each request.

    Credentials go to the URL's own server only, and after a refusal not again for a while. A certificate that
    is trusted on first use, or pinned, is that of the URL's own server; wherever it redirects to must be
    vouched for by the Secret's CA or by the system's.

    Args:
        origin: The source's URL.
        credentials: User name and password, if there are any.
        policy: How certificates are checked.
        silence: Seconds without a byte after which a download is given up; `None` for never.
    """

    def __init__(
        self, origin: Location, credentials: tuple[str, str] | None, policy: TLSPolicy, silence: float | None
    ) -> None:
        self.origin = origin
        self._policy = policy
        self._silence = silence
        self._authorization = ""
        if credentials:
            encoded = base64.b64encode(":".join(credentials).encode()).decode()
            self._authorization = f"Basic {encoded}"
        self._lock = threading.Lock()
        self._throttle = LoginThrottle()
        self._trust: tls.Trust | None = None
        self._elsewhere: ssl.SSLContext | None = None

    @property
    def first_use(self) -> str | None:
        """Fingerprint of the server's certificate, when it was trusted because nothing was known of it."""
        return self._trust.first_use if self._trust else None

    def head(self, location: Location) -> Answer:
        """Ask for a file's headers; the answer may have any status."""
        return self._follow("HEAD", location, {}, CALL_TIMEOUT)

    def get(
        self, location: Location, first: int | None = None, last: int | None = None, *, patient: bool = False
    ) -> Answer:
        """Ask for a file, or for the bytes from `first` to `last` of it: status 200 or 206.

        Args:
            location: The file.
            first: First byte; `None` for all.
            last: Last byte; `None` for up to the end.
            patient: Wait for bytes as long as the source allows, and not only `CALL_TIMEOUT`.

        Raises:
            AuthenticationFailed, PermissionDenied, SourceFileNotFound: as the server says.
            RedirectRefused: it sends us where we do not go.
            CertificateNotTrusted, CertificateChanged: see `providers.tls`.
            Unreachable: no connection, or no answer to be used.
        """
        headers = {} if first is None else {"Range": f"bytes={first}-{'' if last is None else last}"}
        answer = self._follow("GET", location, headers, self._silence if patient else CALL_TIMEOUT)
        if not patient:
            answer.deadline = time.monotonic() + CALL_SECONDS
        try:
            self.check(answer, location)
        except ProviderError:
            answer.close()
            raise
        return answer

    def check(self, answer: Answer, location: Location) -> None:
        """Return if the answer is good; raises as `get`."""
        status = answer.status
        if status in (OK, PARTIAL):
            with self._lock:
                self._throttle.accepted()
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Unreachable(f"{location}: the server encodes the file, which it was asked not to do")
            return
        if status == http.client.UNAUTHORIZED:
            asked = "refuses the credentials" if self._authorization else "asks for credentials"
            error = AuthenticationFailed(f"{location}: the server {asked} (401)")
            with self._lock:
                self._throttle.refused(error)
            raise error
        words = f"{location}: the server answered {status} {http.client.responses.get(status, '')}".rstrip()
        if status == http.client.FORBIDDEN:
            raise PermissionDenied(words)
        if status in (http.client.NOT_FOUND, http.client.GONE):
            raise SourceFileNotFound(words)
        raise Unreachable(words)

    def _follow(
        self, method: str, location: Location, headers: Mapping[str, str], timeout: float | None
    ) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._ask(method, location, headers, timeout)
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            answer.close()
            location = location.redirected(target)
        raise RedirectRefused(f"{self.origin} redirects more than {MAX_REDIRECTS} times")

    def _ask(
        self, method: str, location: Location, headers: Mapping[str, str], timeout: float | None
    ) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": wire.USER_AGENT, **headers}
        if self._authorization and location.may_have_credentials_of(self.origin):
            with self._lock:
                self._throttle.check()
            sent["Authorization"] = self._authorization
        connection = self._connect(location)
        sock = connection.sock
        try:
            wire.wait_at_most(connection, timeout)
            connection.request(
                method, location.target, headers=sent, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
        except wire.ERRORS as exc:
            connection.close()
            raise Unreachable(f"{location}: {wire.in_words(exc, timeout)}") from exc
        return Answer(str(location), connection, sock, response)

    def _connect(self, location: Location) -> HTTPConnection:
        context = self._context(location) if location.scheme == "https" else None
        return wire.connect(location.host, location.port, context, location.authority)

    def _context(self, location: Location) -> ssl.SSLContext:
        if location.may_have_credentials_of(self.origin) and self.origin.scheme == "https":
            with self._lock:
                if self._trust is None:
                    self._trust = tls.establish(self._policy, location.host, location.port)
                return self._trust.context
        if self._policy.insecure:
            return tls.unverified_context()
        if self._elsewhere is None:
            context = tls.verifying_context(None)
            if self._policy.ca_pem:
                tls.verifying_context(self._policy.ca_pem)  # is it one at all?
                context.load_verify_locations(cadata=self._policy.ca_pem)
            self._elsewhere = context
        return self._elsewhere
