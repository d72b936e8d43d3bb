from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from http.client import HTTPSConnection
from typing import TYPE_CHECKING

import pytest

from providers import tls
from providers.base import TLSPolicy
from providers.errors import CertificateChanged, CertificateNotTrusted, Unreachable
from tests.lab.pki import Authority
from tests.unit.providers.tls_server import TLSServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "a CA")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other", "another CA")


@pytest.fixture
def server(authority: Authority) -> Iterator[TLSServer]:
    with TLSServer(authority.issue("server", common_name="server", hosts=["127.0.0.1"])) as running:
        yield running


@pytest.fixture
def leaf(authority: Authority, server: TLSServer) -> str:  # noqa: ARG001  # which issues the certificate
    """The SHA-256 of the server's certificate."""
    pem = (authority.certificate.parent / "server.crt").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_a_ca_vouches_for_what_it_signed(authority: Authority, server: TLSServer) -> None:
    policy = TLSPolicy(ca_pem=authority.certificate.read_text())

    assert tls.establish(policy, "127.0.0.1", server.port).first_use is None


def test_a_ca_does_not_vouch_for_what_another_signed(stranger: Authority, server: TLSServer) -> None:
    policy = TLSPolicy(ca_pem=stranger.certificate.read_text())

    with pytest.raises(CertificateNotTrusted):
        tls.establish(policy, "127.0.0.1", server.port)


def test_a_ca_does_not_vouch_for_another_name(authority: Authority, server: TLSServer) -> None:
    policy = TLSPolicy(ca_pem=authority.certificate.read_text())

    with pytest.raises(CertificateNotTrusted):
        tls.establish(policy, "localhost", server.port)


def test_the_leaf_itself_may_stand_for_the_ca(authority: Authority, server: TLSServer) -> None:
    policy = TLSPolicy(ca_pem=(authority.certificate.parent / "server.crt").read_text())

    assert tls.establish(policy, "127.0.0.1", server.port).first_use is None


def test_a_ca_outranks_a_pin_from_an_earlier_first_use(authority: Authority, server: TLSServer) -> None:
    policy = TLSPolicy(ca_pem=authority.certificate.read_text(), fingerprint="0" * 64)

    assert tls.establish(policy, "127.0.0.1", server.port).first_use is None


def test_a_ca_that_is_no_certificate_is_told(server: TLSServer) -> None:
    with pytest.raises(CertificateNotTrusted, match="not a certificate"):
        tls.establish(TLSPolicy(ca_pem="hello"), "127.0.0.1", server.port)


def test_an_unknown_certificate_is_trusted_on_first_use_and_reported(server: TLSServer, leaf: str) -> None:
    assert tls.establish(TLSPolicy(), "127.0.0.1", server.port).first_use == leaf


def test_what_the_system_trusts_is_not_pinned(
    authority: Authority, server: TLSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))

    assert tls.establish(TLSPolicy(), "127.0.0.1", server.port).first_use is None


def test_an_environment_for_other_libraries_trusts_nobody(
    authority: Authority, server: TLSServer, leaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority.certificate))

    assert tls.establish(TLSPolicy(), "127.0.0.1", server.port).first_use == leaf


@pytest.mark.parametrize(
    "form", [str.lower, str.upper, lambda text: ":".join(text[i : i + 2] for i in range(0, 64, 2))]
)
def test_a_pinned_certificate_is_trusted_however_it_is_named(
    server: TLSServer, leaf: str, form: type[str]
) -> None:
    trust = tls.establish(TLSPolicy(fingerprint=form(leaf)), "localhost", server.port)

    assert trust.first_use is None


def test_another_certificate_than_the_pinned_one_is_refused(server: TLSServer) -> None:
    with pytest.raises(CertificateChanged):
        tls.establish(TLSPolicy(fingerprint="0" * 64), "127.0.0.1", server.port)


def test_a_pin_is_held_even_against_a_certificate_that_the_system_trusts(
    authority: Authority, server: TLSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))

    with pytest.raises(CertificateChanged):
        tls.establish(TLSPolicy(fingerprint="0" * 64), "127.0.0.1", server.port)


@pytest.mark.parametrize("pin", ["", "abc", "z" * 64, "0" * 63])
def test_a_pin_that_is_no_fingerprint_trusts_nobody(pin: str) -> None:
    with pytest.raises(CertificateNotTrusted):
        tls.PinnedContext.of(pin)


def test_a_thumbprint_of_older_servers_pins_as_well(authority: Authority, server: TLSServer) -> None:
    der = ssl.PEM_cert_to_DER_cert((authority.certificate.parent / "server.crt").read_text())
    context = tls.PinnedContext.of(hashlib.sha1(der).hexdigest())  # noqa: S324  # what vSphere calls a thumbprint

    assert tls.handshake(context, "127.0.0.1", server.port) == der


def test_deciding_whom_to_trust_sends_nothing(server: TLSServer) -> None:
    tls.establish(TLSPolicy(), "127.0.0.1", server.port)

    with pytest.raises(CertificateChanged):
        tls.establish(TLSPolicy(fingerprint="0" * 64), "127.0.0.1", server.port)
    assert server.received == b""


def test_a_host_with_another_certificate_is_sent_nothing_even_on_a_reconnect(
    server: TLSServer, authority: Authority, leaf: str
) -> None:
    context = tls.PinnedContext.of(leaf)
    tls.handshake(context, "127.0.0.1", server.port)
    other = authority.issue("impostor", common_name="impostor", hosts=["127.0.0.1"])

    with TLSServer(other) as impostor:
        connection = HTTPSConnection("127.0.0.1", impostor.port, context=context, timeout=60)
        with pytest.raises(CertificateChanged):
            connection.request("POST", "/sdk", b"the password")

    assert impostor.handshakes == 1
    assert impostor.received == b""


def test_insecure_asks_nothing_of_a_certificate(server: TLSServer) -> None:
    trust = tls.establish(TLSPolicy(insecure=True, ca_pem="hello"), "127.0.0.1", server.port)

    assert tls.handshake(trust.context, "localhost", server.port)


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        tls.establish(TLSPolicy(), "127.0.0.1", port)


def test_a_host_that_speaks_no_tls_is_unreachable() -> None:
    def speak_plainly(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talker = threading.Thread(target=speak_plainly, args=(listener,))
        talker.start()
        with pytest.raises(Unreachable, match="no TLS connection"):
            tls.establish(TLSPolicy(), "127.0.0.1", listener.getsockname()[1])
        talker.join()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example.com"])
def test_what_can_be_no_host_name_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable, match="not a host name"):
        tls.establish(TLSPolicy(), host, 443)
