"""What tests of the VMware provider share: a vCenter for each module, without trouble for each test."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.integration.vmware import MIB, disk_file, provider_for
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import CDROM, Disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from providers.vmware.provider import VmwareProvider

EXPORT_BYTES = 2 * MIB  # of what a disk's export sends


@pytest.fixture(scope="module")
def running_vcenter() -> Iterator[VCenter]:
    with VCenter(datacenters=3, folders=1) as running:
        yield running


@pytest.fixture
def vcenter(running_vcenter: VCenter) -> Iterator[VCenter]:
    """The vCenter without trouble; whatever a test did, neither lease nor session may be left."""
    running_vcenter.settings(
        lease_initializing_seconds=0.1,
        lease_timeout_seconds=300,
        nfc_host="esxi",
        nfc_host_name="localhost",
        thumbprint="sha1",
        lease_certificate=False,
        down=False,
    )
    yield running_vcenter
    running_vcenter.clear_faults()
    running_vcenter.settings(down=False)
    state = running_vcenter.state()
    assert state.alive_leases == ()
    assert state.sessions == 0


@pytest.fixture
def provider(vcenter: VCenter) -> Iterator[VmwareProvider]:
    with closing(provider_for(vcenter)) as connected:
        yield connected


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [disk_file(tmp_path / f"{i}.vmdk", EXPORT_BYTES, seed=i) for i in range(3)]


@pytest.fixture
def machine(vcenter: VCenter, files: list[Path], request: pytest.FixtureRequest) -> str:
    """The name of a VM with three disks on controllers of three kinds, an ISO and an nvram."""
    name: str = request.node.name
    kinds = zip(files, ("pvscsi", "ahci", "nvme"), strict=True)
    disks = [Disk(8 * MIB, file, controller=kind) for file, kind in kinds]  # type: ignore[arg-type]
    vcenter.add_vm(name, disks=disks, firmware="efi", cdrom=CDROM("[LocalDS_0] a.iso"))
    return name
