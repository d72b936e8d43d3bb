"""What products say of a machine outside of the standard: firmware, Secure Boot, TPM, UUID, addresses. Pure.

VMware writes `vmw:Config` beside the hardware items; VirtualBox a whole `vbox:Machine`; oVirt elements of its
own in `Content`. Each has `Envelope`'s limits behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.model import Firmware
from providers.ova.xmltree import attribute, child, children, kind, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

    from providers.ova.items import Item

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TRUE = ("true", "1", "yes")
_OVIRT_UEFI, _OVIRT_SECURE = ("3", "4"), "4"  # BiosType: Q35_OVMF, Q35_SECURE_BOOT


@dataclass(frozen=True, slots=True)
class Extras:
    """What a vendor's part of the descriptor tells.

    Attributes:
        macs: Addresses of the network cards, in their order.
        guest_os: VirtualBox's word for the guest system.
    """

    firmware: Firmware = Firmware.BIOS
    secure_boot: bool = False
    tpm: bool = False
    uuid: str | None = None
    macs: tuple[str, ...] = ()
    guest_os: str = ""


def extras(system: Element, hardware: Element, rows: Sequence[Item]) -> Extras:
    """Read whatever of the three is there."""
    machine = child(system, "Machine")
    if machine is not None:
        return _virtualbox(machine)
    settings = {
        attribute(entry, "key"): attribute(entry, "value")
        for entry in children(hardware, "Config", "ExtraConfig")
    }
    bios_type = text(system, "BiosType")
    uefi = (
        settings.get("firmware", "").lower() in ("efi", "uefi")
        or bios_type in _OVIRT_UEFI
        or any("efi" in row.settings.get("firmware", "").lower() for row in rows)
    )
    secure = _secure_boot(settings) or bios_type == _OVIRT_SECURE
    return Extras(
        firmware=Firmware.UEFI if uefi else Firmware.BIOS,
        secure_boot=uefi and secure,
        tpm=any("tpm" in row.subtype for row in rows) or text(system, "TpmEnabled").lower() in _TRUE,
        uuid=_uuid(settings.get("uuid", "")),
    )


def _secure_boot(settings: Mapping[str, str]) -> bool:
    names = ("bootOptions.efiSecureBootEnabled", "efiSecureBootEnabled", "uefi.secureBoot.enabled")
    return any(settings.get(name, "").lower() in _TRUE for name in names)


def _virtualbox(machine: Element) -> Extras:
    hardware = child(machine, "Hardware")
    if hardware is None:
        return Extras(uuid=_uuid(attribute(machine, "uuid")), guest_os=attribute(machine, "OSType"))
    nested = {kind(element): element for element in hardware.iter()}
    firmware = nested.get("Firmware")
    uefi = firmware is not None and attribute(firmware, "type").upper().startswith("EFI")
    secure, module = nested.get("SecureBoot"), nested.get("TrustedPlatformModule")
    network = nested.get("Network")
    adapters = sorted(
        (
            adapter
            for adapter in (children(network, "Adapter") if network is not None else ())
            if attribute(adapter, "enabled").lower() in _TRUE
        ),
        key=lambda adapter: attribute(adapter, "slot").zfill(4),
    )
    return Extras(
        firmware=Firmware.UEFI if uefi else Firmware.BIOS,
        secure_boot=uefi and secure is not None and attribute(secure, "enabled").lower() in _TRUE,
        tpm=module is not None and attribute(module, "type").lower() not in ("", "none"),
        uuid=_uuid(attribute(machine, "uuid")),
        macs=tuple(attribute(adapter, "MACAddress") for adapter in adapters),
        guest_os=attribute(machine, "OSType"),
    )


def _uuid(text: str) -> str | None:
    plain = text.strip("{} ").lower()
    return plain if _UUID.fullmatch(plain) else None
