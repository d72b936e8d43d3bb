"""When a source is verified, and what that tells: Events are news, what is not checked is told once."""

from __future__ import annotations

from typing import Any

import pytest

from controller.kube.errors import ServerUnavailable, TooManyRequests, Unauthorized
from controller.reconcile.source import SourceReconciler
from providers.base import Verified
from providers.errors import Unreachable
from tests.unit.fakes import FakeClock


class FakeKube:
    """Holds the one source."""

    def __init__(self) -> None:
        self.source: dict[str, Any] = {
            "metadata": {"namespace": "default", "name": "vc", "uid": "1", "generation": 1},
            "spec": {"endpoint": "https://vc/sdk", "dc": "DC0"},
        }

    def get(self, _resource: object, _name: str, _namespace: str) -> dict[str, Any]:
        return self.source

    def replace_status(self, _resource: object, obj: dict[str, Any]) -> None:
        self.source = obj

    def edit(self, **spec: Any) -> None:
        metadata = {**self.source["metadata"], "generation": self.source["metadata"]["generation"] + 1}
        self.source = {**self.source, "metadata": metadata, "spec": {**self.source["spec"], **spec}}


class FakeConnections:
    """Verifies everything, until it is told otherwise.

    Attributes:
        verifications: How many were made.
        in_doubt: An import could not get through.
        away: Verifications fail.
        hidden: What becomes of reading the Secret.
    """

    def __init__(self) -> None:
        self.verifications = 0
        self.in_doubt = False
        self.away = False
        self.hidden: Exception | None = None

    def doubted(self, _key: str) -> bool:
        said, self.in_doubt = self.in_doubt, False
        return said

    def identity(self, source: Any) -> str:
        if self.hidden:
            raise self.hidden
        return repr(source.raw["spec"])

    def provider(self, _source: object) -> FakeConnections:
        return self

    def verify(self) -> Verified:
        self.verifications += 1
        if self.away:
            raise Unreachable("vc does not answer")
        return Verified(message="ok")


class FakeEvents:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def event(self, _obj: object, _kind: str, reason: str, _message: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


KEY = "VmwareSource/default/vc"


def reconciler(
    kube: FakeKube, clock: FakeClock, connections: FakeConnections, events: FakeEvents
) -> SourceReconciler:
    return SourceReconciler(
        kube=kube,  # type: ignore[arg-type]
        connections=connections,  # type: ignore[arg-type]
        events=events,  # type: ignore[arg-type]
        clock=clock,
    )


def verify(kube: FakeKube, clock: FakeClock) -> list[str]:
    """Return the reasons of the Events of one verification."""
    events = FakeEvents()
    reconciler(kube, clock, FakeConnections(), events).reconcile(KEY)
    return events.reasons


def test_a_verification_without_news_tells_nothing(kube: FakeKube) -> None:
    clock = FakeClock()
    assert verify(kube, clock) == ["Verified"]
    assert verify(kube, clock) == []


def test_certificates_that_are_not_checked_any_more_are_told_though_the_source_stays_ready(
    kube: FakeKube,
) -> None:
    clock = FakeClock()
    verify(kube, clock)
    kube.edit(insecureSkipTLSVerify=True)
    assert verify(kube, clock) == ["CertificateNotChecked"]
    assert verify(kube, clock) == []


def test_a_source_that_an_import_cannot_reach_is_verified_again_soon(kube: FakeKube) -> None:
    clock, connections = FakeClock(), FakeConnections()
    sources = reconciler(kube, clock, connections, FakeEvents())
    sources.reconcile(KEY)
    connections.in_doubt = connections.away = True
    clock.advance(20)
    sources.reconcile(KEY)
    assert connections.verifications == 1, "however many imports say so, it is not hammered"
    clock.advance(10)
    sources.reconcile(KEY)
    assert connections.verifications == 2
    assert kube.source["status"]["status"] == "clusterNotReady"


def test_a_source_that_is_known_to_be_away_keeps_its_own_pace(kube: FakeKube) -> None:
    clock, connections = FakeClock(), FakeConnections()
    connections.away = True
    sources = reconciler(kube, clock, connections, FakeEvents())
    waits = sources.reconcile(KEY).requeue_after
    assert waits
    connections.in_doubt = True
    clock.advance(waits / 2)
    sources.reconcile(KEY)
    assert connections.verifications == 1
    clock.advance(waits / 2)
    sources.reconcile(KEY)
    assert connections.verifications == 2


def test_a_source_without_doubts_is_verified_every_five_minutes(kube: FakeKube) -> None:
    clock, connections = FakeClock(), FakeConnections()
    sources = reconciler(kube, clock, connections, FakeEvents())
    for _ in range(30):
        sources.reconcile(KEY)
        clock.advance(10)
    assert connections.verifications == 1
    sources.reconcile(KEY)
    assert connections.verifications == 2


@pytest.mark.parametrize("error", [ServerUnavailable("500"), TooManyRequests("429"), Unauthorized("401")])
def test_an_api_server_that_is_in_trouble_says_nothing_about_a_source(
    kube: FakeKube, error: Exception
) -> None:
    clock, connections, events = FakeClock(), FakeConnections(), FakeEvents()
    sources = reconciler(kube, clock, connections, events)
    sources.reconcile(KEY)
    connections.hidden = error
    with pytest.raises(type(error)):
        sources.reconcile(KEY)
    connections.hidden = None
    sources.reconcile(KEY)
    assert (connections.verifications, events.reasons) == (1, ["Verified"])
    assert kube.source["status"]["status"] == "clusterReady"


def test_a_source_that_was_made_again_at_once_is_verified(kube: FakeKube) -> None:
    """As `kubectl replace --force` does, faster than its deletion is seen."""
    clock, connections = FakeClock(), FakeConnections()
    sources = reconciler(kube, clock, connections, FakeEvents())
    sources.reconcile(KEY)
    kube.source = {**kube.source, "metadata": {**kube.source["metadata"], "uid": "2"}, "status": {}}
    sources.reconcile(KEY)
    assert kube.source["status"]["status"] == "clusterReady"
