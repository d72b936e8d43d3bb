"""Keeps a sink equal to what an API has: list once, then watch, for as long as it takes.

What may not live here: how a list or watch is spoken (`ListWatch`), and what is done with objects (`Sink`).
"""

from __future__ import annotations

import contextlib
import random
import threading
from typing import TYPE_CHECKING, Protocol

import structlog

from controller.runtime.backoff import Backoff
from controller.runtime.clock import Clock, SystemClock
from controller.runtime.listwatch import EventType, Expired, ListWatch, Object, resource_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_SIZE = 500  # client-go's; 10,000 objects are 20 requests of about 2 MB
BACKOFF_BASE_SECONDS = 0.8
BACKOFF_CAP_SECONDS = 30.0
# client-go's figures. A sick API server sees, per informer, 5 requests in the first 25 s and then one each
# 24..30 s: 0.04 requests/s.
STABLE_SECONDS = 10.0
# A watch that lasted this long was a good one: the back-off starts again from its base. A peer that cuts
# every watch sooner is asked ever more seldom; one that cuts after 10 s costs at most 0.1 requests/s.
WATCH_TIMEOUT_SECONDS = (300, 600)
# Spread, as client-go does, so that the watches of all informers (and replicas) do not end together.

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where a reflector puts what it sees. Called by one thread, one call at a time."""

    def replace(self, objects: Iterable[Object]) -> None:
        """Take a new list; what it lacks was deleted. `objects` may raise: then nothing must change."""
        ...

    def upsert(self, obj: Object) -> None:
        """Take an added or modified object."""
        ...

    def delete(self, obj: Object) -> None:
        """Take the last state of a deleted object."""
        ...


class _Stopped(Exception):  # not an error
    """Leaves a list half-way."""


class Reflector:
    """Keeps `sink` equal to what `list_watch` shows, through everything that APIs and networks do.

    Promises:

    * Nothing is missed: events are taken from exactly the version that was seen last, and when the server no
      longer has it (410, at the start or in the middle of a watch, or between two pages) all is listed again.
    * An API that is away, overloaded (429) or failing (5xx) is asked again from the same version, with
      growing, jittered pauses, and is *not* burdened with a list. The error's `retry_after` is honoured.
    * Whatever else goes wrong ends in a new list after the pause: a sink that failed, a grant or a CRD that
      comes late are no reason to go blind.
    * It ends within a second or so after `stop` is set, and never otherwise.
    """

    def __init__(
        self,
        name: str,
        list_watch: ListWatch,
        sink: Sink,
        *,
        page_size: int = PAGE_SIZE,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._list_watch = list_watch
        self._sink = sink
        self._page_size = page_size
        self._backoff = backoff or Backoff(BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS)
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        self._version = ""
        self._synced = threading.Event()
        self._error: Exception | None = None
        self._log = log.bind(reflector=name)

    @property
    def synced(self) -> threading.Event:
        """Set as soon as the first whole list is in the sink; never cleared."""
        return self._synced

    @property
    def error(self) -> Exception | None:
        """What went wrong last, or `None` when the API has answered since."""
        return self._error

    @property
    def last_version(self) -> str:
        """The resourceVersion seen last, bookmarks included."""
        return self._version

    def run(self, stop: threading.Event) -> None:
        """List and watch until `stop` is set."""
        while not stop.is_set():
            try:
                self._list(stop)
                self._watch(stop)
            except _Stopped:
                return
            except Expired as exc:
                self._log.info(
                    "resource version expired, listing again", version=self._version, error=str(exc)
                )
                self._pause(exc, stop)
            except Exception as exc:  # noqa: BLE001  # whatever it is, an informer must not go blind for ever
                self._failed("list or watch failed, listing again", exc)
                self._pause(exc, stop)

    def _list(self, stop: threading.Event) -> None:
        try:
            self._sink.replace(self._objects(self._page_size, stop))
        except Expired:
            # The pages took longer than the server keeps versions; the whole at once cannot expire.
            self._log.info("continue token expired, listing without pages")
            self._sink.replace(self._objects(0, stop))
        self._answered()
        self._synced.set()

    def _objects(self, limit: int, stop: threading.Event) -> Iterator[Object]:
        token = ""
        while True:
            if stop.is_set():
                raise _Stopped
            page = self._list_watch.list_page(limit, token)
            yield from page.items
            token = page.continue_token
            if not token:
                self._version = page.resource_version
                return

    def _watch(self, stop: threading.Event) -> None:
        """Watch, and watch again, until `stop`; raises when only a new list helps."""
        while not stop.is_set():
            started = self._clock.monotonic()
            error: Exception | None = None
            try:
                self._watch_once(stop)
            except Exception as exc:
                if isinstance(exc, Expired) or not getattr(exc, "retryable", False):
                    raise
                error = exc
                self._failed("watch failed, resuming", exc)
            else:
                if not stop.is_set():
                    self._answered()
            lasted = self._clock.monotonic() - started
            if lasted >= STABLE_SECONDS:
                self._backoff.reset()
            if error is not None or lasted < STABLE_SECONDS:
                self._pause(error, stop)

    def _watch_once(self, stop: threading.Event) -> None:
        timeout = self._rng.randint(*WATCH_TIMEOUT_SECONDS)
        with contextlib.closing(self._list_watch.watch(self._version, timeout, stop)) as events:
            for event in events:
                self._answered()
                if event.type is EventType.DELETED:
                    self._sink.delete(event.object)
                elif event.type is not EventType.BOOKMARK:
                    self._sink.upsert(event.object)
                # Only now: an event that the sink did not take is asked for again.
                self._version = resource_version(event.object) or self._version

    def _pause(self, error: Exception | None, stop: threading.Event) -> None:
        delay = self._backoff.next_delay()
        asked_for: float | None = getattr(error, "retry_after", None)
        stop.wait(max(delay, asked_for or 0.0))

    def _failed(self, what: str, error: Exception) -> None:
        """Log the first of a row of failures of one kind; the others say nothing new."""
        news = type(error) is not type(self._error)
        self._error = error
        if news:
            self._log.warning(what, version=self._version, error=str(error), error_type=type(error).__name__)

    def _answered(self) -> None:
        if self._error is not None:
            self._log.info("API answers again", version=self._version)
            self._error = None
