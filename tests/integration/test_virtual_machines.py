"""The VirtualMachines that are built, before a real API server with KubeVirt's real schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller import kinds
from controller.kube.client import KubeClient
from tests.lab import crds
from tests.lab.control_plane import ControlPlane
from tests.unit.virtual_machines import BUILT, build

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def client(control_plane: ControlPlane) -> Iterator[KubeClient]:
    crds.install(control_plane)
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    yield client
    client.close()


@pytest.mark.parametrize("name", BUILT)
def test_every_field_of_a_virtual_machine_is_one_that_kubevirt_knows(
    client: KubeClient, namespace: str, name: str
) -> None:
    built: dict[str, Any] = build(name)
    built["metadata"]["namespace"] = namespace
    stored = client.create(kinds.VIRTUAL_MACHINES, built)
    assert stored["spec"]["template"]["spec"]["domain"] == built["spec"]["template"]["spec"]["domain"]
    assert stored["spec"]["template"]["spec"]["volumes"] == built["spec"]["template"]["spec"]["volumes"]
