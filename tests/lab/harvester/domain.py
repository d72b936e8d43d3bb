"""A VirtualMachine object as KubeVirt reads it: what is wrong with it, and the machine that it means. Pure.

Source of the rules: KubeVirt's API reference, and its admission webhooks of v1.5.0, v1.6.0 and v1.7.0 (the
releases of Harvester 1.6 to 1.8), which agree in all that is here
(`pkg/virt-api/webhooks/validating-webhook/admitters/vmi-create-admitter.go` and `vms-admitter.go`,
`pkg/network/admitter`, in v1.7.0 also `pkg/storage/admitters`).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.lab.harvester import quantity
from tests.lab.qemu import Bus, Disk, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEBIBYTE = 1 << 20
NIC_MODELS = {"e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio"}
SERIAL = re.compile(r"[A-Za-z0-9_.+-]{1,256}")
STARTING_STRATEGIES = {"Always", "RerunOnFailure", "Once"}
STRATEGIES = STARTING_STRATEGIES | {"Halted", "Manual"}
EVICTION_STRATEGIES = {"LiveMigrate", "LiveMigrateIfPossible", "None", "External"}
MACHINE_TYPE = re.compile(r"(pc-)?q35.*")  # KubeVirt's default for `emulatedMachines` on amd64
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123
INTERFACE_NAME = re.compile(r"[A-Za-z0-9_-]+")
MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
BRIDGE_MAC = "02:00:00:00:00:00"  # of the bridge in the pod: `pkg/network/link/mac.go`


def template_spec(vm: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of the instance to run."""
    spec: dict[str, Any] = vm["spec"]["template"]["spec"]
    return spec


def wants_to_run(vm: dict[str, Any]) -> bool:
    """Whether the object asks for a running machine."""
    strategy = vm["spec"].get("runStrategy")
    return bool(vm["spec"].get("running")) if strategy is None else strategy in STARTING_STRATEGIES


def claims(vm: dict[str, Any]) -> dict[str, str]:
    """Return volume name -> claim name of the volumes that are claims."""
    volumes = template_spec(vm).get("volumes", [])
    return {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if "persistentVolumeClaim" in volume
    }


def macs(vm: dict[str, Any]) -> set[str]:
    """Return the MAC addresses that the object fixes."""
    interfaces = template_spec(vm)["domain"]["devices"].get("interfaces", [])
    return {interface["macAddress"].lower() for interface in interfaces if "macAddress" in interface}


def networks(vm: dict[str, Any]) -> list[str]:
    """Return the `namespace/name` of the NetworkAttachmentDefinitions that the object is on."""
    entries = template_spec(vm).get("networks", [])
    named = [entry["multus"]["networkName"] for entry in entries if "multus" in entry]
    return [name if "/" in name else f"{vm['metadata']['namespace']}/{name}" for name in named]


def problems(vm: dict[str, Any]) -> list[str]:
    """Return what KubeVirt's admission would refuse, one sentence each."""
    spec = vm["spec"]
    found = []
    if ("running" in spec) == ("runStrategy" in spec):
        found.append("one of spec.running and spec.runStrategy must be given")
    if spec.get("runStrategy", "Halted") not in STRATEGIES:
        found.append(f"invalid run strategy {spec['runStrategy']!r}")
    return found + [
        problem
        for rules in (_disk_problems, _nic_problems, _domain_problems, _instance_problems)
        for problem in rules(template_spec(vm))
    ]


def machine(vm: dict[str, Any], path_of: Callable[[str], Path], *, memory_limit_mib: int) -> Machine:
    """Return the machine to start.

    Args:
        vm: An object without `problems`.
        path_of: Claim name -> raw file.
        memory_limit_mib: What the lab grants at most, whatever the object asks for.
    """
    domain = template_spec(vm)["domain"]
    devices = domain["devices"].get("disks", [])
    disks_in_order = any("bootOrder" in disk for disk in devices)
    volumes = claims(vm)
    disks = tuple(
        Disk(
            path=path_of(volumes[disk["name"]]),
            bus=Bus(disk["disk"].get("bus", Bus.SATA)),  # KubeVirt's default
            boot_order=disk.get("bootOrder") if disks_in_order else index,
            serial=disk.get("serial"),
        )
        for index, disk in enumerate(devices, start=1)
        if "disk" in disk and disk["name"] in volumes
    )
    firmware = domain.get("firmware", {})
    efi = firmware.get("bootloader", {}).get("efi")
    return Machine(
        disks=disks,
        memory_mib=min(_memory_bytes(domain) // MEBIBYTE, memory_limit_mib),
        cpus=_cpus(domain),
        uefi=efi is not None,
        secure_boot=efi is not None and efi.get("secureBoot", True),
        uuid=firmware.get("uuid"),
    )


def _memory_bytes(domain: dict[str, Any]) -> int:
    resources = domain.get("resources", {})
    asked = (
        domain.get("memory", {}).get("guest")
        or resources.get("requests", {}).get("memory")
        or resources.get("limits", {}).get("memory")
    )
    return 0 if asked is None else quantity.parse(asked)


def _cpus(domain: dict[str, Any]) -> int:
    cpu = domain.get("cpu", {})
    topology = int(cpu.get("sockets", 1)) * int(cpu.get("cores", 1)) * int(cpu.get("threads", 1))
    if cpu:
        return topology
    return quantity.parse(domain.get("resources", {}).get("limits", {}).get("cpu", 1))


def _disk_problems(spec: dict[str, Any]) -> Iterator[str]:
    disks = spec["domain"]["devices"].get("disks", [])
    names, volumes = [disk["name"] for disk in disks], [volume["name"] for volume in spec.get("volumes", [])]
    yield from (f"disk name {name} is given twice" for name in _repeated(names))
    yield from (f"volume name {name} is given twice" for name in _repeated(volumes))
    yield from (f"disk {name} has no volume" for name in set(names) - set(volumes))
    yield from (f"volume {name} has no disk" for name in set(volumes) - set(names))
    yield from (f"disk name {name} is no DNS label" for name in names if not DNS_LABEL.fullmatch(name))
    for disk in disks:
        bus = disk.get("disk", {}).get("bus", Bus.SATA)
        if bus not in set(Bus):
            yield f"disk {disk['name']} has the unknown bus {bus!r}"
        if disk.get("serial") and not SERIAL.fullmatch(disk["serial"]):
            yield f"disk {disk['name']} has a serial that is not of at most 256 characters [A-Za-z0-9_.+-]"
    devices = [*disks, *spec["domain"]["devices"].get("interfaces", [])]
    orders = [device["bootOrder"] for device in devices if "bootOrder" in device]
    yield from (f"boot order {order} is given twice" for order in _repeated(orders))
    yield from (f"boot order {order} is below 1" for order in orders if order < 1)


def _nic_problems(spec: dict[str, Any]) -> Iterator[str]:
    interfaces = spec["domain"]["devices"].get("interfaces", [])
    networks = {network["name"]: network for network in spec.get("networks", [])}
    names = [interface["name"] for interface in interfaces]
    yield from (f"interface name {name} is given twice" for name in _repeated(names))
    yield from (f"interface {name} has no network" for name in set(names) - set(networks))
    yield from (f"network {name} has no interface" for name in set(networks) - set(names))
    if sum("pod" in network for network in networks.values()) > 1:
        yield "more than one interface is connected to a pod network"
    for name, network in networks.items():
        if ("pod" in network) == ("multus" in network):
            yield f"network {name} must have one network type"
        if "multus" in network and not network["multus"].get("networkName"):
            yield f"network {name} names no network"
    for interface in interfaces:
        yield from _card_problems(interface)
        yield from _binding_problems(interface, networks.get(interface["name"], {}))


def _card_problems(interface: dict[str, Any]) -> Iterator[str]:
    name, model, mac = interface["name"], interface.get("model", "virtio"), interface.get("macAddress", "")
    if not INTERFACE_NAME.fullmatch(name):
        yield f"interface name {name} has other characters than letters, digits, - and _"
    if model not in NIC_MODELS:
        yield f"interface {name} has the unknown model {model!r}"
    if mac and not MAC.fullmatch(mac):
        yield f"interface {name} has the malformed MAC address {mac!r}"


def _binding_problems(interface: dict[str, Any], network: dict[str, Any]) -> Iterator[str]:
    name = interface["name"]
    if "masquerade" in interface and "pod" not in network:
        yield f"interface {name}: masquerade is only for the pod network"
    if "masquerade" in interface and interface.get("macAddress") == BRIDGE_MAC:
        yield f"interface {name} has the MAC address that is reserved for the bridge in the pod"
    if "bridge" in interface and "pod" in network:
        yield f"interface {name}: a bridge on the pod network is not permitted"
    if not {"bridge", "masquerade", "sriov"}.intersection(interface):
        yield f"interface {name} has no binding"


def _domain_problems(spec: dict[str, Any]) -> Iterator[str]:
    domain = spec["domain"]
    memory = _memory_bytes(domain)
    if memory < MEBIBYTE:
        yield "no memory requested"
    limit = domain.get("resources", {}).get("limits", {}).get("memory")
    if limit is not None and memory > quantity.parse(limit):
        yield "the guest's memory exceeds its limit"
    features, firmware = domain.get("features", {}), domain.get("firmware", {})
    if firmware.get("serial") and not SERIAL.fullmatch(firmware["serial"]):
        yield "the firmware's serial must be made up of the characters [A-Za-z0-9_.+-], at most 256"
    efi = firmware.get("bootloader", {}).get("efi")
    if efi is not None and "bios" in firmware["bootloader"]:
        yield "both BIOS and EFI are given"
    system_management = "smm" in features and features["smm"].get("enabled", True)
    if efi is not None and efi.get("secureBoot", True) and not system_management:
        yield "secure boot, which is on unless switched off, needs features.smm"


def _instance_problems(spec: dict[str, Any]) -> Iterator[str]:
    domain, eviction = spec["domain"], spec.get("evictionStrategy", "None")
    if eviction not in EVICTION_STRATEGIES:
        yield f"evictionStrategy is set with the unrecognized option {eviction!r}"
    machine_type = domain.get("machine", {}).get("type") or "q35"
    if not MACHINE_TYPE.fullmatch(machine_type):
        yield f"the machine type {machine_type!r} is not supported"
    for device in domain["devices"].get("inputs", []):
        if device.get("type") != "tablet" or device.get("bus", "usb") not in {"virtio", "usb"}:
            yield f"the input device {device['name']} is no tablet on virtio or USB"
    cpu = domain.get("cpu", {})
    # Harvester sets `maxSockets` to 1 where nobody wants to plug CPUs in later (since v1.6.1,
    # https://github.com/harvester/harvester/pull/9246), and KubeVirt compares.
    if cpu.get("sockets", 1) > cpu.get("maxSockets", 1):
        yield "the number of sockets is greater than the maximum of sockets allowed"
    resources = domain.get("resources", {})
    for name, limit in resources.get("limits", {}).items():
        if name in resources.get("requests", {}) and quantity.parse(limit) < quantity.parse(
            resources["requests"][name]
        ):
            yield f"the request of {name} is greater than its limit"


def _repeated(items: list[Any]) -> list[Any]:
    return [item for item, count in Counter(items).items() if count > 1]
