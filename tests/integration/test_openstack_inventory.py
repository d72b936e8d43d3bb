"""The OpenStack provider against the lab's cloud: servers of one name, cards in their order, firmware."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from providers.errors import SourceVMNotUnique
from providers.model import DiskBus, Firmware, NICModel
from tests.integration.openstack import provider_for, secret_of
from tests.lab.guest import MIB, build_guest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant

pytestmark = pytest.mark.integration


def test_servers_are_described_as_the_cloud_knows_them(
    cloud: OpenStackCloud, tenant: Tenant, tmp_path: Path
) -> None:
    guest = build_guest(tmp_path, boot_size=2 * MIB, data_size=MIB)
    tenant.add_network("dual", "10.20.0.0/24", "fd00:20::/64")
    tenant.add_network("bare", "10.30.0.0/24")
    ports = [tenant.add_port("bare"), tenant.add_port("dual")]
    properties = {
        "hw_firmware_type": "uefi",
        "hw_disk_bus": "sata",
        "hw_vif_model": "e1000",
        "os_distro": "sles",
    }
    made = [
        tenant.boot_from_volume("twin", guest.boot_raw, properties=properties, ports=ports),
        tenant.boot_from_image("twin", guest.boot_raw, flavor="small"),
    ]
    with closing(provider_for(cloud, secret_of(tenant))) as provider:
        with pytest.raises(SourceVMNotUnique) as refused:
            provider.inspect("twin")
        for server in made:
            assert f"{server.id} (created 20" in str(refused.value)
        vm, other = (provider.inspect(server.id) for server in made)
    assert [nic.networks[0] for nic in vm.nics] == ["lan", "bare", "dual"]
    assert {nic.model for nic in vm.nics} == {NICModel.E1000}
    assert len({nic.mac for nic in vm.nics}) == 3
    assert (vm.firmware, vm.os_label, vm.uuid) == (Firmware.UEFI, "SLEs", made[0].id)
    assert [(disk.bus, disk.boot_order, disk.size_bytes) for disk in vm.disks] == [(DiskBus.SATA, 1, 1 << 30)]
    assert vm.disks[0].handle == made[0].volumes[0]
    assert (other.cpu_count, other.memory_mib, other.disks[0].size_bytes) == (2, 512, 1 << 30)
    assert {finding.id for finding in vm.findings} == {"EFIVariablesNotCarriedOver"}
