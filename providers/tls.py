"""From a `TLSPolicy` to `ssl.SSLContext`s: the one place that decides whether a certificate is good enough.

Every connection to a source, whatever library makes it, gets its context from here, and each context does
its whole check inside the handshake. So there is no moment in which a password or a ticket is sent to a host
whose certificate was not held against the policy, also not on the silent reconnects of an HTTP library. No
context here looks at `REQUESTS_CA_BUNDLE` and its kin; only OpenSSL's own `SSL_CERT_FILE` moves the
system trust.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from providers.errors import CertificateChanged, CertificateNotTrusted, ProviderError, Unreachable

if TYPE_CHECKING:
    from providers.base import TLSPolicy

CONNECT_TIMEOUT = 30.0
"""Seconds for a TCP connection and for each step of the handshake."""

_DIGEST_BY_HEX_LENGTH = {40: "sha1", 64: "sha256"}  # SHA-1: what vSphere before 8 calls a thumbprint


@dataclass(frozen=True, slots=True)
class Trust:
    """What a policy came to, once the endpoint was seen.

    Attributes:
        context: For every further connection to the same endpoint.
        first_use: SHA-256 of the leaf when it was accepted because nothing was known of it; else `None`.
    """

    context: ssl.SSLContext
    first_use: str | None = None


class PinnedContext(ssl.SSLContext):
    """Accepts the one leaf certificate whose fingerprint is known, whoever signed it, whatever it is named.

    The comparison is part of `wrap_socket`, so that http.client, pyVmomi and urllib3 get either a connection
    to that host or `CertificateChanged`, before any of them has sent a byte.
    """

    fingerprint: str

    @classmethod
    def of(cls, fingerprint: str) -> Self:
        """Pin a hex SHA-256 or SHA-1, with or without colons, in any case.

        Raises:
            CertificateNotTrusted: the text is no such fingerprint.
        """
        plain = normalize_fingerprint(fingerprint)
        if len(plain) not in _DIGEST_BY_HEX_LENGTH or not re.fullmatch("[0-9a-f]*", plain):
            raise CertificateNotTrusted(f"{fingerprint!r} is not a SHA-256 or SHA-1 fingerprint")
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.fingerprint = plain
        return context

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Do the handshake and compare; the socket is closed when the certificate is another one.

        Raises:
            CertificateChanged: names both fingerprints.
        """
        wrapped = super().wrap_socket(*args, **kwargs)
        digest = _DIGEST_BY_HEX_LENGTH[len(self.fingerprint)]
        presented = hashlib.new(digest, wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        if presented != self.fingerprint:
            wrapped.close()
            raise CertificateChanged(
                f"the certificate's {digest} fingerprint is {presented}, but {self.fingerprint} is pinned"
            )
        return wrapped


def normalize_fingerprint(text: str) -> str:
    """Return lower-case hex without colons."""
    return text.replace(":", "").strip().lower()


def fingerprint_of(der: bytes) -> str:
    """Return the SHA-256 of a DER certificate as lower-case hex."""
    return hashlib.sha256(der).hexdigest()


def verifying_context(ca_pem: str | None) -> ssl.SSLContext:
    """Return a context that checks chain and host name against `ca_pem`, or against the system's trust.

    Any certificate in `ca_pem` is an anchor, be it an intermediate or the leaf itself: people paste what
    their browser shows. RFC 5280's stricter rules (on by default since Python 3.13) stay off, because the CA
    that every vCenter brings along issues certificates without an authority key identifier.

    Raises:
        CertificateNotTrusted: `ca_pem` holds no certificate.
    """
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as exc:
        raise CertificateNotTrusted("the CA in the Secret is not a certificate in PEM form") from exc
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts every certificate: only for policies that say `insecure`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def establish(policy: TLSPolicy, host: str, port: int) -> Trust:
    """Decide, by one handshake that sends nothing, how `policy` is kept towards `host`.

    Raises:
        CertificateNotTrusted: the CA does not vouch for the host.
        CertificateChanged: the leaf is not the pinned one.
        Unreachable: no TLS connection can be made at all.
    """
    if policy.insecure:
        return Trust(unverified_context())
    if policy.ca_pem or not policy.fingerprint:
        context = verifying_context(policy.ca_pem)
    else:
        context = PinnedContext.of(policy.fingerprint)
    try:
        handshake(context, host, port)
    except CertificateNotTrusted:
        if policy.ca_pem:
            raise
        seen = fingerprint_of(handshake(unverified_context(), host, port))
        return Trust(PinnedContext.of(seen), first_use=seen)
    return Trust(context)


def handshake(context: ssl.SSLContext, host: str, port: int) -> bytes:
    """Connect, shake hands, send nothing, hang up; return the leaf certificate in DER form.

    Raises:
        CertificateNotTrusted, CertificateChanged: as the context says.
        Unreachable: no TLS connection can be made.
    """
    try:
        with (
            socket.create_connection((host, port), CONNECT_TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""
    except OSError as exc:
        raise connection_error(exc, f"{host}:{port}") from exc
    except UnicodeError as exc:  # a label of the name is empty or too long
        raise Unreachable(f"{host!r} is not a host name") from exc


def connection_error(exc: OSError, where: str) -> ProviderError:
    """Return what a socket's or OpenSSL's error means, in our words.

    Args:
        exc: The error as raised.
        where: The peer, for the message.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        why = getattr(exc, "verify_message", "") or "certificate not trusted"  # OpenSSL's own words
        return CertificateNotTrusted(f"{where}: {why}")
    if isinstance(exc, TimeoutError):
        return Unreachable(f"{where} does not answer")
    if isinstance(exc, ssl.SSLError):
        return Unreachable(f"{where}: no TLS connection ({exc.reason or 'connection ended'})")
    return Unreachable(f"{where}: {exc.strerror or type(exc).__name__}")
