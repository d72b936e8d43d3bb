"""The OVA provider against the lab's web server: who is trusted, who gets the password, where it follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.errors import (
    AuthenticationFailed,
    CertificateChanged,
    CertificateNotTrusted,
    PermissionDenied,
    RedirectRefused,
    SecretIncomplete,
    SourceFileNotFound,
    Unreachable,
)
from providers.ova.provider import OvaProvider
from tests.integration.ova import provider_for
from tests.lab.ova import archive
from tests.lab.ova_server import Manners, OvaServer

pytestmark = pytest.mark.integration

FILE = archive({"web.ovf": b"<Envelope/>"})


@pytest.fixture(scope="module")
def secured() -> Iterator[OvaServer]:
    with OvaServer(username="reader", password="s3cret") as running:  # noqa: S106
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[OvaServer]:
    with OvaServer(secure=False) as running:
        yield running


@pytest.fixture
def server(secured: OvaServer) -> OvaServer:
    secured.requests.clear()
    secured.put("web.ova", FILE)
    return secured


@pytest.fixture
def elsewhere(plain: OvaServer) -> OvaServer:
    plain.requests.clear()
    plain.put("web.ova", FILE)
    return plain


def test_a_source_is_verified_by_its_headers_alone(server: OvaServer) -> None:
    with closing(provider_for(server)) as provider:
        verified = provider.verify()
    assert [request.method for request in server.requests] == ["HEAD"]
    assert verified.tls_fingerprint is None
    assert verified.message == "a file of 2.0 KiB at localhost"


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_where_head_is_refused_the_first_byte_is_asked_for(server: OvaServer, status: int) -> None:
    server.put("web.ova", FILE, Manners(head_status=status))
    with closing(provider_for(server)) as provider:
        assert provider.verify().message == "a file of 2.0 KiB at localhost"
    assert [(request.method, request.range) for request in server.requests] == [
        ("HEAD", ""),
        ("GET", "bytes=0-0"),
    ]


def test_a_refused_password_is_sent_once_and_not_again_for_a_while(server: OvaServer) -> None:
    secret = {"username": "reader", "password": "wrong"}
    config = SourceConfig(SourceKind.OVA, server.url("web.ova"), secret, TLSPolicy(ca_pem=server.ca_pem))
    with closing(OvaProvider(config)) as provider:
        for _ in range(3):
            with pytest.raises(AuthenticationFailed, match="refuses the credentials") as raised:
                provider.verify()
            assert "wrong" not in str(raised.value)
    assert len(server.requests) == 1


def test_a_server_that_wants_a_password_says_so_to_who_has_none(server: OvaServer) -> None:
    config = SourceConfig(SourceKind.OVA, server.url("web.ova"), {}, TLSPolicy(ca_pem=server.ca_pem))
    with (
        closing(OvaProvider(config)) as provider,
        pytest.raises(AuthenticationFailed, match="asks for credentials"),
    ):
        provider.verify()


@pytest.mark.parametrize("secret", [{"username": "u"}, {"password": "p"}])
def test_half_a_login_is_none(secret: dict[str, str]) -> None:
    with pytest.raises(SecretIncomplete, match="password" if "username" in secret else "username"):
        OvaProvider(SourceConfig(SourceKind.OVA, "https://localhost/a.ova", secret))


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, PermissionDenied), (404, SourceFileNotFound), (410, SourceFileNotFound), (500, Unreachable)],
)
def test_what_the_server_answers_is_told(server: OvaServer, status: int, error: type[Exception]) -> None:
    server.put("web.ova", FILE, Manners(head_status=405, statuses=[status]))
    with closing(provider_for(server)) as provider, pytest.raises(error, match=str(status)):
        provider.verify()


def test_a_query_may_be_a_secret_and_is_never_told(server: OvaServer) -> None:
    config = SourceConfig(
        SourceKind.OVA, server.url("none.ova") + "?token=hush", {}, TLSPolicy(ca_pem=server.ca_pem)
    )
    with closing(OvaProvider(config)) as provider, pytest.raises(AuthenticationFailed) as raised:
        provider.verify()
    assert "hush" not in str(raised.value)


def test_a_certificate_that_nobody_knows_is_trusted_once_and_then_pinned(server: OvaServer) -> None:
    with closing(provider_for(server, tls=TLSPolicy())) as provider:
        assert provider.verify().tls_fingerprint == server.fingerprint
    with closing(provider_for(server, tls=TLSPolicy(fingerprint=server.fingerprint))) as provider:
        assert provider.verify().tls_fingerprint is None


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (TLSPolicy(fingerprint="0" * 64), CertificateChanged),
        (TLSPolicy(ca_pem="other"), CertificateNotTrusted),
    ],
)
def test_a_certificate_that_is_not_trusted_gets_no_request(
    server: OvaServer, policy: TLSPolicy, error: type[Exception]
) -> None:
    if policy.ca_pem:
        with OvaServer() as other:
            policy = TLSPolicy(ca_pem=other.ca_pem)
    with closing(provider_for(server, tls=policy)) as provider, pytest.raises(error):
        provider.verify()
    assert server.requests == []


def test_a_redirect_to_another_server_is_followed_without_the_password(server: OvaServer) -> None:
    with OvaServer() as mirror:
        mirror.put("real.ova", FILE)
        server.put("web.ova", [], Manners(redirect=mirror.url("real.ova")))
        trust = TLSPolicy(ca_pem=server.ca_pem + mirror.ca_pem)
        with closing(provider_for(server, tls=trust)) as provider:
            provider.verify()
        assert server.requests[0].authorization
        assert [request.authorization for request in mirror.requests] == [""]


def test_another_server_must_be_vouched_for_and_not_by_a_pin(server: OvaServer) -> None:
    with OvaServer() as mirror:
        mirror.put("real.ova", FILE)
        server.put("web.ova", [], Manners(redirect=mirror.url("real.ova")))
        pinned = TLSPolicy(fingerprint=server.fingerprint)
        with closing(provider_for(server, tls=pinned)) as provider, pytest.raises(CertificateNotTrusted):
            provider.verify()
        assert mirror.requests == []


def test_a_redirect_on_the_same_server_keeps_the_password(server: OvaServer) -> None:
    server.put("real.ova", FILE)
    server.put("web.ova", [], Manners(redirect="/real.ova"))
    with closing(provider_for(server)) as provider:
        provider.verify()
    assert all(request.authorization for request in server.requests)


@pytest.mark.parametrize(
    "target", ["ftp://localhost/x", "file:///etc/passwd", "https://u:p@localhost/", "https://["]
)
def test_a_redirect_to_what_is_not_spoken_is_refused(server: OvaServer, target: str) -> None:
    server.put("web.ova", [], Manners(redirect=target))
    with closing(provider_for(server)) as provider, pytest.raises(RedirectRefused):
        provider.verify()


def test_a_redirect_out_of_https_is_refused(server: OvaServer, elsewhere: OvaServer) -> None:
    server.put("web.ova", [], Manners(redirect=elsewhere.url("web.ova")))
    with closing(provider_for(server)) as provider, pytest.raises(RedirectRefused, match="out of HTTPS"):
        provider.verify()
    assert elsewhere.requests == []


def test_a_redirect_into_https_is_followed(server: OvaServer, elsewhere: OvaServer) -> None:
    server.put("web.ova", FILE)
    elsewhere.put("web.ova", [], Manners(redirect=server.url("web.ova")))
    trust = TLSPolicy(ca_pem=server.ca_pem)
    with closing(provider_for(elsewhere, tls=trust)) as provider, pytest.raises(AuthenticationFailed):
        provider.verify()
    assert [request.authorization for request in server.requests] == [""]


def test_redirects_in_circles_come_to_an_end(server: OvaServer) -> None:
    server.put("web.ova", [], Manners(redirect="/web.ova"))
    with closing(provider_for(server)) as provider, pytest.raises(RedirectRefused, match="more than 5 times"):
        provider.verify()
    assert len(server.requests) == 6


def test_where_nobody_listens_nothing_is_reached() -> None:
    config = SourceConfig(SourceKind.OVA, "http://127.0.0.1:1/a.ova", {})
    with closing(OvaProvider(config)) as provider, pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        provider.verify()
