"""One login to a cloud, and JSON to and from its services, through the SDK's connection and its adapters."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from keystoneauth1 import discover
from keystoneauth1 import exceptions as keystone
from keystoneauth1.identity import v3
from keystoneauth1.session import Session as KeystoneSession
from openstack.connection import Connection

from providers.errors import AuthenticationFailed, InvalidEndpoint, SecretIncomplete, Unreachable
from providers.openstack.catalogue import Service, service_type, service_urls, version_document
from providers.openstack.endpoint import Endpoint, Origin
from providers.openstack.faults import WIRE_ERRORS, from_response, translate
from providers.openstack.trust import TrustingSession
from providers.throttle import LoginThrottle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests
    from keystoneauth1.access.access import AccessInfo
    from openstack.proxy import Proxy

    from providers.base import TLSPolicy

TIMEOUT = 30.0  # seconds of silence of a service
USER_AGENT = "harvester-vm-import-controller"

_MICROVERSIONS = {
    # Embeds the flavor with its extra specs; 2.19 tells the description, 2.9 the lock. Older clouds (2.1 is
    # from 2015) do with less.
    Service.COMPUTE: (2, 61),
    Service.VOLUME: (3, 5),  # messages, which tell why something failed; Ocata, 2017
}


def credentials(secret: Mapping[str, str], auth_url: str) -> v3.Password | v3.ApplicationCredential:
    """Return how to log in.

    Raises:
        SecretIncomplete: names the key that is missing.
    """
    if secret.get("application_credential_id"):
        (value,) = _require(secret, "application_credential_secret")
        return v3.ApplicationCredential(
            auth_url,
            application_credential_id=secret["application_credential_id"],
            application_credential_secret=value,
        )
    username, password, project = _require(secret, "username", "password", "project_name")
    user_domain = secret.get("user_domain_name") or secret.get("domain_name")
    project_domain = secret.get("project_domain_name") or secret.get("domain_name")
    if not user_domain or not project_domain:
        raise SecretIncomplete("key 'domain_name' is missing")
    return v3.Password(
        auth_url,
        username=username,
        password=password,
        user_domain_name=user_domain,
        project_name=project,
        project_domain_name=project_domain,
    )


def _require(secret: Mapping[str, str], *keys: str) -> list[str]:
    for key in keys:
        if not secret.get(key):
            raise SecretIncomplete(f"key {key!r} is missing")
    return [secret[key] for key in keys]


class Session:
    """Logs in on first use, and again whenever the token is over. Safe for many threads.

    Every method raises only `providers.errors.ProviderError`s.
    """

    def __init__(self, endpoint: Endpoint, secret: Mapping[str, str], policy: TLSPolicy, region: str) -> None:
        self.endpoint = endpoint
        self.http = TrustingSession(policy, endpoint.origin)
        self._region = region
        self._auth = credentials(secret, endpoint.auth_url)
        keystone_session = KeystoneSession(
            auth=self._auth, session=self.http, user_agent=USER_AGENT, timeout=TIMEOUT, redirect=3
        )
        self._connection = Connection(session=keystone_session)
        self._adapters: dict[Service, Proxy] = {}
        self._throttle = LoginThrottle()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def access(self) -> AccessInfo:
        """Return the token and what came with it; logs in when there is none or it is about to end.

        Raises:
            AuthenticationFailed: Keystone refuses; not asked again too soon.
        """
        with self._lock:
            if self._closed.is_set():
                raise Unreachable("the connection to the source was closed")
            self._throttle.check()
            try:
                access = self._auth.get_access(self._connection.session)
            except WIRE_ERRORS as exc:
                error = translate(exc, "log in", self.endpoint.origin.authority)
                if isinstance(error, AuthenticationFailed):
                    self._throttle.refused(error)
                elif isinstance(exc, keystone.NotFound):
                    error = InvalidEndpoint(f"{self.endpoint.auth_url} is not Keystone's API v3 (404)")
                raise error from exc
            self._throttle.accepted()
            return access

    def url(self, service: Service) -> str:
        """Return where a service answers; raises as `catalogue.service_urls` does."""
        access = self.access()
        entries: Any = access.service_catalog.catalog
        return service_urls(entries, self._region, str(access.project_id))[service]

    def get(self, service: Service, path: str, **params: str) -> Any:
        """Return the decoded answer to a GET."""
        return self._decoded(self.request(service, "GET", path, params=params), path)

    def post(self, service: Service, path: str, body: Mapping[str, Any]) -> Any:
        """Return the decoded answer to a POST; `None` when it has no body."""
        response = self.request(service, "POST", path, json=body)
        return self._decoded(response, path) if response.content else None

    def delete(self, service: Service, path: str) -> None:
        """Delete; raises `NotThere` when it is gone already."""
        self.request(service, "DELETE", path)

    def request(self, service: Service, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one request; an expired or revoked token is replaced on the way.

        Raises:
            ProviderError: it was not answered, or refused.
        """
        adapter = self._adapter(service)
        what = f"{method} {path.partition('?')[0]}"
        token = self.token()
        response = self._send(adapter, method, path, what, **kwargs)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self.token(stale=token)
            response = self._send(adapter, method, path, what, **kwargs)
        if not response.ok:
            raise from_response(response, what)
        return response

    def pages(self, service: Service, path: str, key: str, **params: str) -> Iterator[Mapping[str, Any]]:
        """Yield the items of a list, page by page, as they are linked (`<key>_links`; Glance: `next`)."""
        page = self.get(service, path, **params)
        while True:
            items = page.get(key) or []
            yield from items
            marker = str(items[-1].get("id")) if items else ""
            more = page.get("next") or any(
                link.get("rel") == "next" for link in page.get(f"{key}_links") or ()
            )
            if not more or not marker:
                return
            page = self.get(service, path, **{**params, "marker": marker})

    def token(self, *, stale: str | None = None) -> str:
        """Return a token that is good; `stale` names one that a service has refused."""
        if stale is not None and self.access().auth_token == stale:
            self._auth.invalidate()
        return str(self.access().auth_token)

    def close(self) -> None:
        """Drop the connections. The token ends by itself: revoking it would cut off downloads of others."""
        self._closed.set()
        self._connection.close()
        self.http.close()

    @property
    def closed(self) -> threading.Event:
        """Set once `close` was called."""
        return self._closed

    @staticmethod
    def _send(adapter: Proxy, method: str, path: str, what: str, **kwargs: Any) -> requests.Response:
        """Send once. Another token is for `access` to get: it spaces logins, and names Keystone in errors."""
        headers = {"Accept": "application/json"}
        try:
            return adapter.request(path, method, headers=headers, allow_reauth=False, **kwargs)
        except WIRE_ERRORS as exc:
            raise translate(exc, what, Origin.of(str(adapter.endpoint_override)).authority) from exc

    def _adapter(self, service: Service) -> Proxy:
        """Return the SDK's adapter of a service, bound to the URL that the catalogue has for it now.

        Bound, it looks for no versions. Nor does it repeat anything: by default, the SDK repeats up to five
        times what Glance refuses, and sleeps in between.
        """
        url = self.url(service)
        bound_to = url.replace("%", "%%")  # keystoneauth would fill in `%(project_id)s` and its kin
        adapter = self._adapters.get(service)
        if adapter is None or adapter.endpoint_override != bound_to:
            config, kind = self._connection.config, service_type(service)
            config.set_service_value("endpoint_override", kind, bound_to)
            adapter = config.get_session_client(kind, connect_retries=0, status_code_retries=0)
            if service in _MICROVERSIONS:
                adapter.default_microversion = self._microversion(service, url)
            self._adapters[service] = adapter
        return adapter

    def _microversion(self, service: Service, url: str) -> str | None:
        """Return the newest microversion that both sides know; `None`: the service tells of none.

        `openstack.utils.maximum_supported_microversion` would hold a service that does not answer now for one
        that is old, from then on: servers would be described without flavor and lock.

        Raises:
            Unreachable: it cannot be learned now.
        """
        document = version_document(service, url)
        ours = _MICROVERSIONS[service]
        major = str(ours[0])
        try:
            known = discover.get_discovery(self._connection.session, document, authenticated=None)
            version = known.versioned_data_for(min_version=major, max_version=f"{major}.latest")
        except (keystone.DiscoveryFailure, TypeError) as exc:
            raise Unreachable(f"the answer to {document} tells of no versions") from exc
        except WIRE_ERRORS as exc:
            error = translate(exc, f"GET {document}", Origin.of(document).authority)
            if isinstance(exc, keystone.HTTPClientError) and not isinstance(error, Unreachable):
                return None  # a gateway keeps the document from us, and maybe nothing else
            raise error from exc
        theirs = version and version["max_microversion"]
        return discover.version_to_string(min(ours, theirs)) if theirs else None

    @staticmethod
    def _decoded(response: requests.Response, path: str) -> Any:
        try:
            decoded = response.json()
        except ValueError as exc:
            raise Unreachable(f"the answer to {path} is not JSON (HTTP {response.status_code})") from exc
        if not isinstance(decoded, dict):
            raise Unreachable(f"the answer to {path} is JSON, but no object (HTTP {response.status_code})")
        return decoded
