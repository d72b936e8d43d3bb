"""The VMware provider against the lab's vCenter: who is trusted with the bytes of disks, and with what."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from providers.base import TLSPolicy
from providers.errors import CertificateNotTrusted, TransferInterrupted
from tests.integration.vmware import EXPORT, provider_for, read

if TYPE_CHECKING:
    from pathlib import Path

    from providers.vmware.provider import VmwareProvider
    from tests.lab.vcenter import VCenter

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("thumbprint", ["sha1", "sha256"])
def test_an_esxi_host_is_trusted_by_what_the_trusted_vcenter_says_of_it(
    vcenter: VCenter, machine: str, files: list[Path], thumbprint: str
) -> None:
    vcenter.settings(thumbprint=thumbprint)  # type: ignore[arg-type]
    with closing(provider_for(vcenter, TLSPolicy(fingerprint=vcenter.fingerprint))) as provider:
        vm = provider.inspect(machine)

        assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


@pytest.mark.parametrize("thumbprint", ["none", "wrong"])
def test_an_esxi_host_is_trusted_by_the_ca_as_well(
    vcenter: VCenter, provider: VmwareProvider, machine: str, files: list[Path], thumbprint: str
) -> None:
    vcenter.settings(thumbprint=thumbprint)  # type: ignore[arg-type]
    vm = provider.inspect(machine)

    assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


@pytest.mark.parametrize("thumbprint", ["none", "wrong"])
def test_an_esxi_host_that_nothing_vouches_for_is_asked_for_nothing(
    vcenter: VCenter, machine: str, thumbprint: str
) -> None:
    vcenter.settings(thumbprint=thumbprint)  # type: ignore[arg-type]
    with closing(provider_for(vcenter, TLSPolicy(fingerprint=vcenter.fingerprint))) as provider:
        vm = provider.inspect(machine)

        with pytest.raises(CertificateNotTrusted):
            provider.open_disk(vm, vm.disks[0], EXPORT)
        assert vcenter.state().vm(machine).disks[0].gets == 0


def test_insecure_reads_from_any_host(vcenter: VCenter, machine: str, files: list[Path]) -> None:
    vcenter.settings(thumbprint="wrong")
    with closing(provider_for(vcenter, TLSPolicy(insecure=True))) as provider:
        vm = provider.inspect(machine)

        assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


@pytest.mark.parametrize("host", ["star", "vcenter"])
def test_disks_at_the_endpoint_itself_are_held_to_its_pin(
    vcenter: VCenter, machine: str, files: list[Path], host: str
) -> None:
    vcenter.settings(nfc_host=host, thumbprint="none")  # type: ignore[arg-type]
    with closing(provider_for(vcenter, TLSPolicy(fingerprint=vcenter.fingerprint))) as provider:
        vm = provider.inspect(machine)

        assert read(provider, vm, vm.disks[0]) == files[0].read_bytes()


def test_the_ticket_is_never_told(vcenter: VCenter, provider: VmwareProvider, machine: str) -> None:
    vm = provider.inspect(machine)
    vcenter.fault("status", vm=machine, status=404)

    with pytest.raises(TransferInterrupted) as refusal:
        provider.open_disk(vm, vm.disks[0], EXPORT)

    assert "404" in str(refusal.value)
    assert "nfc/" not in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "name", "sent"),
    [
        ("esxi", "localhost", 0),
        ("esxi", "127.0.0.1", 0),  # the endpoint's name, on another port
        ("vcenter", "localhost", 0),  # another name, that anybody may have
        ("vcenter", "127.0.0.1", 1),
        ("star", "", 1),
    ],
)
def test_the_sessions_cookie_goes_to_the_endpoint_and_to_no_other_host(
    vcenter: VCenter, provider: VmwareProvider, machine: str, host: str, name: str, sent: int
) -> None:
    vcenter.settings(nfc_host=host, nfc_host_name=name)  # type: ignore[arg-type]
    vm = provider.inspect(machine)

    for disk in vm.disks:
        read(provider, vm, disk)

    assert [(disk.gets, disk.cookies) for disk in vcenter.state().vm(machine).disks] == [(1, sent)] * 3


def test_a_host_that_changes_its_certificate_in_the_middle_is_not_read_from(
    vcenter: VCenter, machine: str
) -> None:
    with closing(provider_for(vcenter, TLSPolicy(fingerprint=vcenter.fingerprint))) as provider:
        vm = provider.inspect(machine)
        provider.open_disk(vm, vm.disks[0], EXPORT).close()
        vcenter.new_certificate("esxi", self_signed=True)

        with pytest.raises(CertificateNotTrusted):
            provider.open_disk(vm, vm.disks[1], EXPORT)
        assert [disk.gets for disk in vcenter.state().vm(machine).disks][1] == 0
