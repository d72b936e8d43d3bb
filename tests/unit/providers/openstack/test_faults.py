"""What answers and exceptions of the HTTP libraries mean."""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions as keystone

from providers.errors import (
    AuthenticationFailed,
    CertificateNotTrusted,
    InvalidEndpoint,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    SourceBusy,
    Unreachable,
)
from providers.openstack.faults import NotThere, Refused, from_response, translate


def answer(status: int, body: Any) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.reason = "Reason"
    response._content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return response


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, "Invalid volume", Refused),
        (401, "The request you have made requires authentication", AuthenticationFailed),
        (403, "Policy doesn't allow it", PermissionDenied),
        (403, "Quota exceeded for cores", QuotaExceeded),
        (404, "Volume could not be found", NotThere),
        (409, "Cannot 'stop' instance while it is in vm_state stopped", SourceBusy),
        (413, "SnapshotLimitExceeded", QuotaExceeded),
        (429, "Slow down", Unreachable),
        (503, "Service Unavailable", Unreachable),
    ],
)
def test_a_refusal_is_told_in_the_services_own_words(
    status: int, words: str, expected: type[ProviderError]
) -> None:
    error = from_response(answer(status, {"kindOfError": {"code": status, "message": words}}), "do it")
    assert type(error) is expected
    assert f"do it: {words}" in str(error)


@pytest.mark.parametrize("words", ["Not Implemented", "Not Implemented (HTTP 501)"])
def test_the_code_of_a_failing_service_is_told_once(words: str) -> None:
    assert str(from_response(answer(501, {"error": {"message": words}}), "log in")) == (
        "log in: Not Implemented (HTTP 501)"
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"NeutronError": {"type": "X", "message": "no such port", "detail": ""}}, "no such port"),
        ({"error": {"message": "two\n  lines"}}, "two lines"),
        ({"message": "plain"}, "plain"),
        ("<html>503</html>", "Reason"),
        ({"error": {"message": "x" * 1000}}, "x" * 300),
    ],
)
def test_words_are_found_wherever_a_service_puts_them(body: Any, expected: str) -> None:
    assert str(from_response(answer(400, body), "do it")) == f"do it: {expected}"


def caused_by(cause: Exception, error: Exception) -> Exception:
    """Return the error as it looks when a library has raised it while it handled the cause."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (keystone.Unauthorized("hunter2"), AuthenticationFailed, "Keystone refuses the credentials"),
        (keystone.ServiceUnavailable("busy"), Unreachable, "busy"),
        (keystone.ConnectTimeout("x"), Unreachable, "cloud:5000 does not answer"),
        (keystone.ConnectFailure("x"), Unreachable, "cloud:5000: no connection"),
        (
            caused_by(
                requests.ConnectionError(ConnectionRefusedError(111, "refused")), keystone.ConnectFailure()
            ),
            Unreachable,
            "cloud:5000: refused",
        ),
        (
            caused_by(ssl.SSLCertVerificationError("self-signed"), keystone.SSLError("x")),
            CertificateNotTrusted,
            "cloud:5000",
        ),
        (keystone.EmptyCatalog("x"), InvalidEndpoint, "cloud:5000 does not speak as Keystone v3 does"),
    ],
)
def test_an_exception_of_a_library_becomes_ours(
    error: Exception, expected: type[ProviderError], words: str
) -> None:
    translated = translate(error, "log in", "cloud:5000")
    assert type(translated) is expected
    assert words in str(translated)
    assert "hunter2" not in str(translated)
