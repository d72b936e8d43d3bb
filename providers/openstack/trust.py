"""HTTP to the services of one cloud, each certificate held against the source's policy inside the handshake.

Keystone's catalogue names other hosts and ports. Each is held to the same policy: signed by the CA of the
Secret; or without a CA, by one that the system trusts, or it shows the very certificate that is pinned.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool, PoolManager

from providers import tls
from providers.errors import CertificateChanged, CertificateNotTrusted, InvalidEndpoint
from providers.openstack.endpoint import Origin

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from providers.base import TLSPolicy

_REDIRECTS = frozenset({301, 302, 303, 305, 307, 308})


class _Pool(HTTPSConnectionPool):
    """Without urllib3's warning that it did not verify: our contexts did, or the user wants none."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _Adapter(HTTPAdapter):
    """Speaks to one origin, with one SSL context; what `requests` thinks of certificates is ignored."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=16)  # threads that may speak to one service at once

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002  # requests' signature
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=self._context, **kwargs
        )
        self.poolmanager.pool_classes_by_scheme = {
            **self.poolmanager.pool_classes_by_scheme,
            "https": _Pool,
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context does."""

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}


class TrustingSession(requests.Session):
    """A `requests.Session` that speaks to every origin as the policy says. Safe for many threads.

    It follows no environment variable (a proxy, a netrc, a CA bundle), and no redirect to another origin:
    what it sends carries a token.
    """

    def __init__(self, policy: TLSPolicy, endpoint: Origin) -> None:
        super().__init__()
        self.trust_env = False
        self._policy = policy
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._trusts: dict[Origin, tls.Trust] = {}
        self._adapters: dict[Origin, _Adapter] = {}

    @property
    def first_use(self) -> str | None:
        """The leaf of Keystone's endpoint when it was trusted because nothing was known of it."""
        trust = self._trusts.get(self._endpoint)
        return trust.first_use if trust else None

    def context(self, origin: Origin) -> ssl.SSLContext:
        """Return what checks the certificate of an origin; decided once, by a handshake that sends nothing.

        Raises:
            CertificateNotTrusted, CertificateChanged, Unreachable: as the policy says.
        """
        with self._lock:
            trust = self._trusts.get(origin)
        if trust is None:
            trust = self._decide(origin)
            with self._lock:
                trust = self._trusts.setdefault(origin, trust)
        return trust.context

    def _decide(self, origin: Origin) -> tls.Trust:
        policy = self._policy
        if origin == self._endpoint or policy.insecure or policy.ca_pem:
            return tls.establish(policy, origin.host, origin.port)
        known = self.context(self._endpoint) if self._endpoint.scheme == "https" else None
        contexts = [known] if isinstance(known, tls.PinnedContext) else []
        refusals = []
        for context in (*contexts, tls.verifying_context(None)):
            try:
                tls.handshake(context, origin.host, origin.port)
            except (CertificateChanged, CertificateNotTrusted) as exc:
                refusals.append(str(exc))
            else:
                return tls.Trust(context)
        raise CertificateNotTrusted(
            f"{origin.authority}, named in Keystone's catalogue: {'; '.join(refusals)}. Put the CA of "
            "this cloud into the Secret as ca_cert"
        )

    def get_adapter(self, url: str) -> Any:
        """Return the adapter of the URL's origin."""
        origin = Origin.of(url)
        if origin.scheme != "https":
            return super().get_adapter(url)
        context = self.context(origin)
        with self._lock:
            adapter = self._adapters.get(origin)
            if adapter is None:
                adapter = self._adapters[origin] = _Adapter(context)
        return adapter

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send, and refuse an answer that points to another origin."""
        response = super().send(request, **kwargs)
        location = response.headers.get("Location")
        if response.status_code in _REDIRECTS and location and request.url:
            here, target = Origin.of(request.url), Origin.of(urljoin(request.url, location))
            if target != here:
                response.close()
                raise InvalidEndpoint(
                    f"{here.authority} points to {target.scheme}://{target.authority}; name that in the "
                    "endpoint, if it is right"
                )
        return response

    def close(self) -> None:
        """Drop all connections."""
        super().close()
        with self._lock:
            adapters: Mapping[Origin, _Adapter] = dict(self._adapters)
        for adapter in adapters.values():
            adapter.close()
