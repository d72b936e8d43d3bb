"""Manifests: the names, numbers and places that Harvester and KubeVirt insist on."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from controller import builders
from controller.storage_class import StorageChoice
from providers.model import DiskBus, Firmware, NICModel, SourceDisk, SourceNIC, SourceVM
from tests.unit.objects import UID, an_import

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")  # Kubernetes, "Labels and Selectors"
RFC_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

VM = SourceVM(
    id="vm-1",
    name="web",
    cpu_count=8,
    memory_mib=4097,
    disks=(
        SourceDisk("scsi0:0", "a.vmdk", 1 << 30, DiskBus.SCSI),
        SourceDisk("scsi0:1", "b.vmdk", 1 << 20, DiskBus.SATA),
    ),
    nics=(SourceNIC("ethernet0", ("VM Network",), NICModel.E1000, "00:50:56:00:00:01"),),
    uuid="42000000-0000-4000-8000-000000000001",
)
STATUS = {"importedVirtualMachineName": "web", "runID": "abc123"}
DISKS = [
    {"sourceDisk": "scsi0:0", "busType": "scsi", "VirtualMachineImage": "image-0"},
    {"sourceDisk": "scsi0:1", "busType": "sata", "VirtualMachineImage": "image-1"},
]


def build(vm: SourceVM = VM, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return builders.build_virtual_machine(an_import(spec, STATUS), vm, DISKS)


def domain(vm: SourceVM = VM, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = build(vm, spec)["spec"]["template"]["spec"]["domain"]
    return found


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("web", "web"),
        ("My Web.Server_01", "my-web-server-01"),
        ("--a  b--", "a-b"),
        ("x" * 63, "x" * 63),
        ("日本語", ""),
    ],
)
def test_a_source_name_becomes_an_rfc_1123_label(source: str, target: str) -> None:
    assert builders.target_name(source) == target


def test_a_name_that_is_cut_stays_unique() -> None:
    names = {builders.target_name("x" * 80 + letter) for letter in "ab"}
    assert len(names) == 2
    assert all(len(name) == 63 and RFC_1123.fullmatch(name) for name in names)


def test_an_images_display_name_is_a_label_value_however_long_the_imports_name_is() -> None:
    vmimport = an_import(None, STATUS, name="a." * 120 + "b")
    for unique in (False, True):
        name = builders.image_display_name(vmimport, 11, unique=unique)
        assert len(name) <= 63
        assert LABEL_VALUE.fullmatch(name)


def test_names_of_images_differ_by_import_run_and_disk() -> None:
    first, second = an_import(None, {"runID": "a1b2c3"}), an_import(None, {"runID": "d4e5f6"})
    names = [builders.image_name(vmimport, index) for vmimport in (first, second) for index in range(99)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 and RFC_1123.fullmatch(name) and UID in name for name in names)


def test_all_cpus_are_cores_of_one_socket() -> None:
    assert domain()["cpu"] == {"sockets": 1, "cores": 8, "threads": 1}
    assert domain()["resources"]["limits"]["cpu"] == "8"


def test_memory_is_in_mebibytes() -> None:
    assert domain()["memory"] == {"guest": "4097Mi"}
    assert domain()["resources"]["limits"]["memory"] == "4097Mi"


def test_overrides_win_over_the_source() -> None:
    changed = domain(spec={"overrides": {"cpuCores": 2, "memory": "1Gi"}})
    assert (changed["cpu"]["cores"], changed["memory"]["guest"]) == (2, "1Gi")


def test_firmware_is_as_at_the_source() -> None:
    efi = replace(VM, firmware=Firmware.UEFI)
    assert domain(efi)["firmware"]["bootloader"] == {"efi": {"secureBoot": False}}
    secure = domain(replace(efi, secure_boot=True))
    assert secure["firmware"]["bootloader"] == {"efi": {"secureBoot": True}}
    assert secure["features"]["smm"] == {"enabled": True}


def test_uuid_serial_and_tpm_are_kept() -> None:
    kept = domain(replace(VM, serial="VMware-42", tpm=True))
    assert kept["firmware"]["uuid"] == VM.uuid
    assert kept["firmware"]["serial"] == "VMware-42"
    assert kept["devices"]["tpm"] == {"persistent": True}


def test_disks_keep_bus_and_order_and_come_from_the_images() -> None:
    spec = build()["spec"]["template"]["spec"]
    assert spec["domain"]["devices"]["disks"] == [
        {"name": "disk-0", "disk": {"bus": "scsi"}, "bootOrder": 1},
        {"name": "disk-1", "disk": {"bus": "sata"}, "bootOrder": 2},
    ]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"]] == [
        "image-0",
        "image-1",
    ]


def test_a_card_that_boots_first_stays_before_the_disks() -> None:
    booting = replace(VM, nics=(replace(VM.nics[0], boot_order=1),))
    devices = domain(booting)["devices"]
    assert devices["interfaces"][0]["bootOrder"] == 1
    assert [disk["bootOrder"] for disk in devices["disks"]] == [2, 3]


def test_boot_order_numbers_are_unique_over_disks_and_cards() -> None:
    disks = (replace(VM.disks[0], boot_order=1), replace(VM.disks[1], boot_order=3))
    devices = domain(replace(VM, disks=disks, nics=(replace(VM.nics[0], boot_order=2),)))["devices"]
    order = [device["bootOrder"] for device in (*devices["disks"], *devices["interfaces"])]
    assert order == [1, 3, 2]


def test_a_mapped_card_is_bridged_and_keeps_its_mac() -> None:
    mapping = {"networkMapping": [{"sourceNetwork": "VM Network", "destinationNetwork": "vlan1"}]}
    spec = build(spec=mapping)["spec"]["template"]["spec"]
    assert spec["networks"] == [{"name": "nic-0", "multus": {"networkName": "default/vlan1"}}]
    assert spec["domain"]["devices"]["interfaces"] == [
        {"name": "nic-0", "model": "e1000", "macAddress": "00:50:56:00:00:01", "bridge": {}}
    ]


def test_a_mapping_may_name_the_network_by_any_of_its_names() -> None:
    nic = SourceNIC("ethernet0", ("dvs_10", "DSwitch/dvs_10"))
    for name in nic.networks:
        vmimport = an_import({"networkMapping": [{"sourceNetwork": name, "destinationNetwork": "ns/v"}]})
        (network,) = builders.plan_nics(vmimport, [nic]).networks
        assert network["multus"] == {"networkName": "ns/v"}


@pytest.mark.parametrize("destination", ["mgmt", "management Network", "Management Network"])
def test_the_management_network_is_the_pod_network(destination: str) -> None:
    vmimport = an_import(
        {"networkMapping": [{"sourceNetwork": "VM Network", "destinationNetwork": destination}]}
    )
    plan = builders.plan_nics(vmimport, VM.nics)
    assert plan.networks == ({"name": "nic-0", "pod": {}},)
    assert plan.interfaces[0]["masquerade"] == {}


def test_only_the_first_unmatched_card_gets_the_pod_network_and_the_others_are_told() -> None:
    nics = [SourceNIC(f"ethernet{n}", (f"net{n}",)) for n in range(4)]
    vmimport = an_import({"networkMapping": [{"sourceNetwork": "net1", "destinationNetwork": "v"}]})
    plan = builders.plan_nics(vmimport, nics)
    assert plan.networks == (
        {"name": "nic-0", "pod": {}},
        {"name": "nic-1", "multus": {"networkName": "default/v"}},
    )
    assert [nic.key for nic in plan.left_out] == ["ethernet2", "ethernet3"]


def test_a_card_that_is_mapped_to_the_management_network_comes_before_one_that_nobody_mapped() -> None:
    nics = [SourceNIC(f"ethernet{n}", (f"net{n}",)) for n in range(3)]
    mapping = [{"sourceNetwork": f"net{n}", "destinationNetwork": "mgmt"} for n in (1, 2)]
    plan = builders.plan_nics(an_import({"networkMapping": mapping}), nics)
    assert plan.networks == ({"name": "nic-0", "pod": {}},)
    assert [nic.key for nic in plan.left_out] == ["ethernet0", "ethernet2"]


def test_a_vm_without_cards_gets_one_on_the_pod_network_with_the_default_model() -> None:
    plan = builders.plan_nics(an_import({"defaultNetworkInterfaceModel": "rtl8139"}), [])
    assert plan.interfaces == ({"name": "nic-0", "model": "rtl8139", "masquerade": {}},)
    assert plan.left_out == ()


def test_the_model_is_the_mappings_then_the_detected_then_the_default() -> None:
    mapped = {"sourceNetwork": "VM Network", "destinationNetwork": "v", "networkInterfaceModel": "pcnet"}
    detected, unknown = VM.nics[0], replace(VM.nics[0], model=None)
    spec = {"networkMapping": [mapped], "defaultNetworkInterfaceModel": "rtl8139"}
    for nic, use, model in (
        (detected, spec, "pcnet"),
        (detected, {"defaultNetworkInterfaceModel": "rtl8139"}, "e1000"),
        (unknown, {"defaultNetworkInterfaceModel": "rtl8139"}, "rtl8139"),
        (unknown, {"defaultNetworkInterfaceModel": ""}, "virtio"),
    ):
        assert builders.plan_nics(an_import(use), [nic]).interfaces[0]["model"] == model


def test_the_bus_is_the_exceptions_then_the_detected_then_the_default() -> None:
    unknown = replace(VM.disks[0], bus=None, aliases=("disk-2000",))
    exception = {"diskMapping": [{"sourceDisk": "disk-2000", "bus": "usb"}]}
    assert builders.disk_bus(an_import(exception), unknown) == "usb"
    assert builders.disk_bus(an_import({"defaultDiskBusType": "sata"}), VM.disks[0]) == "scsi"
    assert builders.disk_bus(an_import({"defaultDiskBusType": "sata"}), unknown) == "sata"
    assert builders.disk_bus(an_import({"defaultDiskBusType": ""}), unknown) == "virtio"


def test_the_users_defaults_count_for_all_disks_and_cards_of_openstack() -> None:
    spec = {
        "sourceCluster": {"kind": "openstacksource", "name": "cloud"},
        "defaultDiskBusType": "sata",
        "defaultNetworkInterfaceModel": "rtl8139",
    }
    vmimport = an_import(spec)
    assert builders.disk_bus(vmimport, VM.disks[0]) == "sata"
    assert builders.plan_nics(vmimport, VM.nics).interfaces[0]["model"] == "rtl8139"
    without = an_import({"sourceCluster": spec["sourceCluster"]})
    assert builders.disk_bus(without, VM.disks[0]) == "scsi"
    assert builders.plan_nics(without, VM.nics).interfaces[0]["model"] == "e1000"


def test_disks_without_an_order_come_after_those_with_one_in_device_order() -> None:
    orders = {"a": None, "b": 1, "c": None}
    disks = [replace(VM.disks[0], key=key, boot_order=order) for key, order in orders.items()]
    assert [disk.key for disk in builders.boot_sorted(disks)] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("provisioner", "engine", "backend"),
    [
        ("driver.longhorn.io", "v1", "backingimage"),
        ("driver.longhorn.io", "v2", "cdi"),
        ("csi.example.com", "v1", "cdi"),
    ],
)
def test_the_backend_follows_from_the_storage_class(provisioner: str, engine: str, backend: str) -> None:
    storage = StorageChoice("fast", provisioner, {"dataEngine": engine})
    image = builders.build_image(an_import(None, STATUS), 0, url="http://x/y", storage=storage)
    assert image["spec"]["backend"] == backend
    assert image["spec"]["targetStorageClassName"] == "fast"
    assert image["metadata"]["annotations"]["harvesterhci.io/storageClassName"] == "fast"
    warned = "Deleting the image deletes the disk" in str(image["metadata"]["annotations"])
    assert warned == (backend == "cdi"), "Harvester protects a backing image that is in use, and no other"


@pytest.mark.parametrize(
    ("provisioner", "parameters", "objection"),
    [
        ("driver.longhorn.io", {"numberOfReplicas": "2", "encrypted": "false"}, ""),
        ("driver.longhorn.io", {"backingImage": "vmi-1"}, "that of another image"),
        ("driver.longhorn.io", {"encrypted": "true"}, "it encrypts"),
        ("driver.longhorn.io", {"encrypted": "true", "dataEngine": "v2"}, ""),
        ("csi.example.com", {"encrypted": "true", "backingImage": "x"}, ""),
    ],
)
def test_a_class_that_no_disk_can_be_imported_to_is_known(
    provisioner: str, parameters: dict[str, str], objection: str
) -> None:
    told = StorageChoice("fast", provisioner, parameters).objection
    assert objection in told
    assert bool(told) == bool(objection)


def test_a_card_that_has_the_address_of_kubevirts_own_bridge_gets_another_on_the_pod_network() -> None:
    card = SourceNIC("ethernet0", ("VM Network",), mac="02:00:00:00:00:00")
    assert "macAddress" not in builders.plan_nics(an_import(None, STATUS), [card]).interfaces[0]
    mapped = {"networkMapping": [{"sourceNetwork": "VM Network", "destinationNetwork": "vlan1"}]}
    kept = builders.plan_nics(an_import(mapped, STATUS), [card]).interfaces[0]
    assert kept["macAddress"] == "02:00:00:00:00:00"


def test_a_bios_machine_names_no_firmware_that_would_stay_beside_the_efi_of_a_later_choice() -> None:
    firmware = build()["spec"]["template"]["spec"]["domain"]["firmware"]
    assert "bootloader" not in firmware


def test_everything_made_is_found_again_by_the_imports_uid_and_run() -> None:
    vmimport = an_import(None, STATUS)
    image = builders.build_image(vmimport, 0, url="u", storage=StorageChoice("c", "p"))
    for made in (image, builders.build_pvc(vmimport, 0, size_bytes=1, class_name="c"), build()):
        assert made["metadata"]["labels"]["migration.harvesterhci.io/import-uid"] == UID
        assert made["metadata"]["labels"]["migration.harvesterhci.io/import-run"] == "abc123"
        assert made["metadata"]["labels"]["migration.harvesterhci.io/imported"] == "true"


def test_description_and_system_are_shown_in_harvester() -> None:
    metadata = build(replace(VM, description="the web server", os_label="ubuntu"))["metadata"]
    assert metadata["annotations"]["field.cattle.io/description"] == "the web server"
    assert metadata["labels"]["harvesterhci.io/os"] == "ubuntu"
    assert metadata["labels"]["harvesterhci.io/vmName"] == "web"


def test_a_vm_has_annotations_whatever_its_source_says_for_the_web_ui_expects_some() -> None:
    annotations = build(replace(VM, description=None))["metadata"]["annotations"]
    assert annotations == {"migration.harvesterhci.io/virtualmachineimport": "web-default"}


@pytest.mark.parametrize(
    ("source", "serial"),
    [
        (
            "VMware-42 1f 9a 00 de ad be ef-01 02 03 04 05 06 07 08",
            "VMware-421f9a00deadbeef-0102030405060708",
        ),
        ("a" * 300, "a" * 256),
        (" ", None),
        (None, None),
    ],
)
def test_a_serial_number_has_only_characters_that_kubevirt_takes(
    source: str | None, serial: str | None
) -> None:
    disk = replace(VM.disks[0], serial=source)
    vm = replace(VM, serial=source, disks=(disk, VM.disks[1]))
    assert domain(vm)["firmware"].get("serial") == serial
    assert domain(vm)["devices"]["disks"][0].get("serial") == serial
