"""One pass over one source: log in, look, and say whether it can be used."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from controller import kinds
from controller.api import conditions
from controller.api.conditions import FALSE, TRUE, condition
from controller.api.types import Source
from controller.connections import Connections
from controller.errors import Verdict, classify
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound, ServerUnavailable, TooManyRequests, Unauthorized
from controller.kube.events import EventRecorder
from controller.runtime.clock import Clock
from controller.runtime.workers import Result
from providers.base import Verified
from providers.errors import AuthenticationFailed

log = structlog.get_logger(__name__)

VERIFY_SECONDS: Final = 300.0
# Between a good verification and one that a doubt asks for: however many imports fail, two a minute at most.
DOUBT_SECONDS: Final = 30.0
SECRET_POLL_SECONDS: Final = 10.0  # two small reads for each source: for 100 sources 20 requests a second
RETRY_CAP_SECONDS: Final = 60.0
RETRY_FLOOR_SECONDS: Final = 2.0
# After a refused login the next one comes after 30 s, then after as long as it has been refused, up to five
# minutes: 5 attempts in the first 8 minutes, where directories commonly lock an account at 5 in 10 or 15.
LOGIN_RETRY_FLOOR_SECONDS: Final = 30.0

# What says nothing about a source or its Secret: the API server that has them is in trouble.
_OF_THE_API_SERVER: Final = (ServerUnavailable, TooManyRequests, Unauthorized)


@dataclass(frozen=True, slots=True)
class _Check:
    """A verification that was made: of what, and when the next is due (monotonic seconds).

    Attributes:
        doubtable: From when on it is due too if an import cannot get through; never after a bad one.
    """

    subject: str
    due: float
    doubtable: float


class SourceReconciler:
    """Verifies sources. Keys are `Kind/namespace/name`; safe for many threads."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        connections: Connections,
        events: EventRecorder,
        clock: Clock,
    ) -> None:
        self._kube = kube
        self._connections = connections
        self._events = events
        self._clock = clock
        self._checks: dict[str, _Check] = {}
        self._lock = threading.Lock()

    def reconcile(self, key: str) -> Result:
        """Verify the source if that is due, or if its spec or Secret has changed; write what is news.

        It is also due soon after an import could not get through to it: so the source does not stand there as
        ready while its imports wait, and they are woken when it is back.

        Secrets are not watched: that would take the right to read every Secret of the cluster. The one that
        the source names is read again every few seconds instead.
        """
        kind, namespace, name = key.split("/")
        try:
            obj = self._kube.get(kinds.SOURCES[kind], name, namespace)
        except NotFound:
            self._connections.forget(key)
            with self._lock:
                self._checks.pop(key, None)
            return Result()
        if obj["metadata"].get("deletionTimestamp"):
            return Result()
        source = Source.from_object({**obj, "kind": kind})
        with self._lock:
            last = self._checks.get(key)
        now = self._clock.monotonic()
        subject = self._subject(source)  # before the verification: a change during it must not be missed
        if last is None or now >= last.due or last.subject != subject or self._is_doubted(key, last, now):
            self._connections.doubted(key)  # what was said before this verification is settled by it
            after, ready = self._verify(source)
            last = _Check(subject, now + after, now + (DOUBT_SECONDS if ready else after))
            with self._lock:
                self._checks[key] = last
        return Result(max(0.0, min(last.due - now, SECRET_POLL_SECONDS)))

    def _is_doubted(self, key: str, last: _Check, now: float) -> bool:
        return now >= last.doubtable and self._connections.doubted(key)

    def _subject(self, source: Source) -> str:
        """Return a digest of what is verified: this very object's spec, Secret and pinned certificate."""
        try:
            identity = self._connections.identity(source)
        except _OF_THE_API_SERVER:
            raise
        except Exception as exc:  # noqa: BLE001  # whatever hides the Secret is what is verified then
            identity = f"{type(exc).__name__}: {exc}"
        return f"{source.uid} {source.generation} {identity}"

    def _verify(self, source: Source) -> tuple[float, bool]:
        """Verify and record; return the seconds until the next verification, and whether this was good."""
        result: Verified | Verdict
        try:
            result = self._connections.provider(source).verify()
        except _OF_THE_API_SERVER:
            raise
        except Exception as exc:  # whatever it is, it gets a verdict and is shown
            result = classify(exc)
            if not result.expected:
                log.exception("verification failed unexpectedly", source=source.key)
            delay = self._delay(source, exc)
        else:
            delay = VERIFY_SECONDS
        self._record(source, result)
        return delay, isinstance(result, Verified)

    def _delay(self, source: Source, exc: Exception) -> float:
        """Return the seconds until the next attempt: about as long as it has been failing already."""
        known = conditions.find(source.status.get("conditions") or (), conditions.READY) or {}
        since = known.get("lastTransitionTime")
        age = 0.0
        if since and known.get("status") == FALSE and known.get("reason") == classify(exc).reason:
            age = (self._clock.now() - conditions.parse_timestamp(since)).total_seconds()
        if isinstance(exc, AuthenticationFailed):
            return min(VERIFY_SECONDS, max(LOGIN_RETRY_FLOOR_SECONDS, age))
        return min(RETRY_CAP_SECONDS, max(RETRY_FLOOR_SECONDS, age))

    def _record(self, source: Source, result: Verified | Verdict) -> None:
        """Write what came of a verification, if it is news."""
        after = next_status(source, result, self._clock.now())
        if after == source.status:
            return
        obj: dict[str, Any] = copy.deepcopy(dict(source.raw))
        obj["status"] = after
        try:
            self._kube.replace_status(kinds.SOURCES[source.kind], obj)
        except NotFound:
            return
        self._tell(source, after)

    def _tell(self, source: Source, after: dict[str, Any]) -> None:
        before = conditions.find(source.status.get("conditions") or (), conditions.READY) or {}
        now = conditions.find(after["conditions"], conditions.READY) or {}
        news = (before.get("status"), before.get("reason")) != (now["status"], now["reason"])
        edited = source.status.get("observedGeneration") != source.generation
        ready = now["status"] == TRUE
        if ready and source.insecure and (news or edited):
            message = "certificates are not checked: insecureSkipTLSVerify is set"
            self._events.event(dict(source.raw), "Warning", "CertificateNotChecked", message)
        if not news:
            return
        kind = "Normal" if ready else "Warning"
        self._events.event(dict(source.raw), kind, now["reason"], now["message"])
        level = log.info if ready else log.warning
        level(
            "source verified" if ready else "source not ready",
            source=source.key,
            reason=now["reason"],
            message=now["message"],
        )


def next_status(source: Source, result: Verified | Verdict, now: datetime) -> dict[str, Any]:
    """Return the status of a source after a verification. Pure."""
    verified = isinstance(result, Verified)
    reason = "Verified" if isinstance(result, Verified) else result.reason
    message = result.message
    holds, fails = (TRUE, FALSE) if verified else (FALSE, TRUE)
    status = dict(source.status)
    status["status"] = "clusterReady" if verified else "clusterNotReady"
    status["observedGeneration"] = source.generation
    if isinstance(result, Verified) and result.tls_fingerprint:
        status["tlsFingerprint"] = result.tls_fingerprint
    status["conditions"] = conditions.merge(
        status.get("conditions") or (),
        [
            condition(conditions.CLUSTER_READY, holds, reason, message),
            condition(conditions.CLUSTER_ERROR, fails, reason, "" if verified else message),
            condition(conditions.READY, holds, reason, message),
        ],
        now,
        source.generation,
    )
    return status
