"""An API server for one kind, in memory: versions, pages, watches, lost history, and faults on order."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import TYPE_CHECKING, Any

from controller.runtime.listwatch import EventType, Expired, Object, Page, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Generator

POLL_SECONDS = 0.005


class Unavailable(Exception):  # the API's word
    """What `kube` raises for a 5xx."""

    retryable = True

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("the server is currently unable to handle the request")
        self.retry_after = retry_after


class Refused(Exception):  # the API's word
    """What asking again does not mend."""

    retryable = False


class FakeAPI:
    """Implements `ListWatch`, and lets a test be the other clients and the weather.

    Attributes:
        requests: What was asked: `list`, `list next`, `list all`, `watch <version>`.
        timeouts: `timeout_seconds` of each watch.
    """

    def __init__(self, first_version: int = 100) -> None:
        self._lock = threading.Condition()
        self._version = first_version
        self._objects: dict[str, Object] = {}
        self._history: list[tuple[int, WatchEvent]] = []
        self._oldest = first_version  # watches from before get 410
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self._tokens = itertools.count(1)
        self._faults: dict[str, list[Exception]] = {"list": [], "list next": [], "watch": []}
        self._generation = 0  # changes when all open watches are cut
        self._cut_with: Exception | None = None
        self.open_watches = 0
        self.requests: list[str] = []
        self.timeouts: list[int] = []

    # -- other clients ---------------------------------------------------------------------------------------

    def put(self, name: str, **fields: Any) -> Object:
        with self._lock:
            kind = EventType.MODIFIED if name in self._objects else EventType.ADDED
            obj = {"metadata": {"name": name, "resourceVersion": self._next()}, **fields}
            self._objects[name] = obj
            self._tell(kind, obj)
            return obj

    def remove(self, name: str) -> None:
        with self._lock:
            obj = copy.deepcopy(self._objects.pop(name))
            obj["metadata"]["resourceVersion"] = self._next()
            self._tell(EventType.DELETED, obj)

    def contents(self) -> dict[str, Object]:
        with self._lock:
            return copy.deepcopy(self._objects)

    @property
    def version(self) -> str:
        return str(self._version)

    # -- the weather -----------------------------------------------------------------------------------------

    def fail(self, request: str, *errors: Exception) -> None:
        """Let the next requests of this sort fail, one error each."""
        with self._lock:
            self._faults[request].extend(errors)

    def bookmark(self) -> None:
        """Tell the version to all open watches, and nothing else."""
        with self._lock:
            self._next()
            self._tell(EventType.BOOKMARK, {"metadata": {"resourceVersion": self.version}})

    def cut(self, error: Exception | None = None) -> None:
        """End all open watches: as the server's own timeout does, or with an error."""
        with self._lock:
            self._generation += 1
            self._cut_with = error
            self._lock.notify_all()

    def compact(self) -> None:
        """Forget the history, as etcd does every 5 minutes, and all continue tokens."""
        with self._lock:
            self._oldest = self._version
            self._history.clear()
            self._pages.clear()

    # -- ListWatch -------------------------------------------------------------------------------------------

    def list_page(self, limit: int, continue_token: str) -> Page:
        with self._lock:
            request = "list next" if continue_token else "list" if limit else "list all"
            self.requests.append(request)
            if self._faults.get(request):
                raise self._faults[request].pop(0)
            if continue_token:
                if continue_token not in self._pages:
                    raise Expired("the provided continue parameter is too old")
                version, items = self._pages.pop(continue_token)
            else:
                version, items = self._version, list(copy.deepcopy(self._objects).values())
            if not limit or len(items) <= limit:
                return Page(items, str(version), "")
            token = f"token-{next(self._tokens)}"
            self._pages[token] = (version, items[limit:])
            return Page(items[:limit], str(version), token)

    def watch(
        self, resource_version: str, timeout_seconds: int, stop: threading.Event
    ) -> Generator[WatchEvent, None, None]:
        with self._lock:
            self.requests.append(f"watch {resource_version}")
            self.timeouts.append(timeout_seconds)
            if self._faults["watch"]:
                raise self._faults["watch"].pop(0)
            generation = self._generation
            self.open_watches += 1
        try:
            yield from self._events(int(resource_version), generation, stop)
        finally:
            with self._lock:
                self.open_watches -= 1

    def _events(
        self, after: int, generation: int, stop: threading.Event
    ) -> Generator[WatchEvent, None, None]:
        while not stop.is_set():
            with self._lock:
                if generation != self._generation:
                    if self._cut_with is not None:
                        raise self._cut_with
                    return
                if after < self._oldest:
                    raise Expired(f"too old resource version: {after} ({self._oldest})")
                news = [(version, event) for version, event in self._history if version > after]
                if not news:
                    self._lock.wait(POLL_SECONDS)
            for version, event in news:
                yield copy.deepcopy(event)
                after = version

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _tell(self, kind: EventType, obj: Object) -> None:
        self._history.append((self._version, WatchEvent(kind, copy.deepcopy(obj))))
        self._lock.notify_all()
