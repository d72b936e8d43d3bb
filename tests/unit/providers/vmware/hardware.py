"""vSphere's hardware, put together by hand: the objects that pyVmomi makes of a server's answer."""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

device = vim.vm.device

CONTROLLERS: dict[str, Any] = {
    "pvscsi": device.ParaVirtualSCSIController,
    "lsilogic": device.VirtualLsiLogicController,
    "lsisas": device.VirtualLsiLogicSASController,
    "buslogic": device.VirtualBusLogicController,
    "ide": device.VirtualIDEController,
    "ahci": device.VirtualAHCIController,
    "nvme": device.VirtualNVMEController,
    "usb": device.VirtualUSBXHCIController,
}
NICS: dict[str, Any] = {
    "e1000": device.VirtualE1000,
    "e1000e": device.VirtualE1000e,
    "pcnet32": device.VirtualPCNet32,
    "vmxnet": device.VirtualVmxnet,
    "vmxnet2": device.VirtualVmxnet2,
    "vmxnet3": device.VirtualVmxnet3,
    "sriov": device.VirtualSriovEthernetCard,
    "unknown": device.VirtualEthernetCard,
}


def controller(kind: str, key: int, bus: int = 0, **more: Any) -> Any:
    return CONTROLLERS[kind](key=key, busNumber=bus, **more)


def flat(file: str, **more: Any) -> Any:
    return device.VirtualDisk.FlatVer2BackingInfo(
        fileName=file, diskMode=more.pop("mode", "persistent"), **more
    )


def rdm(file: str, mode: str = "physicalMode") -> Any:
    return device.VirtualDisk.RawDiskMappingVer1BackingInfo(fileName=file, compatibilityMode=mode)


def disk(key: int, on: int, unit: int, backing: Any, size: int = 1 << 30) -> Any:
    return device.VirtualDisk(
        key=key,
        controllerKey=on,
        unitNumber=unit,
        backing=backing,
        capacityInBytes=size,
        capacityInKB=size // 1024,
    )


def nic(kind: str, key: int, backing: Any, mac: str = "00:50:56:AA:BB:01") -> Any:
    return NICS[kind](key=key, backing=backing, macAddress=mac)


def standard(name: str) -> Any:
    return device.VirtualEthernetCard.NetworkBackingInfo(deviceName=name)


def distributed(key: str) -> Any:
    port = vim.dvs.PortConnection(portgroupKey=key, switchUuid="50 1e")
    return device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)


def opaque(identifier: str) -> Any:
    return device.VirtualEthernetCard.OpaqueNetworkBackingInfo(
        opaqueNetworkId=identifier, opaqueNetworkType="nsx.LogicalSwitch"
    )


def boot(*entries: Any, secure: bool = False) -> Any:
    return vim.vm.BootOptions(bootOrder=list(entries), efiSecureBootEnabled=secure)


def boot_disk(key: int) -> Any:
    return vim.vm.BootOptions.BootableDiskDevice(deviceKey=key)


def boot_nic(key: int) -> Any:
    return vim.vm.BootOptions.BootableEthernetDevice(deviceKey=key)


def boot_cdrom() -> Any:
    return vim.vm.BootOptions.BootableCdromDevice()


def properties(devices: list[Any], **more: Any) -> dict[str, Any]:
    """Return what a server says of a VM that is off; `a__b` in `more` stands for the key `a.b`."""
    return {
        "name": "web",
        "config.firmware": "bios",
        "config.guestId": "ubuntu64Guest",
        "config.hardware.device": devices,
        "config.hardware.memoryMB": 2048,
        "config.hardware.numCPU": 2,
        "config.template": False,
        "config.uuid": "421F9A00-dead-beef-0102-030405060708",
        "guest.toolsRunningStatus": "guestToolsNotRunning",
        "runtime.connectionState": vim.VirtualMachine.ConnectionState.connected,
        "runtime.consolidationNeeded": False,
        "runtime.powerState": vim.VirtualMachine.PowerState.poweredOff,
    } | {key.replace("__", "."): value for key, value in more.items()}
