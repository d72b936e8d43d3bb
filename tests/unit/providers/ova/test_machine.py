from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from controller import builders
from controller.phases.preflight.machine import chosen_disks
from providers.errors import SourceVMNotFound, SourceVMNotUnique
from providers.model import SourceVM
from providers.ova.descriptor import parse
from providers.ova.machine import describe
from tests.golden import assert_golden
from tests.unit.objects import an_import
from tests.unit.providers.ova.descriptors import DESCRIPTORS, described, read

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = [
    {"sourceNetwork": name, "destinationNetwork": "vlan1"}
    for name in ("VM Network", "Servers", "DMZ", "LAN", "b")
]


def golden(name: str) -> dict[str, Any]:
    """Return what is kept of a descriptor: the description, the formats, and the VM that is made of it."""
    found = described(name)
    vm = found.vm
    status = {"importedVirtualMachineName": builders.target_name(vm.name), "runID": "abc123"}
    vmimport = an_import({"networkMapping": NETWORKS}, status)
    disks = [
        {
            "sourceDisk": disk.key,
            "busType": builders.disk_bus(vmimport, disk),
            "VirtualMachineImage": builders.image_name(vmimport, index),
        }
        for index, disk in enumerate(chosen_disks(vmimport, vm))
    ]
    return {
        "source": vm.to_dict(),
        "formats": dict(found.formats),
        "made": builders.build_virtual_machine(vmimport, vm, disks),
    }


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_is_read_and_becomes_a_vm_as_its_golden_file_says(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.yaml", golden(name))


def test_every_golden_file_belongs_to_a_descriptor() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(DESCRIPTORS)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_description_survives_the_status(name: str) -> None:
    vm = described(name).vm

    assert SourceVM.from_dict(vm.to_dict()) == vm


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_a_descriptor_may_be_in_any_encoding_that_xml_declares(encoding: str) -> None:
    text = read("ovftool_efi_secure_boot").decode().replace("UTF-8", encoding.removesuffix("-sig"))
    package = parse(text.encode(encoding))

    assert describe(package, package.systems[0]).vm == described("ovftool_efi_secure_boot").vm


def test_the_only_system_is_meant_whatever_the_name_and_gets_that_name() -> None:
    package = parse(read("ovftool_efi_secure_boot"))

    assert describe(package, package.system("shop"), "shop").vm.name == "shop"
    assert describe(package, package.system(""), "").vm.name == "web"


@pytest.mark.parametrize("name", ["db", "Database"])
def test_a_system_of_a_collection_is_named_by_its_id_or_its_name(name: str) -> None:
    package = parse(read("collection_of_three"))

    assert package.system(name).id == "db"


@pytest.mark.parametrize("name", ["", "dbb", "shop"])
def test_a_name_that_no_system_of_a_collection_has_is_answered_with_all_of_them(name: str) -> None:
    package = parse(read("collection_of_three"))

    with pytest.raises(
        SourceVMNotFound, match=r"'lb' \(Load balancer\), 'app' \(Application\), 'db' \(Database\)"
    ):
        package.system(name)


def test_a_name_that_two_systems_have_is_answered_with_their_ids() -> None:
    package = parse(read("collection_of_three"))
    twins = tuple(dataclasses.replace(system, name="twin") for system in package.systems)

    with pytest.raises(SourceVMNotUnique, match=r"'lb'.*'app'.*'db'"):
        dataclasses.replace(package, systems=twins).system("twin")
