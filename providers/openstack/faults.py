"""From exceptions of the HTTP libraries and answers of the services to the errors of `providers.errors`."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import requests
from keystoneauth1 import exceptions as keystone

from providers import tls
from providers.errors import (
    AuthenticationFailed,
    InvalidEndpoint,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    SourceBusy,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WIRE_ERRORS = (keystone.ClientException, requests.RequestException, OSError)
_LONGEST_WORDS = 300  # of a service's own message, in ours


class NotThere(ProviderError):
    """Surfaces inside this package when an object does not exist (404)."""

    reason = "SourceObjectNotFound"


class Refused(ProviderError):
    """Surfaces when a service calls a request wrong (400 and its kin); carries its message."""

    reason = "SourceRefused"


_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotThere,
    409: SourceBusy,
    413: QuotaExceeded,
}


def translate(exc: BaseException, what: str, authority: str) -> ProviderError:
    """Return what an exception of the libraries means.

    Args:
        exc: As raised.
        what: What was being done.
        authority: With whom.
    """
    if isinstance(exc, keystone.Unauthorized):
        return AuthenticationFailed(
            "Keystone refuses the credentials: user, password, project or domain is wrong"
        )
    if isinstance(exc, keystone.HttpError):
        status = int(exc.http_status or 0)
        return from_status(status, what, _words(exc.message or "", exc.response))
    socket_error = _socket_error(exc)
    if socket_error is not None:
        return tls.connection_error(socket_error, authority)
    if isinstance(exc, keystone.ConnectFailure | keystone.SSLError | requests.ConnectionError):
        return Unreachable(f"{authority}: no connection, or it broke")
    return InvalidEndpoint(f"{authority} does not speak as Keystone v3 does ({type(exc).__name__})")


def _socket_error(exc: BaseException) -> OSError | None:
    """Return the error of the socket or of OpenSSL that an exception wraps; a time-out becomes one."""
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLError | TimeoutError):
            return cause
    if any(isinstance(cause, requests.Timeout | keystone.ConnectTimeout) for cause in causes):
        return TimeoutError()
    return next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)


def from_response(response: requests.Response, what: str) -> ProviderError:
    """Return what a refusal means; its words are the service's own."""
    return from_status(response.status_code, what, _words(response.reason or "", response))


def from_status(status: int, what: str, words: str) -> ProviderError:
    """Return the error for an HTTP status."""
    message = f"{what}: {words or f'HTTP {status}'}"
    if status >= 500 or status in (408, 429):  # noqa: PLR2004
        code = f"HTTP {status}"
        return Unreachable(message if code in message else f"{message} ({code})")
    if status == 403 and "quota" in words.lower():  # noqa: PLR2004  # Nova's and Glance's way of saying 413
        return QuotaExceeded(message)
    return _BY_STATUS.get(status, Refused)(message)


def _words(fallback: str, response: Any) -> str:
    """Take the message out of an answer: `{"itemNotFound": {"message": ...}}`, or Glance's page of HTML."""
    words = fallback
    try:
        body = response.json() if response is not None else None
    except ValueError:
        body = None
    if isinstance(body, dict):
        inner = next(iter(body.values()), None)
        if isinstance(inner, dict):
            words = str(inner.get("message") or inner.get("detail") or words)
        elif body.get("message"):
            words = str(body["message"])
    return " ".join(words.split())[:_LONGEST_WORDS]


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it wraps: cause, context, urllib3's `reason`, arguments."""
    seen: list[BaseException] = []
    queue: list[Any] = [exc]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        queue += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
