"""What can go wrong at the Kubernetes API, as types.

Every error has `reason` (CamelCase) and `retryable`, like those of the sources. The message names the verb,
the resource and the object, and carries the server's own words (`Status.message`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from controller.runtime.listwatch import Expired

if TYPE_CHECKING:
    from collections.abc import Mapping


class KubeError(Exception):
    """Base of all errors of this package.

    Attributes:
        reason: CamelCase word for conditions and logs.
        retryable: Whether the very same request may succeed later: the server is away, or somebody else
            (who grants a role, installs a CRD, frees a quota) may mend what is wrong.
        status: HTTP status, `None` when there was no answer.
        retry_after: Seconds for which the server asked to be left alone, if it did.
        causes: `reason` of each entry in `Status.details.causes`, such as `NamespaceTerminating`.
    """

    reason: ClassVar[str] = "KubernetesError"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.causes = causes


class NotConfigured(KubeError):
    """Surfaces at start, when there is neither a usable kubeconfig nor a service account."""

    reason = "KubernetesNotConfigured"


class BadRequest(KubeError):
    """Surfaces when the server cannot make sense of a request (400, 405, 413, 415, ...): a defect of ours."""

    reason = "KubernetesBadRequest"


class Unauthorized(KubeError):
    """Surfaces when the server does not accept our token (401); it may have been rotated just now."""

    reason = "KubernetesUnauthorized"
    retryable = True


class Forbidden(KubeError):
    """Surfaces when RBAC, a quota or an admission rule refuses (403)."""

    reason = "KubernetesForbidden"
    retryable = True


class NotFound(KubeError):
    """Surfaces when the object does not exist (404)."""

    reason = "KubernetesNotFound"


class KindNotFound(KubeError):
    """Surfaces when a 404 names no object: the CRD is missing, or a proxy answers for the server.

    Not a `NotFound`: it is no word about the object, and nobody may conclude from it that the object is gone.
    """

    reason = "KubernetesKindNotFound"
    retryable = True


class AlreadyExists(KubeError):
    """Surfaces when an object of that name exists (409 on create): it was made since we looked."""

    reason = "KubernetesAlreadyExists"
    retryable = True


class Conflict(KubeError):
    """Surfaces when the object has changed since it was read, or a precondition fails (409)."""

    reason = "KubernetesConflict"
    retryable = True


class Invalid(KubeError):
    """Surfaces when schema, CEL rules or a webhook reject the object (422)."""

    reason = "KubernetesInvalid"


class AdmissionDenied(KubeError):
    """Surfaces when a webhook has denied the request with 500.

    Harvester's webhooks do that with every rule whose code returns a plain Go error: a MAC address that is
    taken, a network that does not exist (v1.6.0, `pkg/webhook/types/admission.go`). The server is well.
    """

    reason = "KubernetesAdmissionDenied"
    retryable = True


REFUSALS = (Invalid, BadRequest, AdmissionDenied)
"""What webhooks and policies answer to an object that they do not want."""


class Gone(KubeError, Expired):
    """Surfaces when a resourceVersion or continue token is too old (410): list again."""

    reason = "KubernetesGone"


class TooManyRequests(KubeError):
    """Surfaces when the server sheds load (429), or an eviction has to wait."""

    reason = "KubernetesTooManyRequests"
    retryable = True


class ServerUnavailable(KubeError):
    """Surfaces when the server fails (5xx), is not there, or does not answer in time.

    Attributes:
        retry_within: Seconds after which whatever it has hit is tried again at the latest: when the server is
            back, work must go on, however long it was away.
    """

    reason = "KubernetesUnavailable"
    retryable = True
    retry_within: ClassVar[float] = 30.0  # as often as an informer asks then


_BY_STATUS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: ServerUnavailable,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}
_SERVER_ERRORS = range(500, 600)
# k8s.io/apiserver, `plugin/webhook/errors/statuserror.go`; "failed calling webhook" is the other case.
_DENIED = re.compile(r'admission webhook ".*?" denied the request')
_PLAIN_TEXT_LIMIT = 300  # characters of an answer that is not a Status (a proxy's page) kept in the message


def from_response(doing: str, status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
    """Return the error for an HTTP answer.

    Args:
        doing: Verb, resource and object, the start of the message.
        status: HTTP status, not 2xx.
        body: As received; a `Status` object, or anything a proxy may say.
        headers: Of the answer, keys without regard to case.
    """
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict) or decoded.get("kind") != "Status":
        text = body.decode("utf-8", "replace").strip()[:_PLAIN_TEXT_LIMIT]
        decoded = {"message": text or "no message"}
    return from_status(doing, status, decoded, retry_after=headers.get("Retry-After"))


def from_status(doing: str, code: int, status: dict[str, Any], retry_after: str | None = None) -> KubeError:
    """Return the error for a `Status` object, as it comes in answers and in a watch's ERROR events."""
    details = status.get("details") or {}
    kind = _BY_STATUS.get(code, ServerUnavailable if code in _SERVER_ERRORS else BadRequest)
    if code == 409 and status.get("reason") == "AlreadyExists":  # noqa: PLR2004  # HTTP Conflict
        kind = AlreadyExists
    elif kind is NotFound and not details.get("name"):
        kind = KindNotFound
    elif kind is ServerUnavailable and _DENIED.match(status.get("message") or ""):
        kind = AdmissionDenied
    return kind(
        f"{doing}: {status.get('message') or 'no message'}",
        status=code,
        retry_after=_seconds(details.get("retryAfterSeconds") or retry_after),
        causes=tuple(str(cause.get("reason", "")) for cause in details.get("causes") or ()),
    )


def _seconds(value: Any) -> float | None:
    """Return a Retry-After in seconds; its other form, a date, is not used by API servers.

    `None` for 0 too: "at once" is no pace to be kept by thousands of objects; the back-off is.
    """
    try:
        return max(0.0, float(value)) or None
    except (TypeError, ValueError):
        return None
