"""`VmwareProvider`: the source protocol spoken to a vCenter or a standalone ESXi host."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from providers.base import SourceConfig, Verified
from providers.errors import ProviderError, SecretIncomplete
from providers.vmware import power
from providers.vmware.description import describe
from providers.vmware.endpoint import Endpoint
from providers.vmware.export import ExportSession
from providers.vmware.inventory import Inventory
from providers.vmware.session import Session

if TYPE_CHECKING:
    from providers.model import PowerState, SourceDisk, SourceVM
    from providers.vmware.stream import NfcDiskStream


class VmwareProvider:
    """Implements `providers.base.Provider`. One login, opened by the first call and shared by all threads.

    Whatever is done to a VM is done only while its identifier still means the VM that was described, see
    `providers.vmware.identity`. `open_disk` may take longer than other calls: vSphere prepares an export for
    up to `lease.READY_TIMEOUT` seconds. `discard_export` and `close` cut that short.
    """

    cuts_power = True

    def __init__(self, config: SourceConfig) -> None:
        for key in ("username", "password"):
            if not config.secret.get(key):
                raise SecretIncomplete(f"key {key!r} is missing")
        endpoint = Endpoint.parse(config.endpoint)
        self._policy = config.tls
        self._session = Session(
            endpoint, config.secret["username"], config.secret["password"], config.tls, config.journal
        )
        self._inventory = Inventory(self._session, config.options.get("dc", ""))
        self._lock = threading.Lock()
        self._exports: dict[str, ExportSession] = {}

    def verify(self) -> Verified:
        """Log in and find the datacenter.

        Raises:
            AuthenticationFailed, CertificateNotTrusted, CertificateChanged, Unreachable: no login.
            DatacenterNotFound: `dc` names none.
        """
        datacenter = self._inventory.look_again()
        about = self._session.content.about
        return Verified(
            tls_fingerprint=self._session.trust.first_use,
            message=f"{about.fullName}, datacenter {datacenter.path}",
        )

    def inspect(self, name: str, folder: str = "") -> SourceVM:
        """Describe the VM; `name` may be a name, an inventory path, an instance UUID or a MoRef.

        Raises:
            SourceVMNotFound, SourceVMNotUnique: list candidates.
        """
        moref = self._inventory.find(name, folder)
        return describe(self._session, self._inventory.datacenter(), moref)

    def power_state(self, vm: SourceVM) -> PowerState:
        """Return the power state now."""
        return power.power_state(self._session, vm)

    def request_shutdown(self, vm: SourceVM) -> None:
        """Ask the guest to shut down; returns at once.

        Raises:
            GuestToolsNotRunning: VMware Tools do not run.
        """
        power.request_shutdown(self._session, vm)

    def power_off(self, vm: SourceVM) -> None:
        """Switch the VM off hard. Already off is success."""
        power.power_off(self._session, vm)

    def power_on(self, vm: SourceVM) -> None:
        """Switch the VM on. Already on is success."""
        power.power_on(self._session, vm)

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> NfcDiskStream:  # noqa: ARG002  # a lease bears no mark; the journal knows it
        """Start reading one disk as a streamOptimized VMDK; the first disk of a VM opens its lease.

        Raises:
            InvalidPowerState: the VM is not off.
            SourceBusy: another task or export holds it.
            ExportFailed: vSphere could not prepare the export.
            TransferInterrupted: the disk was refused, or the export given up meanwhile.
        """
        self._finish_discarding(vm)
        with self._lock:
            export = self._exports.get(vm.id)
            if export is None:
                export = self._exports[vm.id] = ExportSession(self._session, self._policy, vm)
        return export.open_disk(disk)

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:  # noqa: ARG002  # as above
        """End the VM's lease and whatever still reads from it; idempotent."""
        with self._lock:
            export = self._exports.get(vm.id)
        if export is not None:
            self._discard(vm, export, complete=complete)

    def close(self) -> None:
        """Give up all exports, log out and drop the connections. Idempotent."""
        with self._lock:
            exports = list(self._exports.values())
            self._exports.clear()
        for export in exports:
            # What cannot be told to the source now ends by itself: the lease with its timeout.
            with contextlib.suppress(ProviderError):
                export.discard(complete=False)
        self._session.close()

    def _finish_discarding(self, vm: SourceVM) -> None:
        """Give back what an earlier `discard_export` could not: the VM is locked by it."""
        with self._lock:
            export = self._exports.get(vm.id)
        if export is not None and export.discarded:
            self._discard(vm, export, complete=False)

    def _discard(self, vm: SourceVM, export: ExportSession, *, complete: bool) -> None:
        export.discard(complete=complete)
        with self._lock:
            if self._exports.get(vm.id) is export:
                del self._exports[vm.id]
