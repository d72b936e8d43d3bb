"""The VMware provider against the lab's vCenter: finding VMs and describing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from providers.errors import SourceVMNotFound, SourceVMNotUnique
from providers.model import Severity
from tests.integration.vmware import MIB, disk_file
from tests.lab.vcenter_model import NIC, Disk, Obstacles

if TYPE_CHECKING:
    from pathlib import Path

    from providers.vmware.provider import VmwareProvider
    from tests.lab.vcenter import VCenter

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(running_vcenter: VCenter) -> dict[str, str]:
    """VMs in all kinds of places, as `path: MoRef`."""
    places = [
        ("shop", ""),
        ("shop", "old"),
        ("twin", "a"),
        ("twin", "b/c"),
        ("deep", "x/y z/ü"),
        ("a/b 100% ü", "slash"),
        ("vm-1", "misleading"),
    ]
    made = {f"{folder}/{name}": running_vcenter.add_vm(name, folder=folder) for name, folder in places}
    running_vcenter.add_vm("elsewhere", datacenter="DC1")
    return {path: vm.moref for path, vm in made.items()}


@pytest.mark.parametrize(
    ("name", "folder", "place"),
    [
        ("shop", "", "/shop"),  # what the old controller meant by no folder
        ("shop", "old", "old/shop"),
        ("shop", "/old/", "old/shop"),
        ("shop", "/DC0/vm/old", "old/shop"),
        ("/DC0/vm/old/shop", "", "old/shop"),
        ("old/shop", "", "old/shop"),
        ("deep", "", "x/y z/ü/deep"),
        ("deep", "x/y z/ü", "x/y z/ü/deep"),
        ("z/ü/deep", "x/y ", None),
        ("a/b 100% ü", "", "slash/a/b 100% ü"),
        ("a/b 100% ü", "slash", "slash/a/b 100% ü"),
        ("a%2fb 100%25 ü", "slash", "slash/a/b 100% ü"),
        ("/DC0/vm/slash/a%2fb 100%25 ü", "", "slash/a/b 100% ü"),
        ("vm-1", "", "misleading/vm-1"),
    ],
)
def test_a_vm_is_found_by_name_and_path(
    provider: VmwareProvider, shop: dict[str, str], name: str, folder: str, place: str | None
) -> None:
    if place is None:
        with pytest.raises(SourceVMNotFound):
            provider.inspect(name, folder)
    else:
        assert provider.inspect(name, folder).id == shop[place]


def test_a_vm_is_found_by_moref_and_by_instance_uuid(vcenter: VCenter, provider: VmwareProvider) -> None:
    made = vcenter.add_vm("by id", folder="ids")

    assert provider.inspect(made.moref).name == "by id"
    assert provider.inspect(made.instance_uuid.upper()).id == made.moref


def test_an_identifier_does_not_reach_into_another_datacenter(
    vcenter: VCenter, provider: VmwareProvider
) -> None:
    made = vcenter.add_vm("not here", datacenter="DC1")

    with pytest.raises(SourceVMNotFound):
        provider.inspect(made.moref)


@pytest.mark.usefixtures("shop")
def test_an_ambiguous_name_is_told_with_what_tells_them_apart(
    provider: VmwareProvider, shop: dict[str, str]
) -> None:
    with pytest.raises(SourceVMNotUnique) as refusal:
        provider.inspect("twin")

    assert f"/DC0/vm/a/twin ({shop['a/twin']})" in str(refusal.value)
    assert f"/DC0/vm/b/c/twin ({shop['b/c/twin']})" in str(refusal.value)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("name", "folder", "hint"),
    [("dep", "", "/DC0/vm/x/y z/ü/deep"), ("Deep", "", "/deep"), ("deep", "old", "/DC0/vm/x/y z/ü/deep")],
)
def test_a_name_that_is_not_found_is_told_with_similar_ones(
    provider: VmwareProvider, name: str, folder: str, hint: str
) -> None:
    with pytest.raises(SourceVMNotFound) as refusal:
        provider.inspect(name, folder)

    assert hint in str(refusal.value)


@pytest.mark.usefixtures("shop")
def test_a_name_of_another_datacenter_is_not_found(provider: VmwareProvider) -> None:
    with pytest.raises(SourceVMNotFound) as refusal:
        provider.inspect("elsewhere")

    assert "similar" not in str(refusal.value)


def test_a_large_inventory_is_read_in_pages(
    vcenter: VCenter, provider: VmwareProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [vcenter.add_vm(f"page-{i}", folder=f"pages/{i}") for i in range(7)]
    monkeypatch.setattr("providers.vmware.properties.PAGE_SIZE", 2)

    assert [provider.inspect(f"page-{i}").id for i in range(7)] == [vm.moref for vm in made]
    assert vcenter.state().calls["ContinueRetrievePropertiesEx"] > 7


def test_an_inspected_vm_has_its_networks_by_every_name(
    vcenter: VCenter, provider: VmwareProvider, tmp_path: Path
) -> None:
    vcenter.add_network("dvs_10", switch="DSwitch", datacenter="DC0")
    vcenter.add_vm(
        "wired",
        disks=[Disk(8 * MIB, disk_file(tmp_path / "d"))],
        nics=[NIC("VM Network", "e1000"), NIC("dvs_10", mac="00:50:56:AA:BB:CC")],
    )

    vm = provider.inspect("wired")

    assert [nic.networks for nic in vm.nics] == [("VM Network",), ("dvs_10", "DSwitch/dvs_10")]
    assert vm.nics[1].mac == "00:50:56:aa:bb:cc"
    assert {"VM Network", "dvs_10", "DSwitch/dvs_10"} <= set(vm.known_networks)
    assert vm.findings == ()


def test_only_what_is_critical_comes_first(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("bare", snapshots=1, firmware="efi", tpm=True, obstacles=Obstacles(template=True))

    findings = provider.inspect("bare").findings

    assert [(finding.id, finding.severity) for finding in findings] == [
        ("Template", Severity.CRITICAL),
        ("Snapshots", Severity.WARNING),
        ("EFIVariablesNotCarriedOver", Severity.WARNING),
        ("TPMStateNotCarriedOver", Severity.WARNING),
    ]


def test_privileges_that_are_missing_are_found_before_they_are_needed(
    vcenter: VCenter, provider: VmwareProvider, tmp_path: Path
) -> None:
    denied = Obstacles(denied_privileges=("VApp.Export", "VirtualMachine.Interact.PowerOn"))
    vcenter.add_vm("guarded", disks=[Disk(8 * MIB, disk_file(tmp_path / "d"))], obstacles=denied)

    (finding,) = provider.inspect("guarded").findings

    assert (finding.id, finding.severity) == ("PrivilegesMissing", Severity.CRITICAL)
    assert "VApp.Export" in finding.message
    assert "VirtualMachine.Interact.PowerOn" in finding.message
    assert "PowerOff" not in finding.message


def test_a_vm_that_vsphere_cannot_read_does_not_hide_the_others(
    vcenter: VCenter, provider: VmwareProvider
) -> None:
    vcenter.add_vm("unreadable", obstacles=Obstacles(inaccessible=True))
    made = vcenter.add_vm("readable")

    assert provider.inspect(made.instance_uuid).name == "readable"
    assert "VMInaccessible" in [finding.id for finding in provider.inspect("unreadable").findings]
