"""The lab's vCenter exports VMs as a real one does: leases, the bytes of disks, and all that can go wrong."""

from __future__ import annotations

import hashlib
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import urllib3
from pyVmomi import vim, vmodl

from tests.integration.vsphere import fetch, find_vm, get, ready, session, to_raw, wait_for
from tests.lab.errors import LabError
from tests.lab.guest import MIB, build_guest
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import CDROM, Disk
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.vcenter_model import VM, FaultKind

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 1024  # what stands for a VMDK where nobody looks inside
SPOILED_AT = 100_000


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with VCenter() as running:
        running.settings(lease_initializing_seconds=0.05)
        yield running


@pytest.fixture
def service(vcenter: VCenter) -> Iterator[Any]:
    with session(vcenter) as connected:
        yield connected


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bodies") / "body.vmdk"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def machine(vcenter: VCenter, body: Path, request: pytest.FixtureRequest) -> Iterator[VM]:
    """A VM of the test's own that is off and has two disks."""
    made = vcenter.add_vm(request.node.name, disks=[Disk(MIB, body), Disk(2 * MIB, body, "ahci")])
    yield made
    vcenter.clear_faults()
    vcenter.expire_leases(made.moref)


@contextmanager
def lease_on(service: Any, machine: VM) -> Iterator[Any]:
    lease = find_vm(service, machine.name).ExportVm()
    try:
        yield lease
    finally:
        if lease.state == vim.HttpNfcLease.State.ready:
            lease.Abort()


def test_a_whole_export_gives_the_bytes_of_both_disks(vcenter: VCenter, service: Any, tmp_path: Path) -> None:
    guest = build_guest(tmp_path, MIB + 512, MIB, seed=3)
    disks = [Disk(guest.boot_size, guest.boot_vmdk), Disk(guest.data_size, guest.data_vmdk, "nvme")]
    made = vcenter.add_vm("whole", disks=disks, power_state="on")
    vm = find_vm(service, "whole")
    wait_for(vm.PowerOffVM_Task())
    lease = vm.ExportVm()
    urls = ready(lease)

    assert [(url.key, url.targetId, url.disk) for url in urls] == [
        (f"/{made.moref}/ParaVirtualSCSIController0:0", "disk-0.vmdk", True),
        (f"/{made.moref}/VirtualNVMEController0:0", "disk-1.vmdk", True),
        (f"/{made.moref}/nvram", "disk-2.nvram", False),
    ]
    assert lease.info.totalDiskCapacityInKB == (guest.boot_size + guest.data_size) // 1024
    for url, raw in zip(urls, (guest.boot_raw, guest.data_raw), strict=False):
        vmdk = tmp_path / f"got-{url.targetId}"
        vmdk.write_bytes(fetch(vcenter, url.url))
        assert to_raw(vmdk) == raw.read_bytes()
    lease.Progress(99)
    assert {entry.key: entry.sha1 for entry in lease.HttpNfcLeaseGetManifest()} == {
        urls[0].key: hashlib.sha1(guest.boot_vmdk.read_bytes()).hexdigest(),  # noqa: S324  # the API's choice
        urls[1].key: hashlib.sha1(guest.data_vmdk.read_bytes()).hexdigest(),  # noqa: S324
    }
    lease.Complete()

    state = vcenter.state()
    assert lease.state == vim.HttpNfcLease.State.done
    assert [(one.state, one.percent) for one in state.leases if one.vm == "whole"] == [("done", 99)]
    assert [(disk.gets, disk.completed) for disk in state.vm("whole").disks] == [(1, 1), (1, 1)]
    wait_for(vm.PowerOnVM_Task())


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_body_has_no_length_and_no_ranges(
    vcenter: VCenter, service: Any, machine: VM, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "some.vmdk"
    file.write_bytes(BODY[:size])
    vcenter.set_disk_file(machine.moref, machine.disks[0].key, file)
    with lease_on(service, machine) as lease:
        url = ready(lease)[0].url
        with get(vcenter, url, headers={"Range": "bytes=10-"}) as response:
            assert response.status == 200
            assert "Content-Length" not in response.headers
            assert response.read() == BODY[:size]
        with get(vcenter, url.replace("disk-0", "disk-9")) as response:
            assert response.status == 404


def test_a_connected_iso_is_offered_but_is_no_disk(vcenter: VCenter, service: Any) -> None:
    with_iso = vcenter.add_vm("iso", cdrom=CDROM("[LocalDS_0] a.iso"))
    vcenter.add_vm("empty drive", cdrom=CDROM("[LocalDS_0] a.iso", connected=False))
    with lease_on(service, with_iso) as lease:
        url = ready(lease)[0]
        assert (url.targetId, url.disk, url.fileSize) == ("disk-0.iso", False, len(fetch(vcenter, url.url)))
    lease = find_vm(service, "empty drive").ExportVm()
    assert [url.targetId for url in ready(lease)] == ["disk-0.nvram"]
    lease.Abort()


def test_only_a_vm_that_is_off_can_be_exported(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.set_power(machine.name, "on")
    with pytest.raises(vim.fault.InvalidPowerState) as caught:
        find_vm(service, machine.name).ExportVm()
    assert caught.value.existingState == "poweredOn"


def test_a_disk_without_bytes_is_a_file_fault(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.set_disk_file(machine.name, machine.disks[1].key, None)
    with pytest.raises(vim.fault.FileFault) as caught:
        find_vm(service, machine.name).ExportVm()
    assert caught.value.file == machine.disks[1].file_name


def test_a_lease_locks_its_vm_until_it_is_given_back(vcenter: VCenter, service: Any, machine: VM) -> None:
    vm = find_vm(service, machine.name)
    lease = vm.ExportVm()
    for call in (vm.PowerOnVM_Task, vm.Destroy_Task):
        with pytest.raises(vim.fault.TaskInProgress):
            call()
    with pytest.raises(vim.fault.TaskInProgress) as caught:
        vm.ExportVm()
    task = caught.value.task
    assert task.info.state == vim.TaskInfo.State.running
    lease.Abort()
    assert lease.state == vim.HttpNfcLease.State.error
    assert task.info.state == vim.TaskInfo.State.error
    assert not vcenter.state().vm(machine.name).leased
    wait_for(vm.PowerOnVM_Task())


def test_a_lease_is_empty_while_it_initializes(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.settings(lease_initializing_seconds=600)
    try:
        lease = find_vm(service, machine.name).ExportVm()
    finally:
        vcenter.settings(lease_initializing_seconds=0.05)
    assert lease.state == vim.HttpNfcLease.State.initializing
    with pytest.raises(AttributeError):  # that is how pyVmomi says "unset"
        _ = lease.info
    lease.Abort()


def test_a_lease_can_fail_instead_of_becoming_ready(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.fault("lease_error", vm=machine.name, fault="FileLocked", detail={"file": "[LocalDS_0] x.vmdk"})
    lease = find_vm(service, machine.name).ExportVm()
    eventually(lambda: lease.state == vim.HttpNfcLease.State.error)
    assert (type(lease.error), lease.error.file) == (vim.fault.FileLocked, "[LocalDS_0] x.vmdk")


def test_without_progress_a_lease_dies(vcenter: VCenter, service: Any, machine: VM) -> None:
    lease = find_vm(service, machine.name).ExportVm()
    url = ready(lease)[0].url
    vcenter.settings(lease_timeout_seconds=0.5)
    try:
        lease.Progress(1)  # from here on
    finally:
        vcenter.settings(lease_timeout_seconds=300)
    eventually(lambda: lease.state == vim.HttpNfcLease.State.error)
    assert isinstance(lease.error, vim.fault.Timedout)
    with pytest.raises(vim.fault.Timedout):
        lease.Progress(1)
    with get(vcenter, url) as response:
        assert response.status == 404
    assert not vcenter.state().vm(machine.name).leased


def test_progress_keeps_a_lease_alive(vcenter: VCenter, service: Any, machine: VM) -> None:
    with lease_on(service, machine) as lease:
        vcenter.settings(lease_timeout_seconds=8)
        try:
            ready(lease)
            vcenter.settings(lease_timeout_seconds=300)
            lease.Progress(5)
        finally:
            vcenter.settings(lease_timeout_seconds=300)
        assert not threading.Event().wait(8.5)
        assert lease.state == vim.HttpNfcLease.State.ready


def test_the_end_of_a_lease_cuts_its_bodies(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.fault("stall", vm=machine.name, after_bytes=SPOILED_AT)
    with lease_on(service, machine) as lease, get(vcenter, ready(lease)[0].url) as response:
        assert response.read(SPOILED_AT) == BODY[:SPOILED_AT]
        vcenter.expire_leases(machine.name)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            response.read()


def test_a_lease_ends_when_its_session_logs_out(vcenter: VCenter, machine: VM) -> None:
    with session(vcenter) as other:
        ready(find_vm(other, machine.name).ExportVm())
        assert vcenter.state().vm(machine.name).leased
    assert not vcenter.state().vm(machine.name).leased


def test_a_lease_outlives_an_expired_session_and_is_out_of_reach(vcenter: VCenter, machine: VM) -> None:
    with session(vcenter, log_out=False) as lost:
        lease = find_vm(lost, machine.name).ExportVm()
        ready(lease)
    vcenter.expire_sessions()
    with session(vcenter) as other:
        with pytest.raises(vim.fault.TaskInProgress):
            find_vm(other, machine.name).ExportVm()
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            vim.HttpNfcLease(lease._moId, other._stub).Abort(None)


@pytest.mark.parametrize("host", ["esxi", "star", "vcenter"])
@pytest.mark.parametrize("thumbprint", ["sha1", "sha256", "wrong", "none"])
def test_a_url_names_a_server_and_its_thumbprint(
    vcenter: VCenter, service: Any, machine: VM, host: Any, thumbprint: Any
) -> None:
    vcenter.settings(nfc_host=host, thumbprint=thumbprint)
    try:
        with lease_on(service, machine) as lease:
            url = ready(lease)[0]
    finally:
        vcenter.settings(nfc_host="esxi", thumbprint="sha1")
    address = urlsplit(url.url)
    assert address.hostname == ("*" if host == "star" else "localhost")
    assert (address.port == urlsplit(vcenter.sdk_url).port) == (host != "esxi")
    assert address.port is not None
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", address.port)))
    sums = {name: hashlib.new(name, der).hexdigest() for name in ("sha1", "sha256")}
    shown = (url.sslThumbprint or "").replace(":", "").lower()
    assert shown == {**sums, "wrong": "00" * 20, "none": ""}[thumbprint]


def test_the_esxi_host_has_a_certificate_of_its_own(vcenter: VCenter, service: Any, machine: VM) -> None:
    pem = vcenter.new_certificate("esxi", names=["esxi01.lab"], self_signed=True)
    try:
        with lease_on(service, machine) as lease:
            url = ready(lease)[0].url
            assert ssl.get_server_certificate(("127.0.0.1", urlsplit(url).port or 0)) == pem
            with pytest.raises(urllib3.exceptions.SSLError), get(vcenter, url):
                pass
    finally:
        vcenter.new_certificate("esxi")


def test_a_cut_body_is_an_error_and_the_next_one_is_whole(
    vcenter: VCenter, service: Any, machine: VM
) -> None:
    vcenter.fault("cut", vm=machine.name, disk="disk-0.vmdk", after_bytes=SPOILED_AT)
    with lease_on(service, machine) as lease:
        first, second, _ = ready(lease)
        assert fetch(vcenter, second.url) == BODY
        with get(vcenter, first.url) as response, pytest.raises(urllib3.exceptions.ProtocolError):
            response.read()
        assert fetch(vcenter, first.url) == BODY
    disk = vcenter.state().vm(machine.name).disks[0]
    assert (disk.gets, disk.completed, disk.bytes) == (2, 1, SPOILED_AT + len(BODY))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("truncate", BODY[:SPOILED_AT]),
        ("corrupt", BODY[:SPOILED_AT] + bytes([BODY[SPOILED_AT] ^ 0xFF]) + BODY[SPOILED_AT + 1 :]),
    ],
)
def test_a_body_can_be_wrong_without_an_error(
    vcenter: VCenter, service: Any, machine: VM, kind: FaultKind, expected: bytes
) -> None:
    vcenter.fault(kind, vm=machine.moref, disk=machine.disks[0].key, after_bytes=SPOILED_AT)
    with lease_on(service, machine) as lease:
        assert fetch(vcenter, ready(lease)[0].url) == expected


def test_a_stalled_body_goes_on_when_the_trouble_is_over(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.fault("stall", after_bytes=SPOILED_AT, count=2)
    with lease_on(service, machine) as lease:
        url = ready(lease)[0].url
        with (
            get(vcenter, url, read_timeout=5) as response,
            pytest.raises(urllib3.exceptions.ReadTimeoutError),
        ):
            response.read()
        with get(vcenter, url) as response:
            assert response.read(SPOILED_AT) == BODY[:SPOILED_AT]
            vcenter.clear_faults()
            assert response.read() == BODY[SPOILED_AT:]


def test_a_slow_body_is_whole(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.fault("slow", bytes_per_second=4 * MIB)
    with lease_on(service, machine) as lease:
        assert fetch(vcenter, ready(lease)[0].url) == BODY


def test_a_body_can_be_refused_by_status(vcenter: VCenter, service: Any, machine: VM) -> None:
    vcenter.fault("status", status=503, count=2)
    with lease_on(service, machine) as lease:
        url = ready(lease)[0].url
        for expected in (503, 503, 200):
            with get(vcenter, url) as response:
                assert response.status == expected


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "explode"},
        {"kind": "method_fault", "method": "ExportVm", "fault": "NoSuchFault"},
        {"kind": "method_fault", "method": "ExportVm", "fault": "FileFault", "detail": {"file": 5}},
        {"kind": "slow"},
        {"kind": "task_fault", "method": "CloneVM_Task", "fault": "Timedout"},
    ],
    ids=lambda order: str(order["kind"]),
)
def test_an_order_that_cannot_be_met_is_refused(vcenter: VCenter, order: Any) -> None:
    with pytest.raises(LabError):
        vcenter.fault(**order)
