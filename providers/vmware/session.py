"""The one login that a provider has at its vCenter or ESXi host."""

from __future__ import annotations

import contextlib
import ssl
import threading
import xml.etree.ElementTree as ET
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, TypeVar

from pyVmomi import SoapStubAdapter, vim
from pyVmomi.VmomiSupport import GetServiceVersions, versionIdMap

from providers import tls
from providers.errors import AuthenticationFailed, ProviderError, Unreachable
from providers.throttle import LoginThrottle
from providers.vmware.faults import WIRE_ERRORS, translate
from providers.vmware.leftovers import Leftover, NoJournal, end_inherited

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.base import Journal, TLSPolicy
    from providers.vmware.endpoint import Endpoint

T = TypeVar("T")

SOAP_TIMEOUT = 30.0  # seconds of silence on one call's connection
IDLE_CONNECTION = 15.0  # seconds; shorter than any server keeps one, so that no call meets a closed one
OLDEST_VERSION = "vim.version.version9"  # API 5.5: spoken by whatever does not tell its versions
_CONNECTION_CLOSED = (
    BrokenPipeError,
    ConnectionResetError,  # also http.client.RemoteDisconnected
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
_CLOSED = "the connection to the source was closed"
_VERSIONS_LIMIT = 1 << 20  # bytes; the real file has about 4 KB


class Session:
    """A lazily opened login, shared by all threads of one provider.

    Promises: the password is sent only to a host that passed the TLS policy; it is sent again only when the
    server says that the session is gone, once per loss however many threads noticed it; after a refusal it is
    not sent again for a while, longer each time (`providers.throttle`). `close` logs out. What an earlier
    process left open at the endpoint is ended before the first login.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        username: str,
        password: str,
        policy: TLSPolicy,
        journal: Journal | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._username = username
        self._password = password
        self._policy = policy
        self._journal = journal or NoJournal()
        self._entry = ""
        self._lock = threading.Lock()
        self._trust: tls.Trust | None = None
        self._stub: Any = None
        self._content: Any = None
        self._key = ""
        self._logins = 0
        self._throttle = LoginThrottle()
        self.closed = threading.Event()

    @property
    def trust(self) -> tls.Trust:
        """How the endpoint's certificate is checked; connects when that is not known yet."""
        if self._trust is None:
            self._log_in(seen_logins=0)
        assert self._trust is not None  # noqa: S101  # set by every login that did not raise
        return self._trust

    @property
    def content(self) -> Any:
        """The `ServiceContent`: the entry points of the API. Logs in first."""
        if self._content is None:
            self._log_in(seen_logins=0)
        return self._content

    @property
    def cookie(self) -> str:
        """The session's cookie as a `Cookie` header. For the endpoint itself only, never for another host."""
        stub = self._stub
        if stub is None:
            raise Unreachable(_CLOSED)
        return f'vmware_soap_session="{stub.GetSessionId()}"'

    @property
    def key(self) -> str:
        """The session's own name for itself: what the API takes where it asks for a session."""
        _ = self.content
        return self._key

    def note_lease(self, moref: str) -> Callable[[], None]:
        """Write down that this session holds a lease; the returned function says that it is over."""
        stub = self._stub
        if stub is None:
            raise Unreachable(_CLOSED)
        entry = Leftover(self.endpoint.authority, stub.GetSessionId() or "", moref).entry()
        self._journal.add(entry)
        return lambda: self._journal.remove(entry)

    def managed_object(self, kind: Any, moref: str) -> Any:
        """Return the managed object that `moref` names; nothing is sent."""
        _ = self.content
        return kind(moref, self._stub)

    def call(self, what: str, action: Callable[[], T], *, repeatable: bool = True) -> T:
        """Run `action`, which talks to the API; log in before, and again when the session proves to be gone.

        Args:
            what: What is being done, for the error's message.
            action: What is done. Run a second time after a new login, for the first one had no effect then.
            repeatable: Whether to run it a second time, too, when the server closed the connection under it,
                which is what becomes of connections that were kept from an earlier call.

        Raises:
            ProviderError: whatever pyVmomi raised, translated.
        """
        try:
            try:
                return self._with_login(action)
            except _CONNECTION_CLOSED:
                if not repeatable:
                    raise
                return self._with_login(action)  # pyVmomi has dropped all kept connections
        except WIRE_ERRORS as exc:
            raise translate(exc, what, self.endpoint.authority) from exc

    def close(self) -> None:
        """Log out and drop the connections; idempotent. A session that cannot be ended times out."""
        self.closed.set()
        with self._lock:
            stub, content = self._stub, self._content
            self._stub = self._content = None
        if content is not None:
            with contextlib.suppress(*WIRE_ERRORS, ProviderError):
                content.sessionManager.Logout()
                self._journal.remove(self._entry)
        if stub is not None:
            stub.DropConnections()

    def _with_login(self, action: Callable[[], T]) -> T:
        _ = self.content
        logins = self._logins
        try:
            return action()
        except vim.fault.NotAuthenticated:
            self._log_in(seen_logins=logins)
            return action()

    def _log_in(self, seen_logins: int) -> None:
        """Log in unless another thread has done so since the caller saw `seen_logins`."""
        with self._lock:
            if self.closed.is_set():
                raise Unreachable(_CLOSED)
            if self._logins != seen_logins:
                return
            self._throttle.check()
            try:
                self._connect()
            except WIRE_ERRORS as exc:
                error = translate(exc, "log in", self.endpoint.authority)
                if isinstance(error, AuthenticationFailed):
                    self._throttle.refused(error)
                raise error from exc
            self._throttle.accepted()
            self._logins += 1

    def _connect(self) -> None:
        if self._trust is None:
            self._trust = tls.establish(self._policy, self.endpoint.host, self.endpoint.port)
        if self._stub is None:
            self._stub = self._new_stub(self._trust, self._newest_common_version(self._trust))
        content: Any = vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()
        self._end_inherited(self._trust, self._stub.version, content.sessionManager)
        self._key = content.sessionManager.Login(self._username, self._password, None).key
        self._journal.remove(self._entry)  # of the session that this one replaces
        self._entry = Leftover(self.endpoint.authority, self._stub.GetSessionId() or "").entry()
        self._journal.add(self._entry)
        self._content = content

    def _new_stub(self, trust: tls.Trust, version: str, cookie: str | None = None) -> Any:
        return SoapStubAdapter(
            host=self.endpoint.host,
            port=self.endpoint.port,
            path=self.endpoint.path,
            version=version,
            sslContext=trust.context,
            httpConnectionTimeout=SOAP_TIMEOUT,
            connectionPoolTimeout=IDLE_CONNECTION,
            sessionId=cookie,
        )

    def _end_inherited(self, trust: tls.Trust, version: str, manager: Any) -> None:
        end_inherited(
            self._journal,
            self.endpoint.authority,
            manager._GetMoId(),  # noqa: SLF001  # its only accessor
            lambda cookie: self._new_stub(trust, version, cookie),
        )

    def _newest_common_version(self, trust: tls.Trust) -> str:
        """Return pyVmomi's name of the newest API version that both sides know.

        A server hides whatever is newer than the version of the request, so asking for an old one would lose
        devices such as the vTPM. `vimServiceVersions.xml` lists `<version>8.0.3.0</version>` and so on.
        """
        connection = HTTPSConnection(
            self.endpoint.host, self.endpoint.port, timeout=SOAP_TIMEOUT, context=trust.context
        )
        with contextlib.closing(connection):
            connection.request("GET", f"{self.endpoint.path}/vimServiceVersions.xml")
            response = connection.getresponse()
            if response.status >= 500:  # noqa: PLR2004  # starting up, or a proxy without its server
                raise HTTPException(f"{response.status} {response.reason}")
            body = response.read(_VERSIONS_LIMIT) if response.status == 200 else b""  # noqa: PLR2004
        if not body:
            return OLDEST_VERSION
        spoken = {element.text for element in _parse(body).iter("version")}
        return next((v for v in GetServiceVersions("vim25") if versionIdMap[v] in spoken), OLDEST_VERSION)


def _parse(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314  # a host whose certificate passed; pyVmomi parses it with expat too
    except ET.ParseError as exc:
        raise ValueError("vimServiceVersions.xml is not XML") from exc
