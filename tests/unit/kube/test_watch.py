from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.kube import watch as kube_watch
from controller.kube.client import KubeClient
from controller.kube.errors import Forbidden, Gone, ServerUnavailable
from controller.kube.resource import Resource
from controller.kube.watch import ResourceListWatch, decode_event, lines
from controller.runtime.listwatch import EventType
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually
from tests.unit.kube.fake_server import FakeServer, Handler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from controller.runtime.listwatch import WatchEvent

THINGS = Resource("example.io", "v1", "things", "Thing")


def event(kind: str, version: int, **fields: Any) -> bytes:
    obj = {"metadata": {"name": "a", "resourceVersion": str(version)}, **fields}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def error(code: int, reason: str) -> bytes:
    status = {"kind": "Status", "code": code, "reason": reason, "message": "words of the server"}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_how_bytes_are_cut_into_chunks(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(part + b"\n" for part in parts)
    places = sorted({min(cut, len(whole)) for cut in cuts})
    chunks = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    assert list(lines(chunks)) == [part.strip() for part in parts if part.strip()]


def test_a_last_line_without_its_end_is_no_line() -> None:
    assert list(lines([b"one\ntw"])) == [b"one"]


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"null", b'{"type": "ADDED"}', b'{"type":"ADDED","object":[]}', b'{"type":[],"object":{}}'],
)
def test_nonsense_is_an_unavailable_server(line: bytes) -> None:
    with pytest.raises(ServerUnavailable, match="watch things"):
        decode_event(line, "watch things")


def test_an_event_of_a_type_from_the_future_is_left_out() -> None:
    assert decode_event(event("REBASED", 1), "watch things") is None


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer, tmp_path: Path) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(server.kubeconfig(tmp_path))
    yield client
    client.close()


def watch(client: KubeClient, stop: threading.Event | None = None) -> Iterator[WatchEvent]:
    return client.watch(THINGS, "5", 300, stop or threading.Event(), namespace="ns")


def streaming(*chunks: bytes, end: str = "clean") -> Any:
    def answer(handler: Handler) -> None:
        handler.start_stream()
        for chunk in chunks:
            handler.chunk(chunk)
        if end == "clean":
            handler.chunk(b"")
        elif end == "cut":
            handler.cut()
        else:
            handler.hang()

    return answer


def test_events_arrive_as_they_come_through_blank_lines_and_odd_chunks(
    server: FakeServer, client: KubeClient
) -> None:
    added, modified = event("ADDED", 6), event("MODIFIED", 7, note="größer".encode().decode())
    server.answers = [
        streaming(added + b"\n\r\n" + modified[:9], modified[9:], event("BOOKMARK", 9), event("DELETED", 10))
    ]
    found = list(watch(client))
    assert [item.type for item in found] == [
        EventType.ADDED,
        EventType.MODIFIED,
        EventType.BOOKMARK,
        EventType.DELETED,
    ]
    assert found[1].object["note"] == "größer"


def test_the_request_asks_for_bookmarks_and_an_end(server: FakeServer, client: KubeClient) -> None:
    server.answers = [streaming()]
    list_watch = ResourceListWatch(client, THINGS, namespace="ns", label_selector="a=b", field_selector="c=d")
    assert list(list_watch.watch("5", 301, threading.Event())) == []
    (request,) = server.requests
    assert request.path == "/apis/example.io/v1/namespaces/ns/things"
    assert request.query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "301",
        "labelSelector": "a=b",
        "fieldSelector": "c=d",
    }


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [(410, "Expired", Gone), (500, "InternalError", ServerUnavailable), (403, "Forbidden", Forbidden)],
)
def test_an_error_event_is_raised_as_what_it_means(
    server: FakeServer, client: KubeClient, code: int, reason: str, kind: type[Exception]
) -> None:
    server.answers = [streaming(event("ADDED", 6), error(code, reason))]
    events = watch(client)
    assert next(events).type is EventType.ADDED
    with pytest.raises(kind, match=r"watch things.example.io ns: words of the server"):
        next(events)


def test_a_watch_that_is_refused_is_raised_as_what_it_means(server: FakeServer, client: KubeClient) -> None:
    server.answers = [(410, {"kind": "Status", "code": 410, "message": "too old resource version"})]
    with pytest.raises(Gone, match="too old"):
        next(watch(client))


def test_a_broken_connection_is_an_unavailable_server_and_half_an_event_is_none(
    server: FakeServer, client: KubeClient
) -> None:
    server.answers = [streaming(event("ADDED", 6), event("ADDED", 7)[:10], end="cut")]
    events = watch(client)
    assert next(events).object["metadata"]["resourceVersion"] == "6"
    with pytest.raises(ServerUnavailable, match="connection lost"):
        next(events)


def test_a_connection_that_went_silent_ends_so_that_the_watch_is_asked_for_again(
    server: FakeServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_watch, "IDLE_SECONDS", 3)
    server.answers = [streaming(event("ADDED", 6), end="silent")]
    assert [item.type for item in watch(client)] == [EventType.ADDED]


def test_a_watch_ends_soon_after_stop_though_the_server_says_nothing(
    server: FakeServer, client: KubeClient
) -> None:
    server.answers = [streaming(event("ADDED", 6), end="silent")]
    stop = threading.Event()
    found: list[WatchEvent] = []
    reader = threading.Thread(target=lambda: found.extend(watch(client, stop)), daemon=True)
    reader.start()
    eventually(lambda: server.requests)
    stop.set()
    reader.join(EVENTUALLY_SECONDS)
    assert not reader.is_alive()


def test_stopping_one_watch_leaves_the_others(server: FakeServer, client: KubeClient) -> None:
    server.answers = [streaming(event("ADDED", 6), end="silent")]
    stops = [threading.Event() for _ in range(3)]
    readers = [
        threading.Thread(target=lambda stop=stop: list(watch(client, stop)), daemon=True) for stop in stops
    ]
    for reader in readers:
        reader.start()
    eventually(lambda: len(server.requests) == 3)
    stops[1].set()
    readers[1].join(EVENTUALLY_SECONDS)
    assert [reader.is_alive() for reader in readers] == [True, False, True]
    for stop in stops:
        stop.set()
    for reader in readers:
        reader.join(EVENTUALLY_SECONDS)


def test_no_thread_remains_when_no_watch_does(server: FakeServer, client: KubeClient) -> None:
    def interrupters() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "watch-interrupter"]

    eventually(lambda: not interrupters())
    server.answers = [streaming(event("ADDED", 6), end="silent")]
    events = watch(client)
    with closing(events):  # type: ignore[type-var]
        next(events)
        assert len(interrupters()) == 1
    eventually(lambda: not interrupters())
