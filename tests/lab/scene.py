"""The whole lab in one piece: cluster, vCenter with a guest that checks itself, Harvester, controller.

For the end-to-end tests, the demo and people (`python -m tests.lab up`). Each part stands for itself; here
they are only introduced to each other.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab import controller as lab_controller
from tests.lab import crds
from tests.lab.control_plane import ControlPlane
from tests.lab.controller import Controller
from tests.lab.errors import LabError
from tests.lab.guest import build_guest
from tests.lab.harvester import Harvester
from tests.lab.processes import wait_until
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import NIC, Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from tests.lab.guest import Guest
    from tests.lab.harvester.machines import BootPolicy

API_VERSION = "migration.harvesterhci.io/v1beta1"
SOURCE = "vcenter"
VLAN = "vlan1"
PORT_GROUP = "Servers"
IMPORT_SECONDS = 300

# Kinds of objects that the controller writes, Events among them.
_TELLING = [
    ("/api/v1", "events"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/apis/harvesterhci.io/v1beta1", "virtualmachineimages"),
    ("/apis/kubevirt.io/v1", "virtualmachines"),
    *(
        (f"/apis/{API_VERSION}", plural)
        for plural in ("virtualmachineimports", "vmwaresources", "openstacksources", "ovasources")
    ),
]


def vmware_source(
    vcenter: VCenter, namespace: str, *, password: str | None = None, name: str = SOURCE, **spec: Any
) -> list[dict[str, Any]]:
    """Return the Secret and the VmwareSource of a vCenter."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-credentials", "namespace": namespace},
            "stringData": {"username": vcenter.username, "password": password or vcenter.password},
        },
        {
            "apiVersion": API_VERSION,
            "kind": "VmwareSource",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "endpoint": vcenter.sdk_url,
                "dc": "DC0",
                "credentials": {"name": f"{name}-credentials", "namespace": namespace},
                **spec,
            },
        },
    ]


def vm_import(
    namespace: str, name: str, vm_name: str, *, source: str = SOURCE, **spec: Any
) -> dict[str, Any]:
    """Return a VirtualMachineImport from a VmwareSource."""
    return {
        "apiVersion": API_VERSION,
        "kind": "VirtualMachineImport",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "virtualMachineName": vm_name,
            "networkMapping": [{"sourceNetwork": PORT_GROUP, "destinationNetwork": f"{namespace}/{VLAN}"}],
            "sourceCluster": {
                "apiVersion": API_VERSION,
                "kind": "VmwareSource",
                "name": source,
                "namespace": namespace,
            },
            **spec,
        },
    }


def import_path(namespace: str, name: str) -> str:
    """Return the API path of a VirtualMachineImport."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/virtualmachineimports/{name}"


class Scene:
    """Everything an import needs, running, in namespace `default`; ends with the block.

    Attributes:
        control_plane: The cluster.
        vcenter: The source.
        harvester: The destination.
        controller: The program itself.
        guest: Disks of a VM that checks them when it boots.
    """

    def __init__(
        self,
        *,
        arguments: Sequence[str] = (),
        guest_sizes: tuple[int, int] | None = None,
        start_controller: bool = True,
        policy: BootPolicy | None = None,
        audit: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare it; nothing runs before the block.

        Args:
            arguments: More flags for the controller.
            guest_sizes: Bytes of boot and data disk.
            policy: How the destination starts machines.
            audit: Have the API server write down who asks it for what.
            start_controller: Start the controller too; else `controller` is ready to be started.
            tell: Called with what is being started.
        """
        self._arguments = arguments
        self._guest_sizes = guest_sizes
        self._start_controller = start_controller
        self._policy = policy
        self._audit = audit
        self._tell = tell
        self._parts = ExitStack()
        self._macs = itertools.count(1)

    def __enter__(self) -> Self:
        enter = self._parts.enter_context
        try:
            self._tell("Kubernetes control plane (etcd, API server, controller manager)")
            self.control_plane = enter(ControlPlane(audit=self._audit))
            self._tell("Custom resources of Harvester, KubeVirt and this project")
            lab_controller.install(self.control_plane)
            self.control_plane.apply([crds.network_attachment("default", VLAN)])
            self._tell("Guest disks with checksums, as streamOptimized VMDKs")
            directory = Path(enter(tempfile.TemporaryDirectory(prefix="lab-guest-")))
            self.guest: Guest = build_guest(directory, *(self._guest_sizes or ()))
            self._tell("Simulated vCenter")
            self.vcenter = enter(VCenter())
            self.vcenter.add_network(PORT_GROUP)
            self._tell("Harvester's behaviour (image download, volumes, virtual machines)")
            self.harvester = enter(Harvester(self.control_plane, policy=self._policy))
            self.controller = Controller(self.control_plane, arguments=self._arguments)
            self._parts.callback(self.controller.close)
            if self._start_controller:
                self._tell("The import controller")
                self.controller.start()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.note_objects()
        finally:
            self._parts.close()
        if error is None and (leaks := self.control_plane.secrecy.leaks()):
            raise LabError(f"secrets were seen: {'; '.join(leaks)}")

    def note_objects(self, namespace: str = "") -> None:
        """Keep what the cluster's objects say, of one namespace or all, for the search for secrets.

        To be called before a namespace is deleted; the scene's end does it for all that are left.
        """
        secrecy, api = self.control_plane.secrecy, self.control_plane.api
        secrecy.remember_urls(request.path for request in self.harvester.requests)
        place = f"/namespaces/{namespace}" if namespace else ""
        for group, plural in _TELLING:
            objects = api.items(f"{group}{place}/{plural}")
            if plural == "virtualmachineimages":
                secrecy.remember_urls(image["spec"].pop("url", "") for image in objects)
                for image in objects:  # Harvester's own words, which repeat the URL
                    image.pop("status", None)
            secrecy.keep(plural, json.dumps(objects))

    def add_guest_vm(self, name: str, *, mac: str = "", **options: Any) -> None:
        """Give the vCenter a running VM with the guest's two disks and one network card."""
        self.vcenter.add_vm(
            name,
            disks=[
                Disk(self.guest.boot_size, self.guest.boot_vmdk),
                Disk(self.guest.data_size, self.guest.data_vmdk),
            ],
            nics=[NIC(PORT_GROUP, mac=mac or f"00:50:56:aa:bb:{next(self._macs):02x}")],
            **{
                "cpus": 2,
                "memory_mib": 256,
                "guest_id": "debian11_64Guest",
                "annotation": "Prints its disks' checksums when it boots",
                "power_state": "on",
                **options,
            },
        )

    def status(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return the status of a VirtualMachineImport, empty before its first."""
        found = self.control_plane.api.get(import_path(namespace, name))
        return dict(found.get("status") or {})

    def wait_for_phase(
        self, name: str, *phases: str, namespace: str = "default", seconds: float = IMPORT_SECONDS
    ) -> dict[str, Any]:
        """Return the status of a VirtualMachineImport once it is in one of the phases.

        Raises:
            LabError: it is not within the time; with its status.
        """
        status: dict[str, Any] = {}

        def arrived() -> bool:
            status.clear()
            status.update(self.status(name, namespace))
            return status.get("phase") in phases

        try:
            wait_until(arrived, what=f"{name} in {' or '.join(phases)}", timeout_seconds=seconds)
        except LabError as exc:
            raise LabError(
                f"{exc}\n{json.dumps(status, indent=1)}\n{self.controller.process.tail()}"
            ) from None
        return status

    def example(self) -> str:
        """Return the manifests of a first import, to be applied or shown."""
        items = [*vmware_source(self.vcenter, "default"), vm_import("default", "web", "web")]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2)
