from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from controller.runtime.backoff import Backoff
from controller.runtime.informer import SharedInformer
from controller.runtime.listwatch import Object, object_key
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually
from tests.unit.runtime.fake_api import FakeAPI, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Notes:
    """A handler that writes down what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def on_add(self, obj: Object) -> None:
        self.told.append(("add", object_key(obj)))

    def on_update(self, old: Object, new: Object) -> None:
        self.told.append(("resync" if old is new else "update", object_key(new)))

    def on_delete(self, obj: Object) -> None:
        self.told.append(("delete", object_key(obj)))

    def register(self, informer: SharedInformer) -> Notes:
        informer.add_handler(on_add=self.on_add, on_update=self.on_update, on_delete=self.on_delete)
        return self


@pytest.fixture
def api() -> FakeAPI:
    api = FakeAPI()
    api.put("a")
    api.put("b")
    return api


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    yield stop
    stop.set()


def make(api: FakeAPI, **options: Any) -> SharedInformer:
    return SharedInformer("things", api, backoff=Backoff(0.001, 0.01), **options)


def test_handlers_hear_of_everything_once(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api)
    notes = Notes().register(informer)
    assert not informer.has_synced()
    informer.start(stop)
    assert informer.wait_for_sync(EVENTUALLY_SECONDS)
    assert informer.has_synced()
    assert notes.told == [("add", "a"), ("add", "b")]
    api.put("c")
    api.put("a", changed=True)
    api.remove("b")
    eventually(lambda: len(notes.told) == 5)
    assert notes.told[2:] == [("add", "c"), ("update", "a"), ("delete", "b")]


def test_the_store_has_the_change_before_a_handler_hears_of_it(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api)
    surprises: list[str] = []

    def check_there(obj: Object) -> None:
        if informer.store.get(object_key(obj)) is not obj:
            surprises.append(object_key(obj))

    def check_gone(obj: Object) -> None:
        if informer.store.get(object_key(obj)) is not None:
            surprises.append(object_key(obj))

    heard = Notes().register(informer)
    informer.add_handler(on_add=check_there, on_update=lambda _, new: check_there(new), on_delete=check_gone)
    informer.start(stop)
    informer.wait_for_sync(EVENTUALLY_SECONDS)
    api.put("a", changed=True)
    api.remove("a")
    eventually(lambda: ("delete", "a") in heard.told)
    assert surprises == []


def test_what_was_deleted_behind_our_back_is_told_and_what_did_not_change_is_not(
    api: FakeAPI, stop: threading.Event
) -> None:
    informer = make(api)
    notes = Notes().register(informer)
    informer.start(stop)
    eventually(lambda: informer.has_synced() and api.open_watches == 1)
    with api._lock:
        api.cut()
        api.remove("a")
        api.put("c")
        api.compact()
    eventually(lambda: len(notes.told) == 4)
    assert sorted(notes.told[2:]) == [("add", "c"), ("delete", "a")]


def test_a_handler_that_comes_late_hears_of_what_is_there(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api)
    informer.start(stop)
    informer.wait_for_sync(EVENTUALLY_SECONDS)
    notes = Notes().register(informer)
    assert notes.told == [("add", "a"), ("add", "b")]


def test_a_handler_that_raises_does_not_hurt_the_others(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api)

    def defect(_: Object) -> None:
        raise RuntimeError("defect")

    with structlog.testing.capture_logs() as logs:
        informer.add_handler(on_add=defect)
        notes = Notes().register(informer)
        informer.start(stop)
        informer.wait_for_sync(EVENTUALLY_SECONDS)
        api.put("c")
        eventually(lambda: len(notes.told) == 3)
    assert [entry["key"] for entry in logs if entry["event"] == "handler failed"] == ["a", "b", "c"]


def test_a_resync_tells_of_every_object_again(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api, resync_seconds=0.01)
    notes = Notes().register(informer)
    informer.start(stop)
    eventually(lambda: {("resync", "a"), ("resync", "b")} <= set(notes.told))


def test_objects_are_transformed_before_they_are_stored(api: FakeAPI, stop: threading.Event) -> None:
    informer = make(api, transform=lambda obj: {"metadata": obj["metadata"]})
    api.put("fat", payload="x" * 1000)
    informer.start(stop)
    informer.wait_for_sync(EVENTUALLY_SECONDS)
    api.put("fatter", payload="x" * 1000)
    eventually(lambda: informer.store.get("fatter"))
    assert all("payload" not in obj for obj in informer.store.list())


def test_waiting_for_sync_gives_up_in_time_and_when_stopped(api: FakeAPI, stop: threading.Event) -> None:
    api.fail("list", Unavailable(retry_after=3600.0))
    informer = make(api)
    informer.start(stop)
    assert not informer.wait_for_sync(0.01)
    eventually(lambda: isinstance(informer.error, Unavailable))
    stop.set()
    assert not informer.wait_for_sync(EVENTUALLY_SECONDS)


def test_its_threads_end_with_the_stop_event_and_it_starts_only_once(
    api: FakeAPI, stop: threading.Event
) -> None:
    informer = make(api, resync_seconds=3600.0)
    informer.start(stop)
    informer.wait_for_sync(EVENTUALLY_SECONDS)
    assert not informer.join(0.001)
    with pytest.raises(RuntimeError, match="things"):
        informer.start(stop)
    stop.set()
    assert informer.join(EVENTUALLY_SECONDS)
