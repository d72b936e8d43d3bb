"""The destination as one thing: watches a cluster and plays all of Harvester's parts in it."""

from __future__ import annotations

import tempfile
import threading
import traceback
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.harvester import images, machines
from tests.lab.harvester.admission import Admission
from tests.lab.harvester.fetch import Faults, Request
from tests.lab.harvester.images import ImageController
from tests.lab.harvester.machines import BootPolicy, MachineController
from tests.lab.harvester.volumes import VolumeController
from tests.lab.kube_api import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.lab.control_plane import ControlPlane
    from tests.lab.qemu import Machine

LOOK_INTERVAL_SECONDS = 0.2
CLAIMS = "/api/v1/persistentvolumeclaims"


class Harvester:
    """A Harvester that works on a control plane with its kinds (`crds.install`) while the block lasts.

    Args:
        control_plane: The cluster; it may lose its API server for a while.
        namespaces: What it looks after, so that several can share a cluster; everything if empty.
        policy: How machines are started.
        retry_seconds: Between two attempts to fetch an image. A real one waits 10 s.

    Attributes:
        faults: What goes wrong with downloads; may be changed at any time.
        requests: Every request made to fetch an image, in order.
        errors: Tracebacks of its own failures: a test should find none.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        *,
        namespaces: Sequence[str] = (),
        policy: BootPolicy | None = None,
        retry_seconds: float = 0.5,
    ) -> None:
        self._stop = threading.Event()
        self._api = control_plane.api.patient(self._stop)
        self._namespaces = set(namespaces)
        self._resources = ExitStack()
        self._admission = Admission(control_plane, namespaces)
        self._thread = threading.Thread(target=self._run, name="harvester", daemon=True)
        self.faults = Faults()
        self.requests: list[Request] = []
        self.errors: list[str] = []
        directory = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="lab-harvester-")))
        self._images = ImageController(
            self._api,
            directory,
            faults=self.faults,
            record=self.requests.append,
            fault=self._note,
            retry_seconds=retry_seconds,
        )
        self._volumes = VolumeController(self._api, self._images)
        self._machines = MachineController(self._api, self._volumes, policy or BootPolicy(), fault=self._note)

    def __enter__(self) -> Self:
        self._resources.enter_context(self._admission)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._machines.stop()
        self._images.stop()
        self._resources.close()

    @property
    def consoles(self) -> dict[tuple[str, str], str]:
        """`(namespace, name)` of a VirtualMachine -> what its console said."""
        return self._machines.consoles

    @property
    def machines(self) -> dict[tuple[str, str], Machine]:
        """`(namespace, name)` of a VirtualMachine -> what was started for it."""
        return self._machines.machines

    @property
    def refusals(self) -> dict[str, str]:
        """`namespace/name` of a claim -> why it is not provisioned."""
        return self._volumes.refusals

    def image_path(self, namespace: str, name: str) -> Path:
        """Return the file with the bytes of an imported image."""
        return self._images.path(self._api.get(images.image_path(namespace, name))["metadata"]["uid"])

    def _run(self) -> None:
        while not self._stop.wait(LOOK_INTERVAL_SECONDS):
            try:
                self._look()
            except Exception as exc:  # noqa: BLE001  # one fault must not silence the destination
                self._note(exc)

    def _note(self, exc: Exception) -> None:
        """Keep a fault for the test, unless it only means that the world changed between look and act."""
        if not isinstance(exc, ApiError) or exc.status not in {0, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            self.errors.append("".join(traceback.format_exception(exc)))

    def _look(self) -> None:
        found = self._mine(images.COLLECTION)
        for image in found:
            self._images.sync(image)
        self._images.forget_all_but({image["metadata"]["uid"] for image in found})
        by_name = {_key(image): image for image in found}
        claims = self._mine(CLAIMS)
        for claim in claims:
            self._volumes.sync(claim, by_name)
        self._volumes.release()
        vms = self._mine(machines.COLLECTION)
        claims_by_name = {_key(claim): claim for claim in claims}
        for vm in vms:
            self._machines.sync(vm, claims_by_name)
        self._machines.forget_all_but({vm["metadata"]["uid"] for vm in vms})

    def _mine(self, path: str) -> list[dict[str, Any]]:
        items = self._api.items(path)
        return [
            item
            for item in items
            if not self._namespaces or item["metadata"]["namespace"] in self._namespaces
        ]


def _key(obj: dict[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
