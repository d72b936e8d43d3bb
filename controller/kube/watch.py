"""Watch streams: from bytes to events, and out of a blocked read when it is time to stop.

Own code because `kubernetes.watch` yields `None` for blank lines, turns ERROR events into `KeyError`, and
cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import urllib3

from controller.kube.errors import KubeError, ServerUnavailable, from_status
from controller.runtime.listwatch import EventType, Page, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from controller.kube.client import KubeClient
    from controller.kube.resource import Resource

IDLE_SECONDS = 150.0
# API servers send a bookmark about every minute, so two missed ones mean a dead connection, that of a proxy
# for instance which forgot about us. TCP keepalive finds dead hosts sooner. There are no bookmarks for a kind
# in which nothing at all has changed since the watch began (seen with v1.34): such a watch is asked for again
# 24 times an hour instead of 8, which costs one request each.
INTERRUPT_SECONDS = 0.25  # how often streams look at their stop event

_EVENT_TYPES = frozenset(EventType)


class ResourceListWatch:
    """List and watch of one resource: `runtime.listwatch.ListWatch` over a `KubeClient`."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector

    def list_page(self, limit: int, continue_token: str) -> Page:
        """See `ListWatch.list_page`."""
        return self._client.list_page(
            self._resource,
            self._namespace,
            limit=limit,
            continue_token=continue_token,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )

    def watch(
        self, resource_version: str, timeout_seconds: int, stop: threading.Event
    ) -> Generator[WatchEvent, None, None]:
        """See `ListWatch.watch`."""
        return self._client.watch(
            self._resource,
            resource_version,
            timeout_seconds,
            stop,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )


class Interrupter:
    """Ends blocked reads of streams whose stop event is set.

    A thread cannot wait for a socket and an event at once, so one thread for all streams, alive only while
    there are any, looks at the events and shuts the sockets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[int, tuple[threading.Event, urllib3.BaseHTTPResponse]] = {}
        self._running = False

    @contextlib.contextmanager
    def guard(self, response: urllib3.BaseHTTPResponse, stop: threading.Event) -> Iterator[None]:
        """Make reads of `response` end, as at its end or with an error, once `stop` is set."""
        with self._lock:
            self._streams[id(response)] = (stop, response)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="watch-interrupter", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._streams.pop(id(response), None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                if not self._streams:
                    self._running = False
                    return
                stopped = [response for stop, response in self._streams.values() if stop.is_set()]
            for response in stopped:
                # RuntimeError, ValueError, OSError: it ended by itself meanwhile.
                with contextlib.suppress(RuntimeError, ValueError, OSError):
                    response.shutdown()
            pause.wait(INTERRUPT_SECONDS)


def stream(
    response: urllib3.BaseHTTPResponse, doing: str, stop: threading.Event, interrupter: Interrupter
) -> Generator[WatchEvent, None, None]:
    """Yield the events of an opened watch and close it, at the latest when the iterator is closed.

    Ends without an error at the end of the stream, when `stop` is set, and when the connection was silent for
    its read timeout: watching again from the last version tells whether the server is still there.

    Raises:
        Gone: the version is too old (an ERROR event).
        ServerUnavailable: the connection broke, in the middle of a line for instance.
        KubeError: whatever else an ERROR event says.
    """
    try:
        with interrupter.guard(response, stop):
            for line in lines(_chunks(response, doing, stop)):
                if stop.is_set():
                    return
                if (event := decode_event(line, doing)) is not None:
                    yield event
    except ServerUnavailable:
        if not stop.is_set():  # else we broke it ourselves
            raise
    finally:
        response.close()


def _chunks(response: urllib3.BaseHTTPResponse, doing: str, stop: threading.Event) -> Iterator[bytes]:
    try:
        while not stop.is_set() and (chunk := response.read1()):
            yield chunk
    except urllib3.exceptions.ReadTimeoutError:
        return
    except (
        urllib3.exceptions.HTTPError,
        OSError,
        ValueError,
    ) as exc:  # ValueError: shut while in ssl's hands
        raise ServerUnavailable(f"{doing}: connection lost: {exc}") from exc


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join chunks and split them at newlines; blank lines and a last line without its end are left out.

    An unfinished line is an event that did not arrive. Whoever watches again from the version of the event
    before gets it whole.
    """
    parts: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            line = b"".join(parts).strip()
            if line:
                yield line
            parts = [other]


def decode_event(line: bytes, doing: str) -> WatchEvent | None:
    """Decode one line; `None` for an event of a type that is not known here.

    Raises:
        KubeError: it is an ERROR event, as the type that its status code means.
        ServerUnavailable: it is not an event at all.
    """
    try:
        decoded: Any = json.loads(line)
        kind, obj = decoded["type"], decoded["object"]
        if not isinstance(kind, str) or not isinstance(obj, dict):
            raise TypeError("neither a type nor an object")  # noqa: TRY301  # one kind of nonsense among others
    except (ValueError, KeyError, TypeError) as exc:
        raise ServerUnavailable(f"{doing}: not a watch event: {exc!r}") from exc
    if kind == "ERROR":
        raise _error(obj, doing)
    return WatchEvent(EventType(kind), obj) if kind in _EVENT_TYPES else None


def _error(status: dict[str, Any], doing: str) -> KubeError:
    code = status.get("code")
    return from_status(doing, code if isinstance(code, int) else 500, status)
