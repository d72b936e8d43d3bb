"""A store that is kept up to date, and says so: the cache and the event source of a controller."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from controller.runtime.clock import Clock, SystemClock
from controller.runtime.listwatch import ListWatch, Object, object_key, resource_version
from controller.runtime.reflector import Reflector
from controller.runtime.store import Store, Transform

if TYPE_CHECKING:
    from controller.runtime.backoff import Backoff

RESYNC_SPREAD = 0.1  # a resync comes up to a tenth of its period early, so that several do not meet
SYNC_POLL_SECONDS = 0.1  # how soon `wait_for_sync` notices the stop event

OnAdd: TypeAlias = Callable[[Object], None]
OnUpdate: TypeAlias = Callable[[Object, Object], None]
OnDelete: TypeAlias = Callable[[Object], None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Handler:
    on_add: OnAdd | None
    on_update: OnUpdate | None
    on_delete: OnDelete | None


class SharedInformer:
    """One reflector, one store, any number of handlers.

    Promises to handlers:

    * They are called one at a time, after the store has the change. They must be quick: enqueue a key.
    * `on_add` once for each object that appears, or that is there when the handler is added; `on_update(old,
      new)` for changes, and with `old is new` at each resync; `on_delete(last known)` also for objects that
      vanished while no watch was running.
    * A handler that raises is logged and does not hurt the others.
    """

    def __init__(
        self,
        name: str,
        list_watch: ListWatch,
        *,
        transform: Transform | None = None,
        resync_seconds: float | None = None,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.store = Store(transform=transform)
        self._name = name
        self._resync_seconds = resync_seconds
        self._clock = clock or SystemClock()
        self._rng = random.SystemRandom()
        self._dispatcher = _Dispatcher(name, self.store)
        self._reflector = Reflector(name, list_watch, self._dispatcher, backoff=backoff, clock=self._clock)
        self._threads: list[threading.Thread] = []
        self._stop: threading.Event | None = None

    @property
    def name(self) -> str:
        """The name given, for logs and health."""
        return self._name

    @property
    def error(self) -> Exception | None:
        """What went wrong at the API last, or `None` when it has answered since."""
        return self._reflector.error

    def add_handler(
        self,
        *,
        on_add: OnAdd | None = None,
        on_update: OnUpdate | None = None,
        on_delete: OnDelete | None = None,
    ) -> None:
        """Register a handler; it is told of every object that is already known, before this returns."""
        self._dispatcher.add(_Handler(on_add, on_update, on_delete))

    def has_synced(self) -> bool:
        """Return whether the first whole list is in the store and was told to the handlers."""
        return self._reflector.synced.is_set()

    def wait_for_sync(self, timeout: float | None = None) -> bool:
        """Wait until `has_synced`; False when `timeout` seconds are over or the informer was stopped."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        while not self._reflector.synced.wait(SYNC_POLL_SECONDS):
            if self._stop is not None and self._stop.is_set():
                return False
            if deadline is not None and self._clock.monotonic() >= deadline:
                return False
        return True

    def start(self, stop: threading.Event) -> None:
        """Start the threads, which run until `stop` is set.

        Raises:
            RuntimeError: it was started before.
        """
        if self._stop is not None:
            raise RuntimeError(f"informer {self._name} was started before")
        self._stop = stop
        self._spawn("reflector", self._reflector.run, stop)
        if self._resync_seconds is not None:
            self._spawn("resync", self._resync_periodically, stop, self._resync_seconds)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the threads to end, `timeout` seconds each at most; returns whether they have."""
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)

    def alive(self) -> bool:
        """Tell whether its threads run, as they do until they are told to stop; true before `start`."""
        return all(thread.is_alive() for thread in self._threads)

    def resync(self) -> None:
        """Tell every handler of every object, as an update of an object to itself."""
        self._dispatcher.resync()

    def _resync_periodically(self, stop: threading.Event, period: float) -> None:
        while not stop.wait(period * (1 - RESYNC_SPREAD * self._rng.random())):
            self.resync()

    def _spawn(self, role: str, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"{role}-{self._name}", daemon=True)
        self._threads.append(thread)
        thread.start()


class _Dispatcher:
    """The reflector's sink: each change goes to the store, then to the handlers, under one lock."""

    def __init__(self, name: str, store: Store) -> None:
        self._store = store
        self._handlers: tuple[_Handler, ...] = ()  # replaced, not changed: a handler may add a handler
        self._lock = threading.RLock()
        self._log = log.bind(informer=name)

    def add(self, handler: _Handler) -> None:
        with self._lock:
            self._handlers = (*self._handlers, handler)
            for obj in self._store.list():
                self._call(handler.on_add, obj)

    def replace(self, objects: Iterable[Object]) -> None:
        staged = self._store.stage(objects)  # fetches the pages; the lock is not held meanwhile
        with self._lock:
            changes = self._store.replace(staged)
            for obj in changes.deleted:
                self._deleted(obj)
            for obj in changes.added:
                self._added(obj)
            for old, new in changes.updated:
                if resource_version(old) != resource_version(new):
                    self._updated(old, new)

    def upsert(self, obj: Object) -> None:
        with self._lock:
            old, new = self._store.upsert(obj)
            if old is None:
                self._added(new)
            else:
                self._updated(old, new)

    def delete(self, obj: Object) -> None:
        with self._lock:
            old = self._store.delete(object_key(obj))
            if old is not None:
                self._deleted(old)

    def resync(self) -> None:
        for obj in self._store.list():
            with self._lock:  # taken per object: events need not wait for the whole resync
                if self._store.get(object_key(obj)) is obj:  # else it has changed, and that is told anyway
                    self._updated(obj, obj)

    # Below, the caller holds the lock.

    def _added(self, obj: Object) -> None:
        for handler in self._handlers:
            self._call(handler.on_add, obj)

    def _updated(self, old: Object, new: Object) -> None:
        for handler in self._handlers:
            self._call(handler.on_update, old, new)

    def _deleted(self, obj: Object) -> None:
        for handler in self._handlers:
            self._call(handler.on_delete, obj)

    def _call(self, function: Callable[..., None] | None, *objects: Object) -> None:
        if function is None:
            return
        try:
            function(*objects)
        except Exception:  # noqa: BLE001  # one handler's defect must not stop the events of all
            self._log.exception("handler failed", key=object_key(objects[-1]))
