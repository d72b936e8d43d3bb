from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from controller.kube import events
from controller.kube.errors import AlreadyExists, Forbidden, NotFound, ServerUnavailable
from controller.kube.events import NORMAL, WARNING, EventRecorder
from tests.unit.fakes import FakeClock, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.kube.resource import Resource

IMPORT = {
    "apiVersion": "migration.harvesterhci.io/v1beta1",
    "kind": "VirtualMachineImport",
    "metadata": {"namespace": "ns", "name": "web", "uid": "u-1", "resourceVersion": "7"},
}


class FakeEvents:
    """As much of an API as Events need; `fail` lets the next requests fail, `gate` holds them."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.fail: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.requests = 0

    def _request(self) -> None:
        self.gate.wait(60)
        self.requests += 1
        if self.fail:
            raise self.fail.pop(0)

    def create(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        self._request()
        assert resource.plural == "events"
        name = obj["metadata"]["name"]
        if name in self.stored:
            raise AlreadyExists(name)
        self.stored = {**self.stored, name: dict(obj)}  # another one: a test may be going through it
        return obj

    def patch(self, _: Resource, name: str, patch: dict[str, Any], namespace: str) -> dict[str, Any]:
        self._request()
        if name not in self.stored or self.stored[name]["metadata"]["namespace"] != namespace:
            raise NotFound(name)
        self.stored[name].update(patch)
        return self.stored[name]


@pytest.fixture
def api() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recorder(api: FakeEvents, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventRecorder]:
    monkeypatch.setattr(events, "RETRY_BASE_SECONDS", 0.001)
    recorder = EventRecorder(api, component="vm-import-controller", instance="pod-1", clock=clock)  # type: ignore[arg-type]
    recorder.start()
    yield recorder
    recorder.stop(20.0)


def counts(api: FakeEvents) -> list[int]:
    return [stored["count"] for stored in api.stored.values()]


def test_an_event_says_who_what_and_about_whom(api: FakeEvents, recorder: EventRecorder) -> None:
    recorder.event(IMPORT, WARNING, "NameTaken", "a machine of that name exists")
    recorder.stop(20.0)
    (stored,) = api.stored.values()
    assert stored["metadata"]["name"].startswith("web.")
    assert stored["metadata"]["namespace"] == "ns"
    assert stored["involvedObject"] == {
        "apiVersion": "migration.harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImport",
        "namespace": "ns",
        "name": "web",
        "uid": "u-1",
    }
    assert (stored["type"], stored["reason"]) == ("Warning", "NameTaken")
    assert stored["source"]["component"] == stored["reportingComponent"] == "vm-import-controller"
    assert stored["reportingInstance"] == "pod-1"
    assert stored["firstTimestamp"] == stored["lastTimestamp"] == "2026-01-01T00:16:40Z"


def test_the_same_said_again_counts_up_and_something_else_does_not(
    api: FakeEvents, recorder: EventRecorder, clock: FakeClock
) -> None:
    for _ in range(3):
        recorder.event(IMPORT, NORMAL, "PhaseChanged", "now in Export")
    recorder.event(IMPORT, NORMAL, "PhaseChanged", "now in Convert")
    recorder.event(
        {**IMPORT, "metadata": {"namespace": "ns", "name": "db"}}, NORMAL, "PhaseChanged", "now in Export"
    )
    eventually(lambda: counts(api) == [3, 1, 1])
    clock.advance(events.AGGREGATION_SECONDS + 1)
    recorder.event(IMPORT, NORMAL, "PhaseChanged", "now in Export")
    eventually(lambda: counts(api) == [3, 1, 1, 1])


def test_an_event_that_the_server_has_dropped_is_written_anew(
    api: FakeEvents, recorder: EventRecorder
) -> None:
    recorder.event(IMPORT, NORMAL, "PhaseChanged", "now in Export")
    eventually(lambda: counts(api) == [1])
    api.stored.clear()
    recorder.event(IMPORT, NORMAL, "PhaseChanged", "now in Export")
    eventually(lambda: counts(api) == [1])


def test_one_object_cannot_flood_the_server_and_does_not_silence_others(
    api: FakeEvents, recorder: EventRecorder, clock: FakeClock
) -> None:
    for n in range(100):
        recorder.event(IMPORT, NORMAL, "Noise", f"message {n}")
    other = {**IMPORT, "metadata": {"namespace": "ns", "name": "db"}}
    recorder.event(other, NORMAL, "Said", "something")
    eventually(lambda: any(stored["reason"] == "Said" for stored in api.stored.values()))
    assert len(api.stored) == events.SPAM_BURST + 1
    clock.advance(events.SPAM_REFILL_SECONDS)
    recorder.event(IMPORT, NORMAL, "Noise", "later")
    eventually(lambda: len(api.stored) == events.SPAM_BURST + 2)


@pytest.mark.parametrize("message", ["x" * 5000, "ä" * 3000, "x" + "ä" * 3000])
def test_a_long_message_is_cut_to_what_the_server_takes(
    api: FakeEvents, recorder: EventRecorder, message: str
) -> None:
    recorder.event(IMPORT, NORMAL, "Long", message)
    eventually(lambda: api.stored)
    (stored,) = api.stored.values()
    assert events.MESSAGE_LIMIT_BYTES - 4 <= len(stored["message"].encode()) <= events.MESSAGE_LIMIT_BYTES
    assert stored["message"].endswith("...")


def test_an_event_outlives_an_absence_of_the_api(api: FakeEvents, recorder: EventRecorder) -> None:
    api.fail = [ServerUnavailable("away") for _ in range(3)]
    recorder.event(IMPORT, NORMAL, "Said", "something")
    eventually(lambda: counts(api) == [1])


def test_a_request_whose_answer_was_lost_makes_no_second_event(
    api: FakeEvents, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = api.create

    def create_and_lose_the_answer(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        create(resource, obj)
        monkeypatch.setattr(api, "create", create)
        raise ServerUnavailable("cut")

    monkeypatch.setattr(api, "create", create_and_lose_the_answer)
    recorder.event(IMPORT, NORMAL, "Said", "something")
    recorder.event(IMPORT, NORMAL, "Said", "something")
    eventually(lambda: counts(api) == [2])


def test_the_caller_is_never_blocked_and_what_does_not_fit_is_dropped(
    api: FakeEvents, recorder: EventRecorder
) -> None:
    api.gate.clear()
    with structlog.testing.capture_logs() as logs:
        for n in range(events.QUEUE_SIZE + 100):
            recorder.event({**IMPORT, "metadata": {"name": f"import-{n}"}}, NORMAL, "Said", "something")
    api.gate.set()
    assert [entry["event"] for entry in logs] == ["event queue is full, dropping"]
    eventually(lambda: events.QUEUE_SIZE <= len(api.stored) <= events.QUEUE_SIZE + 1)


def test_forbidden_events_are_one_warning_and_then_silence(api: FakeEvents, recorder: EventRecorder) -> None:
    api.fail = [Forbidden("no role") for _ in range(5)]
    with structlog.testing.capture_logs() as logs:
        for n in range(5):
            recorder.event(IMPORT, NORMAL, "Said", f"something {n}")
        eventually(lambda: not api.fail)
        recorder.event(IMPORT, NORMAL, "Said", "a role was granted")
        eventually(lambda: api.stored)
    assert [entry["event"] for entry in logs] == ["events are forbidden, going on without"]


def test_a_namespace_that_is_going_away_needs_no_events_and_no_warning(
    api: FakeEvents, recorder: EventRecorder
) -> None:
    api.fail = [Forbidden("terminating", causes=("NamespaceTerminating",))]
    with structlog.testing.capture_logs() as logs:
        recorder.event(IMPORT, NORMAL, "Said", "something")
        eventually(lambda: not api.fail)
        recorder.stop(20.0)
    assert logs == []


def test_an_object_without_a_name_is_no_reason_to_raise(api: FakeEvents, recorder: EventRecorder) -> None:
    recorder.event({"metadata": {}}, NORMAL, "Said", "something")
    recorder.event(IMPORT, NORMAL, "Said", "something")
    eventually(lambda: counts(api) == [1])


def test_a_cluster_scoped_object_has_its_events_in_the_default_namespace(
    api: FakeEvents, recorder: EventRecorder
) -> None:
    recorder.event({"kind": "Node", "metadata": {"name": "n1"}}, NORMAL, "Said", "something")
    eventually(lambda: api.stored)
    (stored,) = api.stored.values()
    assert stored["metadata"]["namespace"] == "default"


def test_stopping_writes_what_is_queued(api: FakeEvents, recorder: EventRecorder) -> None:
    api.gate.clear()
    for n in range(10):
        recorder.event(IMPORT, NORMAL, "Said", f"something {n}")
    api.gate.set()
    recorder.stop(20.0)
    assert len(api.stored) == 10
