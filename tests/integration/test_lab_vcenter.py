"""The lab's vCenter behaves like a real one: inventory, sessions, certificates, power, faults to order."""

from __future__ import annotations

import http.client
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from pyVmomi import vim, vmodl

from tests.integration.vsphere import find_vm, session, wait_for
from tests.lab.errors import LabError
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import CDROM, NIC, Disk
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

MIB = 1 << 20


@pytest.fixture(scope="module")
def running_vcenter() -> Iterator[VCenter]:
    with VCenter() as running:
        yield running


@pytest.fixture
def vcenter(running_vcenter: VCenter) -> Iterator[VCenter]:
    yield running_vcenter
    running_vcenter.settings(down=False)
    running_vcenter.clear_faults()


@pytest.fixture
def service(vcenter: VCenter) -> Iterator[Any]:
    with session(vcenter) as connected:
        yield connected


def leaf_pem(vcenter: VCenter) -> str:
    return ssl.get_server_certificate(("127.0.0.1", urlsplit(vcenter.sdk_url).port or 0))


def retrieve(service: Any, entity: Any, name: str) -> Any:
    """Ask for a property as a program does that must not stumble over an unset one."""
    collector = vmodl.query.PropertyCollector
    what = collector.PropertySpec(type=type(entity), pathSet=[name])
    whose = collector.ObjectSpec(obj=entity)
    filters = [collector.FilterSpec(propSet=[what], objectSet=[whose])]
    return service.content.propertyCollector.RetrievePropertiesEx(filters, collector.RetrieveOptions())


# --- inventory


def test_it_announces_a_current_vcenter(service: Any) -> None:
    about = service.content.about
    assert (about.apiType, about.apiVersion, about.version) == ("VirtualCenter", "8.0.3.0", "8.0.3")


def test_a_vm_has_the_hardware_that_was_ordered(vcenter: VCenter, service: Any) -> None:
    made = vcenter.add_vm(
        "hardware",
        cpus=6,
        cores_per_socket=3,
        memory_mib=768,
        firmware="efi",
        secure_boot=True,
        tpm=True,
        guest_id="ubuntu64Guest",
        annotation="two\nlines",
        uuid="564d1234-0000-1111-2222-333344445555",
        extra_config={"guestinfo.secret": "x"},
        cdrom=CDROM(),
        snapshots=2,
        boot_order=["disk:1", "nic:0", "cdrom"],
        disks=[Disk(3 * MIB), Disk(MIB, controller="ide")],
        nics=[NIC(model="e1000", mac="00:50:56:aa:bb:cc")],
    )
    config = find_vm(service, "hardware").config
    hardware = config.hardware
    assert (hardware.numCPU, hardware.numCoresPerSocket, hardware.memoryMB) == (6, 3, 768)
    assert (config.firmware, config.bootOptions.efiSecureBootEnabled) == ("efi", True)
    assert (config.guestId, config.annotation) == ("ubuntu64Guest", "two\nlines")
    assert (config.uuid, config.instanceUuid) == (made.uuid, made.instance_uuid)
    assert "guestinfo.secret" in [option.key for option in config.extraConfig]
    assert any(isinstance(device, vim.vm.device.VirtualTPM) for device in hardware.device)
    assert [getattr(place, "deviceKey", None) for place in config.bootOptions.bootOrder] == [3000, 4000, None]
    (card,) = (one for one in hardware.device if isinstance(one, vim.vm.device.VirtualEthernetCard))
    assert (type(card), card.macAddress) == (vim.vm.device.VirtualE1000, "00:50:56:aa:bb:cc")
    assert vcenter.state().vm("hardware").snapshots == 2


@pytest.mark.parametrize(
    ("controller", "kind", "key"),
    [
        ("pvscsi", "ParaVirtualSCSIController", 2000),
        ("lsilogic", "VirtualLsiLogicController", 2000),
        ("lsilogic-sas", "VirtualLsiLogicSASController", 2000),
        ("buslogic", "VirtualBusLogicController", 2000),
        ("ide", "VirtualIDEController", 3000),
        ("ahci", "VirtualAHCIController", 16000),
        ("nvme", "VirtualNVMEController", 32000),
    ],
)
def test_disks_stand_on_their_controllers(
    vcenter: VCenter, service: Any, controller: Any, kind: str, key: int
) -> None:
    vcenter.add_vm(controller, disks=[Disk(MIB, controller=controller), Disk(2 * MIB, controller=controller)])
    devices = {device.key: device for device in find_vm(service, controller).config.hardware.device}
    disks = [device for device in devices.values() if isinstance(device, vim.vm.device.VirtualDisk)]
    assert [(disk.key, disk.unitNumber) for disk in disks] == [(key, 0), (key + 1, 1)]
    assert [disk.capacityInBytes for disk in disks] == [MIB, 2 * MIB]
    assert {type(devices[disk.controllerKey]).__name__.split(".")[-1] for disk in disks} == {kind}


def test_disks_that_cannot_be_exported_look_like_it(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm(
        "odd disks",
        encrypted=True,
        disks=[
            Disk(MIB, backing="rdm"),
            Disk(MIB, mode="independent_persistent", unit=9),
            Disk(MIB, sharing="sharingMultiWriter", bus=1),
        ],
    )
    devices = find_vm(service, "odd disks").config.hardware.device
    rdm, independent, shared = [one for one in devices if hasattr(one, "capacityInBytes")]
    assert isinstance(rdm.backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo)
    assert (independent.backing.diskMode, independent.key) == ("independent_persistent", 2009)
    assert (shared.backing.sharing, shared.key) == ("sharingMultiWriter", 2016)
    assert shared.backing.keyId.keyId


def test_a_unit_can_be_taken_once_only(vcenter: VCenter) -> None:
    with pytest.raises(LabError, match="unit 3"):
        vcenter.add_vm("twice", disks=[Disk(MIB, unit=3), Disk(MIB, unit=3)])


def test_folders_may_hold_vms_of_the_same_name(vcenter: VCenter, service: Any) -> None:
    first = vcenter.add_vm("twin", folder="prod/web")
    second = vcenter.add_vm("twin", folder="prod/db")
    assert find_vm(service, "prod/web/twin")._moId == first.moref
    assert find_vm(service, "prod/db/twin")._moId == second.moref
    assert vcenter.state().vm(first.moref).path == "/DC0/vm/prod/web/twin"


def test_a_nic_stands_on_a_standard_or_a_distributed_network(vcenter: VCenter, service: Any) -> None:
    vcenter.add_network("standard 10")
    vcenter.add_network("dvs_10", switch="DSwitch")
    vcenter.add_network("dvs_20", switch="DSwitch")
    vcenter.add_vm("networked", nics=[NIC("standard 10"), NIC("dvs_20"), NIC("DC0_DVPG0"), NIC()])
    vm = find_vm(service, "networked")
    assert [network.name for network in vm.network] == ["standard 10", "dvs_20", "DC0_DVPG0", "VM Network"]
    assert vm.network[1].config.distributedVirtualSwitch.name == "DSwitch"


def test_a_datacenter_can_stand_in_a_folder() -> None:
    with VCenter(datacenters=2, folders=1, machines=1) as vcenter, session(vcenter) as service:
        made = vcenter.add_vm("inside", datacenter="/F0/DC1", folder="a")
        assert find_vm(service, "/F0/DC1/vm/a/inside")._moId == made.moref
        assert {vm.path for vm in vcenter.state().vms} >= {"/DC0/vm/DC0_H0_VM0", "/F0/DC1/vm/F0/DC1_H0_VM0"}


def test_it_can_be_an_esxi_host() -> None:
    with VCenter(esx=True) as host, session(host) as service:
        host.add_vm("on esx", disks=[Disk(MIB)], nics=[NIC()])
        assert service.content.about.apiType == "HostAgent"
        assert find_vm(service, "/ha-datacenter/vm/on esx").runtime.powerState == "poweredOff"


# --- sessions and certificates


def test_only_the_right_password_logs_in(vcenter: VCenter) -> None:
    before = vcenter.state()
    with pytest.raises(vim.fault.InvalidLogin), session(vcenter, password=f"not {vcenter.password}"):
        pass
    with session(vcenter):
        during = vcenter.state()
    assert (during.logins, during.refused_logins) == (before.logins + 1, before.refused_logins + 1)
    assert during.sessions == before.sessions + 1
    assert vcenter.state().sessions == before.sessions


def test_credentials_can_change(vcenter: VCenter) -> None:
    username, password = vcenter.username, vcenter.password
    vcenter.set_credentials("other", "changed")
    try:
        with session(vcenter):
            pass
        with pytest.raises(vim.fault.InvalidLogin), session(vcenter, password=password):
            pass
    finally:
        vcenter.set_credentials(username, password)


def test_an_expired_session_is_noticed_at_the_next_look(vcenter: VCenter) -> None:
    vcenter.add_vm("looked at")
    with session(vcenter, log_out=False) as service:
        vm = find_vm(service, "looked at")
        vcenter.expire_sessions()
        with pytest.raises(vim.fault.NotAuthenticated):
            _ = vm.name
        with pytest.raises(vim.fault.NotAuthenticated):
            retrieve(service, vm, "name")
        service.content.sessionManager.Login(vcenter.username, vcenter.password)
        assert vm.name == "looked at"
        service.content.sessionManager.Logout()


def test_another_certificate_is_shown_to_every_connection(vcenter: VCenter) -> None:
    first = vcenter.fingerprint
    with session(vcenter, log_out=False):
        pem = vcenter.new_certificate(self_signed=True)
        assert vcenter.fingerprint != first
        assert leaf_pem(vcenter) == pem
        with pytest.raises(ssl.SSLCertVerificationError), session(vcenter):
            pass
    vcenter.new_certificate(names=["vcenter.lab"])
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"), session(vcenter):
        pass
    vcenter.new_certificate()
    with session(vcenter):
        pass


# --- power


def test_a_guest_with_tools_shuts_down_when_asked(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("obeys", power_state="on", shutdown_seconds=0.05)
    vm = find_vm(service, "obeys")
    assert (vm.guest.toolsRunningStatus, vm.guest.guestState) == ("guestToolsRunning", "running")
    vm.ShutdownGuest()
    eventually(lambda: vm.runtime.powerState == "poweredOff")
    assert (vm.guest.toolsRunningStatus, vm.guest.guestState) == ("guestToolsNotRunning", "notRunning")
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.ShutdownGuest()
    assert vcenter.state().vm("obeys").calls["ShutdownGuest"] == 2


def test_a_guest_may_ignore_the_request(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("ignores", power_state="on", ignores_shutdown=True, shutdown_seconds=0)
    vm = find_vm(service, "ignores")
    vm.ShutdownGuest()
    assert vm.runtime.powerState == "poweredOn"
    vcenter.set_guest("ignores", ignores_shutdown=False)
    vm.ShutdownGuest()
    eventually(lambda: vm.runtime.powerState == "poweredOff")


@pytest.mark.parametrize(
    ("tools", "status"), [("not_running", "toolsNotRunning"), ("not_installed", "toolsNotInstalled")]
)
def test_without_tools_a_guest_cannot_be_asked(
    vcenter: VCenter, service: Any, tools: Any, status: str
) -> None:
    vcenter.add_vm(tools, power_state="on", tools=tools)
    vm = find_vm(service, tools)
    assert (vm.guest.toolsStatus, vm.guest.toolsRunningStatus) == (status, "guestToolsNotRunning")
    with pytest.raises(vim.fault.ToolsUnavailable):
        vm.ShutdownGuest()
    vcenter.set_guest(tools, tools="running")
    assert vm.summary.guest.toolsRunningStatus == "guestToolsRunning"


def test_the_power_button_works_behind_a_client_s_back(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("button", power_state="suspended")
    vm = find_vm(service, "button")
    assert vm.runtime.powerState == "suspended"
    vcenter.set_power("button", "on")
    assert vm.runtime.powerState == "poweredOn"
    wait_for(vm.PowerOffVM_Task())
    vcenter.remove_vm("button")
    assert "button" not in [one.name for one in vcenter.state().vms]


# --- faults to order


def test_a_call_can_fail_once(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("forbidden")
    vcenter.add_vm("allowed")
    privilege = {"privilegeId": "VirtualMachine.Interact.PowerOn"}
    vcenter.fault(
        "method_fault", vm="forbidden", method="PowerOnVM_Task", fault="NoPermission", detail=privilege
    )
    wait_for(find_vm(service, "allowed").PowerOnVM_Task())
    with pytest.raises(vim.fault.NoPermission) as caught:
        find_vm(service, "forbidden").PowerOnVM_Task()
    assert caught.value.privilegeId == "VirtualMachine.Interact.PowerOn"
    wait_for(find_vm(service, "forbidden").PowerOnVM_Task())


@pytest.mark.parametrize(("method", "before"), [("PowerOffVM_Task", "on"), ("PowerOnVM_Task", "off")])
def test_a_task_can_fail_once(vcenter: VCenter, service: Any, method: str, before: Any) -> None:
    vcenter.add_vm(method, power_state=before)
    vm = find_vm(service, method)
    vcenter.fault("task_fault", method=method, fault="FileLocked", detail={"file": "x.vmdk"})
    with pytest.raises(vim.fault.FileLocked):
        wait_for(getattr(vm, method)())
    wait_for(getattr(vm, method)())


def test_a_call_can_hang(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("hanging", power_state="on")
    vm = find_vm(service, "hanging")
    vcenter.fault("method_delay", vm="hanging", method="PowerOffVM_Task", delay_seconds=600)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(vm.PowerOffVM_Task)
        eventually(lambda: vcenter.state().calls.get("PowerOffVM_Task"))
        assert not call.done()
        vcenter.clear_faults()
        wait_for(call.result(timeout=30))


def test_the_sdk_can_answer_with_a_status_or_not_at_all(vcenter: VCenter, service: Any) -> None:
    vcenter.add_vm("out of order")
    vm = find_vm(service, "out of order")
    vcenter.fault("sdk_status", status=503)
    with pytest.raises(http.client.HTTPException, match="503"):
        _ = vm.name
    vcenter.fault("sdk_cut")
    with pytest.raises((http.client.HTTPException, OSError)):
        _ = vm.name
    assert vm.name == "out of order"


def test_the_whole_vcenter_can_be_down(vcenter: VCenter) -> None:
    with session(vcenter) as service:
        vcenter.settings(down=True)
        with pytest.raises((http.client.HTTPException, OSError)):
            service.CurrentTime()
        vcenter.settings(down=False)
        assert service.CurrentTime()


def test_a_misspelt_knob_is_an_error(vcenter: VCenter) -> None:
    with pytest.raises(LabError, match="nfc_host"):
        vcenter.settings(nfc_host="moon")  # type: ignore[arg-type]
