"""Events against a real API server, as an account that may write them and as one that may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog

from controller.kube.client import KubeClient
from controller.kube.events import EVENTS, NORMAL, WARNING, EventRecorder
from controller.kube.resource import Resource
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


@pytest.fixture
def client(control_plane: ControlPlane) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    yield client
    client.close()


@pytest.fixture
def subject(client: KubeClient, namespace: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": "subject"}
    return client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def recorder_for(client: KubeClient) -> EventRecorder:
    recorder = EventRecorder(client, component="vm-import-controller", instance="pod-1")
    recorder.start()
    return recorder


def test_kubectl_describe_shows_what_was_said_and_how_often(
    control_plane: ControlPlane, client: KubeClient, namespace: str, subject: dict[str, Any]
) -> None:
    recorder = recorder_for(client)
    for _ in range(3):
        recorder.event(subject, WARNING, "NameTaken", "ä" * 4000)
    recorder.event(subject, NORMAL, "PhaseChanged", "now in Export")
    recorder.stop(20.0)
    stored = {event["reason"]: event for event in client.list(EVENTS, namespace)}
    assert stored["NameTaken"]["count"] == 3
    assert stored["PhaseChanged"]["count"] == 1
    described = control_plane.kubectl("describe", "configmap", "subject", "-n", namespace)
    assert "PhaseChanged" in described
    assert "vm-import-controller" in described
    assert "(x3 over" in described


def test_an_account_without_the_right_loses_its_events_and_nothing_else(
    control_plane: ControlPlane, namespace: str, subject: dict[str, Any]
) -> None:
    account = f"system:serviceaccount:{namespace}:nobody"
    nobody = KubeClient.from_environment(str(control_plane.kubeconfig), impersonate=account)
    with structlog.testing.capture_logs() as logs:
        recorder = recorder_for(nobody)
        for n in range(5):
            recorder.event(subject, NORMAL, "Said", f"something {n}")
        eventually(recorder._queue.empty)
        recorder.stop(20.0)
    assert [entry["event"] for entry in logs] == ["events are forbidden, going on without"]
    nobody.close()
