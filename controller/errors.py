"""What the controller's own steps raise, and the one place where any error gets its verdict.

An error is data with a `reason` and a `retryable` flag; providers, converters and `controller.kube` have
errors of the same shape. `classify` alone turns an exception into what happens next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

# A change of the source wakes those who wait for it; this is for the change that was missed.
WOKEN_SECONDS: Final = 120.0


class StepError(Exception):
    """Base of what phases raise.

    Attributes:
        reason: CamelCase word for conditions and Events.
        retryable: False: the import ends (Invalid in Preflight, Failed later). True: it is tried again.
    """

    reason: ClassVar[str] = "StepFailed"
    retryable: ClassVar[bool] = False


class PreflightFailed(StepError):
    """Surfaces when findings stop the import; the message lists the blocking ones.

    Attributes:
        findings: All findings, for `status.preflight`; each is a `providers.model.Finding`.
    """

    reason = "PreflightFailed"

    def __init__(self, message: str, *, findings: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class NameTaken(StepError):
    """Surfaces when an object of the target's name exists that this import did not make."""

    reason = "NameTaken"


class ImageFailed(StepError):
    """Surfaces when Harvester gave up on an image again and again; carries its message."""

    reason = "ImageFailed"


class ReferenceNotPermitted(StepError):
    """Surfaces when a Secret or source in another namespace does not consent to being used from here."""

    reason = "ReferenceNotPermitted"
    retryable = True
    retry_after: ClassVar[float] = WOKEN_SECONDS


class SourceNotFound(StepError):
    """Surfaces when the source object does not exist (yet)."""

    reason = "SourceNotFound"
    retryable = True
    retry_after: ClassVar[float] = WOKEN_SECONDS


class SourceNotReady(StepError):
    """Surfaces while the source object is there but not verified."""

    reason = "SourceNotReady"
    retryable = True
    retry_after: ClassVar[float] = WOKEN_SECONDS


class SecretNotFound(StepError):
    """Surfaces when the Secret that a source names does not exist (yet)."""

    reason = "SecretNotFound"
    retryable = True


class StatusMissing(StepError):
    """Surfaces when a phase finds that the status lacks what an earlier phase wrote: somebody edited it."""

    reason = "StatusMissing"


def kinds_of(*bases: type[Exception]) -> list[type[Exception]]:
    """Return the given kinds of errors and all that derive from them, as far as they are imported."""
    found = dict.fromkeys(bases)
    for base in bases:
        found |= dict.fromkeys(kinds_of(*base.__subclasses__()))
    return list(found)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exception means for the pass that raised it.

    Attributes:
        expected: False for an error of a type without a reason, that is, a defect: it is logged with its
            traceback, and retried, since the cause may pass.
        retry_after: Seconds to wait at least before the next attempt, when the error says so.
        findings: Of the preflight checks, when it is they that failed.
    """

    reason: str
    message: str
    retryable: bool
    expected: bool = True
    retry_after: float | None = None
    findings: tuple[Any, ...] = ()


def classify(error: BaseException) -> Verdict:
    """Return what `error` means; the only reader of `reason` and `retryable`."""
    reason = getattr(error, "reason", None)
    if not isinstance(reason, str) or not isinstance(getattr(error, "retryable", None), bool):
        message = f"unexpected {type(error).__name__}; the controller's log has the details"
        return Verdict("InternalError", message, retryable=True, expected=False)
    retry_after = getattr(error, "retry_after", None)
    return Verdict(
        reason,
        str(error) or reason,
        retryable=error.retryable,  # type: ignore[attr-defined]
        retry_after=float(retry_after) if isinstance(retry_after, int | float) else None,
        findings=getattr(error, "findings", ()),
    )
