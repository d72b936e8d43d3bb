"""One `HttpNfcLease`: opened, waited for, kept alive by a thread, and ended. Knows nothing of bytes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from providers.errors import AuthenticationFailed, ExportFailed, ProviderError, TransferInterrupted
from providers.vmware import properties
from providers.vmware.faults import describe
from providers.vmware.nfc import DiskURL, disk_keys, disk_urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.vmware.session import Session

READY_TIMEOUT = 120.0  # seconds; vCenter takes seconds, minutes when its hosts are busy
_FIRST_POLL, _LONGEST_POLL = 0.1, 2.0  # seconds; doubles in between
LONGEST_RENEWAL = 60.0  # seconds between two signs of life, however long the lease would wait
_RENEWALS_PER_TIMEOUT = 4  # so that three may fail
_DEFAULT_TIMEOUT = 300  # seconds: what vCenter grants, should the lease not tell
_RETRY = 5.0  # seconds, after a sign of life that could not be sent


class Lease:
    """A lease that is ready: while it is held, the VM can be neither switched on nor exported again.

    Promises: the server hears a sign of life at least every quarter of the lease's timeout until `end`,
    also while no byte flows; after `end` the VM is free. When the server ended the lease, `alive` says so.
    """

    def __init__(self, session: Session, reference: Any, info: Any, forget: Callable[[], None]) -> None:
        self._session = session
        self._reference = reference
        self._forget = forget
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._percent = 0
        timeout = info.leaseTimeout or _DEFAULT_TIMEOUT
        self._interval = min(timeout / _RENEWALS_PER_TIMEOUT, LONGEST_RENEWAL)
        self.urls: dict[str, DiskURL] = disk_urls(info.deviceUrl or (), session.endpoint)
        self.disks = disk_keys(info.deviceUrl or ())
        self._keeper = threading.Thread(target=self._keep, name="nfc-lease", daemon=True)
        self._keeper.start()

    @classmethod
    def open(cls, session: Session, moref: str, cancelled: threading.Event) -> Lease:
        """Export the VM and wait until its lease is ready.

        Args:
            session: The login that the lease belongs to.
            moref: The VM.
            cancelled: Ends the waiting; the lease is then given back.

        Raises:
            InvalidPowerState: the VM is not off.
            SourceBusy: another task or export holds the VM.
            ExportFailed: the lease reports an error, or is not ready after `READY_TIMEOUT`.
            TransferInterrupted: cancelled.
        """
        vm = session.managed_object(vim.VirtualMachine, moref)
        reference = session.call("export the VM", vm.ExportVm, repeatable=False)
        forget = session.note_lease(reference._GetMoId())  # noqa: SLF001  # its only accessor
        try:
            return cls(session, reference, _wait_until_ready(session, reference, cancelled), forget)
        except BaseException:
            with contextlib.suppress(ProviderError):  # then it ends by its timeout
                _end(session, lambda: reference.HttpNfcLeaseAbort(None))
                forget()
            raise

    def alive(self) -> bool:
        """Ask the server whether the lease still stands."""
        if self._lost.is_set() or self._ended.is_set():
            return False
        return self._stands()

    def progress(self, percent: int) -> None:
        """Remember how far the transfer is; sent with the next sign of life. Never goes back."""
        self._percent = max(self._percent, min(percent, 99))

    def end(self, *, complete: bool) -> None:
        """Give the VM free; idempotent. `complete` says that everything was read."""
        self._ended.set()
        if complete:
            _end(self._session, self._reference.HttpNfcLeaseComplete)
        else:
            _end(self._session, lambda: self._reference.HttpNfcLeaseAbort(None))
        self._forget()

    def _keep(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            pause = self._interval
            try:
                self._session.call(
                    "renew the export lease", lambda: self._reference.HttpNfcLeaseProgress(self._percent)
                )
            except ProviderError:
                if self._is_gone():  # ended by the server; its streams break by themselves
                    self._lost.set()
                    return
                pause = min(_RETRY, self._interval)

    def _is_gone(self) -> bool:
        """Tell whether the server, when asked, says that the lease has ended; its own trouble is no end."""
        try:
            return not self._stands()
        except AuthenticationFailed:
            return True  # a lease ends with the session that holds it
        except ProviderError:
            return False

    def _stands(self) -> bool:
        found = _read(self._session, self._reference, ["state"])
        return str(found.get("state")) == str(vim.HttpNfcLease.State.ready)


def _wait_until_ready(session: Session, reference: Any, cancelled: threading.Event) -> Any:
    """Return the lease's `info`."""
    deadline = time.monotonic() + READY_TIMEOUT
    pause = _FIRST_POLL
    while time.monotonic() < deadline:
        found = _read(session, reference, ["state", "error", "info"])
        if not found:  # it goes with the session that asked for it
            raise ExportFailed("the export lease vanished while vSphere prepared it")
        state = str(found.get("state"))
        if state == vim.HttpNfcLease.State.ready and "info" in found:
            return found["info"]
        if state in {vim.HttpNfcLease.State.error, vim.HttpNfcLease.State.done}:
            fault = found.get("error")
            raise ExportFailed(
                f"export the VM: {describe(fault) if fault is not None else 'the lease ended'}"
            )
        if cancelled.wait(pause) or session.closed.is_set():
            raise TransferInterrupted("the export was given up while vSphere prepared it")
        pause = min(pause * 2, _LONGEST_POLL)
    raise ExportFailed(f"vSphere did not prepare the export within {READY_TIMEOUT:.0f} s")


def _read(session: Session, reference: Any, paths: list[str]) -> properties.Properties:
    """Read properties of a lease; none when it is gone."""

    def once() -> properties.Properties:
        try:
            return properties.read_now(session, reference, paths)
        except vmodl.fault.ManagedObjectNotFound:
            return {}

    return session.call("look at the export lease", once)


def _end(session: Session, action: Callable[[], None]) -> None:
    """Complete or abort; a lease that has ended already is as good."""

    def once() -> None:
        try:
            action()
        except (vmodl.fault.ManagedObjectNotFound, vim.fault.InvalidState, vim.fault.Timedout):
            return

    session.call("end the export lease", once)
