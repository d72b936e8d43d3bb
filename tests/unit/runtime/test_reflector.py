from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from controller.runtime.backoff import Backoff
from controller.runtime.listwatch import Expired, Object, object_key
from controller.runtime.reflector import WATCH_TIMEOUT_SECONDS, Reflector
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually
from tests.unit.runtime.fake_api import FakeAPI, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from controller.runtime.listwatch import Page, WatchEvent


class Recorder:
    """A sink that remembers; `broken` lets it fail once."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.replaced = 0
        self.broken = False

    def replace(self, objects: Iterable[Object]) -> None:
        self.objects = {object_key(obj): obj for obj in objects}
        self.replaced += 1

    def upsert(self, obj: Object) -> None:
        if self.broken:
            self.broken = False
            raise KeyError("defect of a sink")
        self.objects[object_key(obj)] = obj

    def delete(self, obj: Object) -> None:
        del self.objects[object_key(obj)]


class Running:
    """A reflector at work on a fake API."""

    def __init__(self, api: FakeAPI, *, page_size: int = 500) -> None:
        self.api = api
        self.sink = Recorder()
        self.reflector = Reflector(
            "things", api, self.sink, page_size=page_size, backoff=Backoff(0.001, 0.01)
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.reflector.run, args=(self.stop,), daemon=True)

    def start(self) -> None:
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(EVENTUALLY_SECONDS)
        assert not self.thread.is_alive()

    def agrees(self) -> bool:
        return self.sink.objects == self.api.contents()

    def watching(self) -> bool:
        return self.reflector.synced.is_set() and self.api.open_watches == 1

    def lists(self) -> int:
        return self.api.requests.count("list")


@pytest.fixture
def api() -> FakeAPI:
    api = FakeAPI()
    for name in ("a", "b", "c"):
        api.put(name)
    return api


@pytest.fixture
def running(api: FakeAPI) -> Iterator[Running]:
    running = Running(api)
    running.start()
    eventually(running.watching)
    yield running
    running.end()


def test_it_lists_once_and_then_follows_the_watch(running: Running, api: FakeAPI) -> None:
    assert running.agrees()
    api.put("d")
    api.put("a", changed=True)
    api.remove("b")
    eventually(running.agrees)
    assert api.requests == ["list", "watch 103"]
    eventually(lambda: running.reflector.last_version == api.version)


def test_a_list_comes_in_pages(api: FakeAPI) -> None:
    running = Running(api, page_size=2)
    running.start()
    eventually(running.watching)
    assert running.agrees()
    assert api.requests[:2] == ["list", "list next"]
    running.end()


def test_a_continue_token_that_expired_ends_in_one_list_without_pages(api: FakeAPI) -> None:
    api.fail("list next", Expired("too old"))
    running = Running(api, page_size=2)
    running.start()
    eventually(running.watching)
    assert running.agrees()
    assert api.requests[:3] == ["list", "list next", "list all"]
    running.end()


def test_it_has_not_synced_before_the_last_page_is_in_the_sink(api: FakeAPI) -> None:
    api.fail("list next", *(Unavailable() for _ in range(3)))
    running = Running(api, page_size=2)
    assert not running.reflector.synced.is_set()
    running.start()
    assert running.reflector.synced.wait(EVENTUALLY_SECONDS)
    assert running.sink.replaced == 1
    assert running.agrees()
    running.end()


def test_a_watch_that_ends_by_itself_goes_on_where_it_was_without_a_list(
    running: Running, api: FakeAPI
) -> None:
    api.put("d")
    eventually(running.agrees)
    version = api.version
    api.cut()
    api.put("e")
    eventually(running.agrees)
    assert running.lists() == 1
    assert f"watch {version}" in api.requests


@pytest.mark.parametrize("where", ["at the start", "in the middle"])
def test_an_api_that_fails_is_asked_again_from_the_same_version_and_not_listed(
    running: Running, api: FakeAPI, where: str
) -> None:
    if where == "in the middle":
        api.cut(Unavailable())
    else:
        api.fail("watch", *(Unavailable() for _ in range(5)))
        api.cut()
    api.put("d")
    eventually(running.agrees)
    assert running.lists() == 1
    assert set(api.requests) == {"list", "watch 103"}


def test_an_expired_version_makes_it_list_again_and_notice_what_was_deleted(
    running: Running, api: FakeAPI
) -> None:
    api.fail("watch", Unavailable())  # it is away for a moment, and meanwhile ...
    with api._lock:
        api.cut()
        api.remove("a")
        api.put("d")
        api.compact()
    eventually(running.agrees)
    assert running.lists() == 2
    assert "a" not in running.sink.objects


def test_an_expired_version_in_the_middle_of_a_watch_makes_it_list_again(
    running: Running, api: FakeAPI
) -> None:
    api.cut(Expired("too old resource version"))
    api.put("d")
    eventually(lambda: running.agrees() and running.lists() == 2)


def test_bookmarks_move_the_version_on(running: Running, api: FakeAPI) -> None:
    api.bookmark()
    eventually(lambda: running.reflector.last_version == api.version)
    api.compact()  # without the bookmark, its version would be too old now
    api.cut()
    api.put("d")
    eventually(running.agrees)
    assert running.lists() == 1


def test_an_error_that_asking_again_does_not_mend_ends_in_a_new_list(running: Running, api: FakeAPI) -> None:
    api.cut(Refused("no"))
    eventually(lambda: running.lists() == 2)
    api.put("d")
    eventually(running.agrees)


def test_a_sink_that_failed_gets_a_new_list(running: Running, api: FakeAPI) -> None:
    running.sink.broken = True
    api.put("d")
    eventually(running.agrees)
    assert running.lists() == 2


def test_a_list_that_is_refused_for_long_is_tried_until_it_works(api: FakeAPI) -> None:
    api.fail("list", *(Refused("forbidden") for _ in range(20)))
    running = Running(api)
    list_page, errors = api.list_page, []

    def look_at_error(limit: int, continue_token: str) -> Page:
        errors.append(type(running.reflector.error))
        return list_page(limit, continue_token)

    api.list_page = look_at_error  # type: ignore[method-assign]
    running.start()
    eventually(running.watching)
    assert errors == [type(None)] + [Refused] * 20
    assert running.reflector.error is None
    assert running.agrees()
    running.end()


def test_the_server_is_left_alone_for_as_long_as_it_asks(api: FakeAPI) -> None:
    class Impatient(threading.Event):
        """Is set as soon as somebody waits for it."""

        waits: ClassVar[list[float | None]] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout)
            self.set()
            return True

    api.fail("list", Unavailable(retry_after=7.0))
    stop = Impatient()
    Reflector("things", api, Recorder(), backoff=Backoff(0.001, 0.01)).run(stop)
    assert stop.waits == [7.0]


def test_a_peer_that_cuts_every_watch_at_once_is_asked_ever_more_seldom() -> None:
    class Counting(Backoff):
        def __init__(self) -> None:
            super().__init__(0.0, 0.0)
            self.row = 0

        def next_delay(self) -> float:
            self.row += 1
            return 0.0

        def reset(self) -> None:
            self.row = 0

    class Cutting(FakeAPI):
        def watch(self, *args: Any) -> Generator[WatchEvent, None, None]:
            self.requests.append("watch")
            if len(self.requests) > 20:
                args[-1].set()  # stop
            yield from ()

    backoff = Counting()
    stop = threading.Event()
    Reflector("things", Cutting(), Recorder(), backoff=backoff).run(stop)
    assert backoff.row >= 20


def test_watches_do_not_all_end_at_the_same_time(api: FakeAPI) -> None:
    runnings = [Running(api) for _ in range(12)]
    for running in runnings:
        running.start()
    eventually(lambda: len(api.timeouts) == 12)
    assert len(set(api.timeouts)) > 6
    low, high = WATCH_TIMEOUT_SECONDS
    assert all(low <= timeout <= high for timeout in api.timeouts)
    for running in runnings:
        running.end()


def test_it_stops_while_watching_and_while_pausing(running: Running, api: FakeAPI) -> None:
    running.end()
    pausing = Running(api)
    api.fail("list", Unavailable(retry_after=3600.0))
    pausing.start()
    eventually(lambda: pausing.reflector.error is not None)
    pausing.end()


def test_it_stops_between_pages_and_half_a_list_is_none(api: FakeAPI) -> None:
    running = Running(api, page_size=1)
    list_page = api.list_page

    def stop_after_the_first(limit: int, continue_token: str) -> Page:
        running.stop.set()
        return list_page(limit, continue_token)

    api.list_page = stop_after_the_first  # type: ignore[method-assign]
    running.start()
    eventually(running.stop.is_set)
    running.end()
    assert api.requests == ["list"]
    assert running.sink.replaced == 0
    assert not running.reflector.synced.is_set()
