"""Events (core/v1): what a user sees below `kubectl describe`, never at the expense of who says it.

What may not live here: when an Event is due. That is the reconciler's to say.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from controller.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from controller.kube.resource import Resource
from controller.runtime.backoff import Backoff, TokenBucket
from controller.runtime.clock import Clock, SystemClock

if TYPE_CHECKING:
    from datetime import datetime

    from controller.kube.client import KubeClient, KubeObject

EVENTS = Resource("", "v1", "events", "Event")
NORMAL = "Normal"
WARNING = "Warning"

MESSAGE_LIMIT_BYTES = 1024  # the API server rejects longer ones
AGGREGATION_SECONDS = 600.0  # client-go's window: the same thing said again within it only counts up
SPAM_BURST, SPAM_REFILL_SECONDS = 25, 300.0  # client-go's, per object: 25 at once, then one every 5 minutes
REMEMBERED = 4096  # client-go's; aggregation and spam state of the objects that were spoken of last
QUEUE_SIZE = 1000  # about 2 MB at most; what does not fit is dropped
ATTEMPTS = 8  # with the back-off below: given up after 1 + 2 + ... + 32 + 32 = 95 s of an absent API
RETRY_BASE_SECONDS, RETRY_CAP_SECONDS = 1.0, 32.0
_NAME_LIMIT = 253 - 17  # an object's name, leaving room for "." and 16 hex digits

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Said:
    involved: tuple[tuple[str, str], ...]
    type: str
    reason: str
    message: str
    at: datetime
    suffix: str  # of the Event's name; chosen once, so that a repeated request cannot make a second Event


@dataclass(slots=True)
class _Stored:
    """An Event that exists, to be counted up."""

    name: str
    count: int
    until: float  # monotonic


class EventRecorder:
    """Writes Events about objects, from a thread of its own.

    Promises: `event` never blocks and never raises. The same type, reason and message about the same object
    within 10 minutes of each other are one Event with a count. One object cannot cause more than 25 at once
    and then one every 5 minutes. When the API is away, Events are kept for about a minute and a half; when
    RBAC forbids them there is one warning in the log, and from then on silence.
    """

    def __init__(
        self, client: KubeClient, *, component: str, instance: str, clock: Clock | None = None
    ) -> None:
        """Nothing is written before `start`.

        Args:
            client: Writes them.
            component: `source.component` and `reportingComponent`: `vm-import-controller`.
            instance: `reportingInstance`: the pod's name.
            clock: Stamps and limits.
        """
        self._client = client
        self._component = component
        self._instance = instance
        self._clock = clock or SystemClock()
        self._queue: queue.Queue[_Said | None] = queue.Queue(QUEUE_SIZE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._stored: OrderedDict[Any, _Stored] = OrderedDict()
        self._budgets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._forbidden = False
        self._dropping = False

    def start(self) -> None:
        """Start writing; once."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Write what is still queued, without retries, for `timeout` seconds at most, and end."""
        self._stopping.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return  # too much to say in time
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def event(self, obj: KubeObject, event_type: str, reason: str, message: str) -> None:
        """Say something about `obj`.

        Args:
            obj: The object, or of it `apiVersion`, `kind` and, of `metadata`, name, namespace and uid.
            event_type: `NORMAL` or `WARNING`.
            reason: CamelCase word.
            message: A sentence; cut to 1,024 bytes. It must not contain secrets.
        """
        try:
            self._queue.put_nowait(
                _Said(
                    _reference(obj),
                    event_type,
                    reason,
                    _cut(message),
                    self._clock.now(),
                    secrets.token_hex(8),
                )
            )
        except KeyError:
            log.warning("event about an object without a name", event_reason=reason)
        except queue.Full:
            if not self._dropping:
                self._dropping = True
                log.warning("event queue is full, dropping", event_reason=reason)
        else:
            self._dropping = False

    def _run(self) -> None:
        while (said := self._queue.get()) is not None:
            try:
                self._write(said)
            except Exception:  # one Event that cannot be written must not end all others
                log.exception("event was lost", event_reason=said.reason)

    def _write(self, said: _Said) -> None:
        if not self._within_budget(said):
            return
        backoff = Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._create_or_count(said)
            except Forbidden as exc:
                if "NamespaceTerminating" not in exc.causes and not self._forbidden:
                    self._forbidden = True
                    log.warning("events are forbidden, going on without", error=str(exc))
                return
            except KubeError as exc:
                delay = max(backoff.next_delay(), exc.retry_after or 0.0)
                if not exc.retryable or attempt == ATTEMPTS or self._stopping.wait(delay):
                    log.warning("event was lost", event_reason=said.reason, error=str(exc))
                    return
            else:
                return

    def _create_or_count(self, said: _Said) -> None:
        key = (said.involved, said.type, said.reason, said.message)
        now = self._clock.monotonic()
        stored = self._stored.get(key)
        if stored is not None and now < stored.until:
            try:
                self._client.patch(
                    EVENTS,
                    stored.name,
                    {"count": stored.count + 1, "lastTimestamp": _timestamp(said.at)},
                    _namespace(said),
                )
            except NotFound:
                pass  # older than the server keeps Events (an hour by default): a new one
            else:
                stored.count += 1
                stored.until = now + AGGREGATION_SECONDS
                self._stored.move_to_end(key)
                return
        created = self._manifest(said)
        with contextlib.suppress(AlreadyExists):  # the answer to an earlier attempt was lost
            self._client.create(EVENTS, created)
        self._stored[key] = _Stored(created["metadata"]["name"], 1, now + AGGREGATION_SECONDS)
        self._stored.move_to_end(key)
        while len(self._stored) > REMEMBERED:
            self._stored.popitem(last=False)

    def _manifest(self, said: _Said) -> KubeObject:
        involved = dict(said.involved)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{involved['name'][:_NAME_LIMIT]}.{said.suffix}",
                "namespace": _namespace(said),
            },
            "involvedObject": involved,
            "type": said.type,
            "reason": said.reason,
            "message": said.message,
            "count": 1,
            "firstTimestamp": _timestamp(said.at),
            "lastTimestamp": _timestamp(said.at),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }

    def _within_budget(self, said: _Said) -> bool:
        who = str(said.involved)
        budget = self._budgets.get(who)
        if budget is None:
            budget = self._budgets[who] = TokenBucket(1 / SPAM_REFILL_SECONDS, SPAM_BURST, self._clock)
        self._budgets.move_to_end(who)
        while len(self._budgets) > REMEMBERED:
            self._budgets.popitem(last=False)
        return budget.try_take()


def _reference(obj: KubeObject) -> tuple[tuple[str, str], ...]:
    """Return the ObjectReference, hashable; resourceVersion is left out, it would defeat aggregation."""
    metadata = obj["metadata"]
    fields = {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
    }
    return tuple((field, value) for field, value in fields.items() if value)


def _namespace(said: _Said) -> str:
    return dict(said.involved).get(
        "namespace", "default"
    )  # the API wants cluster-scoped objects' Events there


def _cut(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= MESSAGE_LIMIT_BYTES:
        return message
    return encoded[: MESSAGE_LIMIT_BYTES - 3].decode(errors="ignore") + "..."


def _timestamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")  # metav1.Time has seconds
