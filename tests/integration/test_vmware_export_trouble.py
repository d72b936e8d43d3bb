"""The VMware provider against the lab's vCenter: exports that break or are given up."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from providers.errors import SourceChanged, SourceVMNotFound, TransferInterrupted, Unreachable
from tests.integration.vmware import EXPORT, MIB, in_background, persistently, read
from tests.lab.vcenter_model import Disk
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from providers.vmware.provider import VmwareProvider
    from tests.lab.vcenter import VCenter
    from tests.lab.vcenter_model import FaultKind

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kind", ["cut", "stall", "status"])
def test_a_disk_that_breaks_is_read_again_without_disturbing_the_others(
    vcenter: VCenter,
    provider: VmwareProvider,
    machine: str,
    files: list[Path],
    kind: FaultKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("providers.vmware.stream.IDLE_TIMEOUT", 6)
    vm = provider.inspect(machine)
    other = provider.open_disk(vm, vm.disks[1], EXPORT)
    leases = len(vcenter.state().leases)
    vcenter.fault(kind, vm=machine, disk=vm.disks[0].handle, after_bytes=MIB)

    with pytest.raises(TransferInterrupted) as broken:
        read(provider, vm, vm.disks[0])
    assert vm.disks[0].key in str(broken.value)
    assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()
    assert b"".join(other.chunks()) == files[1].read_bytes()
    assert len(vcenter.state().leases) == leases


@pytest.mark.parametrize("ends", ["stream", "export", "provider"])
def test_a_reader_that_is_blocked_ends_when_its_stream_is_closed(
    vcenter: VCenter, provider: VmwareProvider, machine: str, ends: str
) -> None:
    vm = provider.inspect(machine)
    vcenter.fault("stall", vm=machine, disk=vm.disks[0].handle, after_bytes=MIB)
    stream = provider.open_disk(vm, vm.disks[0], EXPORT)
    received = []

    def drain() -> None:
        for chunk in stream.chunks():
            received.append(len(chunk))  # noqa: PERF401  # watched from outside

    reader, raised = in_background(drain)
    eventually(lambda: sum(received) > MIB // 2)
    if ends == "stream":
        stream.close()
    elif ends == "export":
        provider.discard_export(vm, EXPORT, complete=False)
    else:
        provider.close()
    reader.join()

    assert [type(error) for error in raised] == [TransferInterrupted]
    assert sum(received) <= MIB


def test_giving_up_an_export_is_repeated_when_the_source_was_away(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    vm = provider.inspect(machine)
    threads = set(threading.enumerate())
    provider.open_disk(vm, vm.disks[0], EXPORT)
    vcenter.settings(down=True)
    with pytest.raises(Unreachable):
        provider.discard_export(vm, EXPORT, complete=False)
    eventually(lambda: set(threading.enumerate()) <= threads)  # nobody keeps it alive meanwhile
    vcenter.settings(down=False)

    provider.discard_export(vm, EXPORT, complete=False)

    assert vcenter.state().alive_leases == ()


def test_an_export_that_could_not_be_given_up_does_not_stand_in_the_way_of_the_next(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vm = provider.inspect(machine)
    provider.open_disk(vm, vm.disks[0], EXPORT)
    vcenter.settings(down=True)
    with pytest.raises(Unreachable):
        provider.discard_export(vm, EXPORT, complete=False)
    vcenter.settings(down=False)

    assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


def test_nothing_is_left_of_many_exports_that_failed_in_every_way(
    vcenter: VCenter, provider: VmwareProvider, files: list[Path]
) -> None:
    troubles: list[Callable[[str], object]] = [
        lambda name: vcenter.fault("cut", vm=name, after_bytes=MIB),
        lambda name: vcenter.fault("status", vm=name),
        lambda name: vcenter.fault("lease_error", vm=name, fault="InsufficientResourcesFault"),
        vcenter.expire_leases,
        lambda _: vcenter.cut_connections(),
        lambda _: vcenter.fault("sdk_cut"),
    ]
    # A lease whose making was answered into a broken connection is known to nobody and has to time out.
    vcenter.settings(lease_timeout_seconds=1)
    disks = [Disk(8 * MIB, files[0]), Disk(8 * MIB, files[1])]
    names = [f"many {i}" for i in range(24)]
    for name in names:
        vcenter.add_vm(name, disks=disks)

    def export(number: int) -> None:
        vm = persistently(lambda: provider.inspect(names[number]))
        troubles[number % len(troubles)](names[number])
        for disk, file in zip(vm.disks, files, strict=False):
            received = persistently(lambda: read(provider, vm, disk))  # noqa: B023  # used at once
            assert received == file.read_bytes()
        persistently(lambda: provider.discard_export(vm, EXPORT, complete=number % 2 == 0))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(export, range(len(names))))

    assert vcenter.state().alive_leases == ()
    assert vcenter.state().sessions == 1


def test_a_renewal_that_the_vcenter_fails_is_not_the_end_of_the_lease(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path]
) -> None:
    vcenter.settings(lease_timeout_seconds=10)
    vm = provider.inspect(machine)
    stream = provider.open_disk(vm, vm.disks[0], EXPORT)
    before = vcenter.state().calls.get("HttpNfcLeaseProgress", 0)
    vcenter.fault(
        "method_fault", method="HttpNfcLeaseProgress", fault="SystemError", detail={"reason": "busy"}
    )

    # Longer than the timeout.
    eventually(lambda: vcenter.state().calls.get("HttpNfcLeaseProgress", 0) >= before + 5)

    assert not vcenter.state().leases[-1].timed_out
    assert b"".join(stream.chunks()) == files[0].read_bytes()


def test_a_disk_that_the_vm_was_given_meanwhile_is_not_left_behind(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    seen = provider.inspect(machine)
    vm = dataclasses.replace(seen, disks=seen.disks[:2])

    with pytest.raises(SourceChanged, match=seen.disks[2].key):
        provider.open_disk(vm, vm.disks[0], EXPORT)

    assert vcenter.state().alive_leases == ()


def test_another_vm_under_the_same_identifier_is_not_read(
    vcenter: VCenter, provider: VmwareProvider, machine: str
) -> None:
    before = len(vcenter.state().leases)
    seen = provider.inspect(machine)
    vm = dataclasses.replace(seen, name="mail", uuid="42000000-0000-4000-8000-000000000001")

    with pytest.raises(SourceVMNotFound, match=f"{vm.id} is another VM by now, '{machine}'.* not 'mail'"):
        provider.open_disk(vm, vm.disks[0], EXPORT)

    assert len(vcenter.state().leases) == before
