"""Certificates of the services in a catalogue, and where a token may travel."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from providers.base import TLSPolicy
from providers.errors import CertificateChanged, CertificateNotTrusted, InvalidEndpoint
from providers.openstack.endpoint import Endpoint
from providers.openstack.trust import TrustingSession
from tests.lab.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.pki import KeyPair

pytestmark = pytest.mark.filterwarnings("error")


class Service(ThreadingHTTPServer):
    """Answers every GET with 200, or with a redirect; remembers the tokens that it was sent."""

    def __init__(self, pair: KeyPair, redirect: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.redirect = redirect
        self.tokens: list[str | None] = []
        pem = pair.certificate.read_text().partition("-----END CERTIFICATE-----")
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[0] + pem[1])).hexdigest()

    def handle_error(self, *_: object) -> None:
        """A refused certificate ends a handshake; nobody wants to read of it."""


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers["X-Auth-Token"])
        self.send_response(302 if self.server.redirect else 200)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@contextlib.contextmanager
def running(pair: KeyPair, redirect: str = "") -> Iterator[Service]:
    service = Service(pair, redirect)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "a CA")


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> list[KeyPair]:
    return [authority.issue(name, common_name=name, hosts=["127.0.0.1"]) for name in ("one", "two")]


@pytest.fixture
def keystone(pairs: list[KeyPair]) -> Iterator[Service]:
    with running(pairs[0]) as service:
        yield service


@contextlib.contextmanager
def session_for(keystone: Service, policy: TLSPolicy) -> Iterator[TrustingSession]:
    with contextlib.closing(TrustingSession(policy, Endpoint.parse(keystone.url).origin)) as session:
        yield session


def ask(session: TrustingSession, service: Service) -> int:
    with contextlib.closing(
        session.get(service.url, headers={"X-Auth-Token": "t"}, timeout=60, allow_redirects=False)
    ) as answer:
        return answer.status_code


def test_a_ca_in_the_secret_vouches_for_every_service(
    authority: Authority, pairs: list[KeyPair], keystone: Service
) -> None:
    policy = TLSPolicy(ca_pem=authority.certificate.read_text())
    with session_for(keystone, policy) as session, running(pairs[1]) as other:
        assert (ask(session, keystone), ask(session, other)) == (200, 200)
        assert session.first_use is None


def test_the_first_certificate_is_told_to_be_pinned_and_then_counts(keystone: Service) -> None:
    with session_for(keystone, TLSPolicy()) as session:
        assert ask(session, keystone) == 200
        assert session.first_use == keystone.fingerprint
    with session_for(keystone, TLSPolicy(fingerprint=keystone.fingerprint)) as session:
        assert ask(session, keystone) == 200
    with session_for(keystone, TLSPolicy(fingerprint="0" * 64)) as session, pytest.raises(CertificateChanged):
        ask(session, keystone)
    assert keystone.tokens == ["t", "t"]


@pytest.mark.parametrize("pinned", [True, False])
def test_another_service_must_show_the_pinned_certificate(
    pairs: list[KeyPair], keystone: Service, *, pinned: bool
) -> None:
    policy = TLSPolicy(fingerprint=keystone.fingerprint) if pinned else TLSPolicy()
    with session_for(keystone, policy) as session:
        with running(pairs[0]) as same:
            assert ask(session, same) == 200
        with running(pairs[1]) as other:
            with pytest.raises(CertificateNotTrusted, match="ca_cert"):
                ask(session, other)
            assert other.tokens == []


def test_whoever_wants_no_check_gets_none(pairs: list[KeyPair], keystone: Service) -> None:
    with session_for(keystone, TLSPolicy(insecure=True)) as session, running(pairs[1]) as other:
        assert (ask(session, keystone), ask(session, other)) == (200, 200)


def test_a_token_does_not_follow_a_redirect_to_another_origin(
    authority: Authority, pairs: list[KeyPair], keystone: Service
) -> None:
    policy = TLSPolicy(ca_pem=authority.certificate.read_text())
    with running(pairs[1]) as target, running(pairs[1], redirect=f"{target.url}/v3") as service:
        with session_for(keystone, policy) as session, pytest.raises(InvalidEndpoint, match="points to"):
            ask(session, service)
        assert target.tokens == []


def test_the_environment_moves_neither_trust_nor_route(
    authority: Authority, keystone: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    policy = TLSPolicy(ca_pem=authority.certificate.read_text())
    with session_for(keystone, policy) as session:
        assert ask(session, keystone) == 200
