"""What a source's verification tells: Events are news, and a check that is not made is told once."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.source import SourceReconciler
from providers.base import Verified
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
    """Verifies everything."""

    def identity(self, source: Any) -> str:
        return repr(source.raw["spec"])

    def provider(self, _source: object) -> FakeConnections:
        return self

    def verify(self) -> Verified:
        return Verified(message="ok")


class FakeEvents:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def event(self, _obj: object, _kind: str, reason: str, _message: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def verify(kube: FakeKube, clock: FakeClock) -> list[str]:
    """Return the reasons of the Events of one verification."""
    events = FakeEvents()
    connections = FakeConnections()
    reconciler = SourceReconciler(
        kube=kube,  # type: ignore[arg-type]
        connections=connections,  # type: ignore[arg-type]
        events=events,  # type: ignore[arg-type]
        clock=clock,
    )
    reconciler.reconcile("VmwareSource/default/vc")
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
