from __future__ import annotations

from pathlib import Path

import pytest

from providers.model import SourceVM
from providers.vmware.machine import PROPERTIES, smbios_serial, to_source_vm
from tests.golden import assert_golden
from tests.unit.providers.vmware.machines import MACHINES, NETWORKS

GOLDEN = Path(__file__).parent / "golden"
NOT_READ = {"config.hardware.numCoresPerSocket"}  # `numCPU` counts the cores of all sockets already


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_described_as_its_golden_file_says(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.yaml", to_source_vm("vm-7", MACHINES[name](), NETWORKS).to_dict())


def test_every_golden_file_belongs_to_a_machine() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MACHINES)


@pytest.mark.parametrize("name", MACHINES)
def test_a_description_survives_the_status(name: str) -> None:
    described = to_source_vm("vm-7", MACHINES[name](), NETWORKS)

    assert SourceVM.from_dict(described.to_dict()) == described


def test_nothing_is_described_that_is_not_read() -> None:
    read = {key for machine in MACHINES.values() for key in machine()}

    assert read - NOT_READ <= set(PROPERTIES)


def test_how_cpus_are_split_into_sockets_changes_nothing() -> None:
    shapes = ("eight_sockets_of_one_core", "four_sockets_of_two_cores", "one_socket_of_eight_cores")
    described = {to_source_vm("vm-7", MACHINES[name](), NETWORKS) for name in shapes}

    assert {vm.cpu_count for vm in described} == {8}
    assert len(described) == 1


def test_the_serial_is_the_one_that_guests_of_vmware_know() -> None:
    serial = smbios_serial("421f9a00-dead-beef-0102-030405060708")

    assert serial == "VMware-42 1f 9a 00 de ad be ef-01 02 03 04 05 06 07 08"
