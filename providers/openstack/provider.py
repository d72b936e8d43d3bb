"""`OpenstackProvider`: the source protocol spoken to the services of an OpenStack cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.base import SourceConfig, Verified
from providers.errors import InvalidPowerState, SourceVMNotFound
from providers.model import PowerState
from providers.openstack import power, state
from providers.openstack.catalogue import Service
from providers.openstack.download import GlanceStream
from providers.openstack.endpoint import Endpoint
from providers.openstack.export import Exports, Patience
from providers.openstack.faults import NotThere
from providers.openstack.inventory import Inventory
from providers.openstack.machine import to_source_vm
from providers.openstack.session import Session

if TYPE_CHECKING:
    from providers.model import SourceDisk, SourceVM


class OpenstackProvider:
    """Implements `providers.base.Provider`. One login, made by the first call and shared by all threads."""

    cuts_power = False

    def __init__(self, config: SourceConfig) -> None:
        self._session = Session(
            Endpoint.parse(config.endpoint), config.secret, config.tls, config.options.get("region", "")
        )
        self._inventory = Inventory(self._session)
        default = Patience()
        self._exports = Exports(
            self._session,
            Patience(
                int(config.options.get("uploadImageRetryCount", default.count)),
                float(config.options.get("uploadImageRetryDelay", default.delay)),
            ),
        )

    def verify(self) -> Verified:
        """Log in, find the region's services, and ask each for something small.

        Raises:
            AuthenticationFailed, CertificateNotTrusted, CertificateChanged, Unreachable: no login.
            RegionNotFound, ServiceMissing: the catalogue lacks what an import needs.
        """
        access = self._session.access()
        self._session.get(Service.COMPUTE, "/servers", limit="1")
        self._session.get(Service.VOLUME, "/volumes", limit="1")
        self._session.get(Service.IMAGE, "/images", limit="1")
        self._session.get(Service.NETWORK, "/networks", limit="1", fields="id")
        project = access.project_name or access.project_id
        return Verified(
            tls_fingerprint=self._session.http.first_use,
            message=f"OpenStack at {self._session.endpoint.origin.authority}, project {project}",
        )

    def inspect(self, name: str, folder: str = "") -> SourceVM:  # noqa: ARG002  # servers are in no folders
        """Describe the server; `name` may be its name or its UUID.

        Raises:
            SourceVMNotFound, SourceVMNotUnique: list candidates.
            SourceBusy: a task is under way that an import has to wait for.
        """
        identifier = self._inventory.find(name)
        try:
            return to_source_vm(self._inventory.facts(identifier))
        except NotThere as exc:
            raise SourceVMNotFound(f"server {identifier} was deleted meanwhile") from exc

    def power_state(self, vm: SourceVM) -> PowerState:
        """Return the power state now.

        Raises:
            SourceVMNotFound: the server was deleted.
        """
        try:
            return state.power_state(self._inventory.server(vm.id))
        except NotThere as exc:
            raise SourceVMNotFound(f"server {vm.name!r} ({vm.id}) is gone") from exc

    def request_shutdown(self, vm: SourceVM) -> None:
        """Have the server stopped; returns at once. Nova asks the guest first, and later switches it off.

        Raises:
            InvalidPowerState: its status is one that Nova does not stop.
            SourceBusy: Nova is doing something else with it, or somebody locked it.
        """
        power.stop(self._session, self._inventory, vm.id)

    def power_off(self, vm: SourceVM) -> None:
        """As `request_shutdown`: Nova knows no other way."""
        power.stop(self._session, self._inventory, vm.id)

    def power_on(self, vm: SourceVM) -> None:
        """Have the server started; returns at once. Already on is success."""
        power.start(self._session, self._inventory, vm.id)

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> GlanceStream:
        """Start reading the image that was made of one disk; until there is one, see that it comes.

        Raises:
            DiskNotReady: says what the source does.
            InvalidPowerState: the server is not off.
            ExportFailed, ExportTimedOut, QuotaExceeded: the source made no copy; in its own words.
            TransferInterrupted: the image was refused.
        """
        if self.power_state(vm) is not PowerState.OFF:
            raise InvalidPowerState(f"server {vm.name!r} is not off")
        image = self._exports.image(vm, disk, export_id)
        return GlanceStream(self._session, image, f"disk {disk.key} ({disk.name})").open()

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:  # noqa: ARG002  # all goes either way
        """Remove every snapshot, volume and image of the export, whichever process has made it.

        Raises:
            DiscardNotDone: the source is at it.
        """
        self._exports.discard(vm, export_id)

    def close(self) -> None:
        """Drop the connections. Idempotent."""
        self._session.close()
