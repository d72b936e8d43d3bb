"""ImageUpload when the cluster's rules refuse an image: what took hours to copy is not thrown away."""

from __future__ import annotations

import secrets
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.api import conditions
from controller.config import Settings
from controller.imageserver.server import TOKEN_BYTES
from controller.kube.errors import BadRequest, Invalid, KubeError, NotFound
from controller.phases import upload
from controller.phases.base import Wait
from controller.transfers import TransferStatus
from tests.unit.fakes import FakeClock
from tests.unit.objects import an_import

TOKEN = secrets.token_hex(TOKEN_BYTES)
DEFAULT = {
    "metadata": {
        "name": "longhorn",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "provisioner": "driver.longhorn.io",
}


class Cluster:
    """Refuses the images of some disks."""

    def __init__(self, refusal: KubeError, *disks: str) -> None:
        self.refused = disks
        self._refusal = refusal
        self._images: dict[str, Any] = {}

    def get(self, _resource: object, name: str, _namespace: str) -> Any:
        if name not in self._images:
            raise NotFound(name)
        return self._images[name]

    def list(self, resource: Any, *_: object, **__: object) -> list[Any]:
        return [DEFAULT] if resource.plural == "storageclasses" else []

    def create(self, _resource: object, image: Any) -> Any:
        if image["metadata"]["name"][-1] in self.refused:
            raise self._refusal
        self._images[image["metadata"]["name"]] = image
        return image


@pytest.mark.parametrize("kind", [Invalid, BadRequest])
def test_it_waits_for_people_and_says_why_once_while_the_other_images_go_on(kind: type[KubeError]) -> None:
    kube = Cluster(kind(f"spec.url: http://here:8080/{TOKEN}/disk-0.raw is not to our taste"), "0")
    status: dict[str, Any] = {
        "runID": "abc",
        "conditions": [],
        "diskImportStatus": [{"sourceDisk": "vda", "diskSize": 1}, {"sourceDisk": "vdb", "diskSize": 1}],
    }
    ctx = SimpleNamespace(
        vmimport=an_import(status=status),
        kube=kube,
        source_vm=lambda: SimpleNamespace(disks=()),
        transfers=SimpleNamespace(state=lambda *_: SimpleNamespace(status=TransferStatus.DONE)),
        images=SimpleNamespace(withdraw=lambda *_: None, publish=lambda *_: f"/{TOKEN}/disk", port=1),
        settings=Settings(),
    )
    told: list[tuple[str, str, str]] = []
    for _ in range(3):
        outcome = upload.run(cast("Any", ctx))
        assert isinstance(outcome, Wait)
        assert outcome.reason == "ImageRefused"
        told += outcome.changes.events
        assert outcome.changes.disks is not None
        refused, other = outcome.changes.disks
        assert "VirtualMachineImage" not in refused
        assert "VirtualMachineImage" in other
        status["conditions"] = conditions.merge(
            status["conditions"], outcome.changes.conditions, FakeClock().now()
        )
    ((level, reason, words),) = told
    assert (level, reason) == ("Warning", "ImageRefused")
    assert words.startswith("disk vda: spec.url: http://here:8080/[token]/")
    kube.refused = ()
    outcome = upload.run(cast("Any", ctx))
    assert isinstance(outcome, Wait)
    assert outcome.reason == "ImportingImages"
