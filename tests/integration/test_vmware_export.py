"""The VMware provider against the lab's vCenter: leases and the bytes of disks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from providers.errors import (
    ExportFailed,
    InvalidPowerState,
    PermissionDenied,
    SourceBusy,
    TransferInterrupted,
)
from tests.integration.vmware import EXPORT, MIB, in_background, provider_for, read
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from providers.vmware.provider import VmwareProvider
    from tests.lab.vcenter import VCenter

pytestmark = pytest.mark.integration


def test_all_disks_of_a_vm_are_read_at_once_on_one_lease(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    before = len(vcenter.state().leases)
    with ThreadPoolExecutor(3) as pool:
        received = list(pool.map(lambda disk: read(provider, vm, disk), vm.disks))
    provider.discard_export(vm, EXPORT, complete=True)

    by_key = {disk.key: data for disk, data in zip(vm.disks, received, strict=True)}
    assert by_key == {
        "scsi0:0": files[0].read_bytes(),
        "sata0:0": files[1].read_bytes(),
        "nvme0:0": files[2].read_bytes(),
    }
    assert [lease.state for lease in vcenter.state().leases[before:]] == ["done"]


def test_an_export_that_is_given_up_leaves_no_lease(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    stream = provider.open_disk(vm, vm.disks[0], EXPORT)

    provider.discard_export(vm, EXPORT, complete=False)
    provider.discard_export(vm, EXPORT, complete=False)

    assert vcenter.state().leases[-1].state == "error"
    assert vcenter.state().alive_leases == ()
    with pytest.raises(TransferInterrupted):
        list(stream.chunks())


def test_an_export_can_be_started_again_after_it_was_given_up(
    provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    provider.open_disk(vm, vm.disks[0], EXPORT).close()
    provider.discard_export(vm, EXPORT, complete=False)

    assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


def test_closing_the_provider_gives_back_leases_and_logs_out(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    provider.open_disk(vm, vm.disks[0], EXPORT)

    provider.close()

    assert vcenter.state().alive_leases == ()
    assert vcenter.state().sessions == 0


def test_a_vm_that_is_on_is_not_exported(vcenter: VCenter, provider: VmwareProvider, machine: str) -> None:
    vm = provider.inspect(machine)
    vcenter.set_power(machine, "on")

    with pytest.raises(InvalidPowerState, match="poweredOn"):
        provider.open_disk(vm, vm.disks[0], EXPORT)


def test_a_vm_that_somebody_else_exports_is_busy(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    with closing(provider_for(vcenter)) as other:
        other.open_disk(vm, vm.disks[0], EXPORT)
        with pytest.raises(SourceBusy):
            provider.open_disk(vm, vm.disks[0], EXPORT)


def test_a_lease_that_fails_tells_why_and_the_next_one_is_tried(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    vcenter.fault("lease_error", vm=machine, fault="FileLocked", detail={"file": "[LocalDS_0] x.vmdk"})

    with pytest.raises(ExportFailed, match="FileLocked"):
        provider.open_disk(vm, vm.disks[0], EXPORT)
    assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


def test_a_missing_export_privilege_is_named(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    vcenter.fault(
        "method_fault",
        vm=machine,
        method="ExportVm",
        fault="NoPermission",
        detail={"privilegeId": "VApp.Export"},
    )

    with pytest.raises(PermissionDenied, match=r"VApp\.Export"):
        provider.open_disk(vm, vm.disks[0], EXPORT)


@pytest.mark.parametrize("ends", ["discard", "close"])
def test_waiting_for_a_lease_ends_with_the_export(
    vcenter: VCenter, provider: VmwareProvider, machine: str, ends: str
) -> None:
    vcenter.settings(lease_initializing_seconds=60)
    vm = provider.inspect(machine)
    waiting, raised = in_background(lambda: provider.open_disk(vm, vm.disks[0], EXPORT))
    eventually(lambda: vcenter.state().alive_leases)

    if ends == "discard":
        provider.discard_export(vm, EXPORT, complete=False)
    else:
        provider.close()
    waiting.join()

    assert [type(error) for error in raised] == [TransferInterrupted]
    assert vcenter.state().alive_leases == ()


def test_a_lease_that_vanishes_before_it_is_ready_is_not_waited_for(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vcenter.settings(lease_initializing_seconds=60)
    vm = provider.inspect(machine)
    waiting, raised = in_background(lambda: provider.open_disk(vm, vm.disks[0], EXPORT))
    eventually(lambda: vcenter.state().alive_leases)

    vcenter.expire_sessions()
    waiting.join()

    assert [type(error) for error in raised] == [ExportFailed]
    vcenter.expire_leases()  # the server keeps it for its timeout


def test_a_lease_is_kept_alive_while_no_byte_flows(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vcenter.settings(lease_timeout_seconds=8)
    vm = provider.inspect(machine)
    stream = provider.open_disk(vm, vm.disks[0], EXPORT)
    stream.report(0.5)
    before = vcenter.state().calls.get("HttpNfcLeaseProgress", 0)

    # One and a half times the timeout.
    eventually(lambda: vcenter.state().calls.get("HttpNfcLeaseProgress", 0) >= before + 6)

    assert not vcenter.state().leases[-1].timed_out
    assert vcenter.state().leases[-1].percent == 16  # half of one disk of three
    assert b"".join(stream.chunks()) == files[0].read_bytes()


def test_an_ended_export_is_not_kept_alive(provider: VmwareProvider, machine: str) -> None:
    vm = provider.inspect(machine)
    threads = set(threading.enumerate())
    read(provider, vm, vm.disks[0])
    provider.discard_export(vm, EXPORT, complete=True)

    eventually(lambda: set(threading.enumerate()) <= threads)


def test_a_lease_that_died_is_replaced_for_the_next_disk(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    before = len(vcenter.state().leases)
    read(provider, vm, vm.disks[0])
    vcenter.expire_leases(machine)

    assert read(provider, vm, vm.disks[1]) == files[1].read_bytes()
    assert len(vcenter.state().leases) - before == 2


def test_a_lost_session_costs_the_lease_and_no_more(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    read(provider, vm, vm.disks[0])
    vcenter.expire_sessions()
    vcenter.expire_leases()

    assert read(provider, vm, vm.disks[1]) == files[1].read_bytes()


def test_a_disk_that_the_export_lacks_is_told_with_those_it_has(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    with closing(provider_for(vcenter)) as other:
        stranger = other.inspect(machine)
    missing = stranger.disks[0].__class__(key="scsi3:9", name="x.vmdk", size_bytes=MIB)

    with pytest.raises(ExportFailed, match=r"scsi3:9 .*it holds nvme0:0, sata0:0, scsi0:0"):
        provider.open_disk(vm, missing, EXPORT)
