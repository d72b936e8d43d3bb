"""From what the services tell to `SourceVM`. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from providers.model import Firmware, SourceVM
from providers.openstack import findings, guests, state
from providers.openstack.disks import to_disks
from providers.openstack.nics import to_nics

if TYPE_CHECKING:
    from providers.openstack.facts import ServerFacts


def to_source_vm(facts: ServerFacts) -> SourceVM:
    """Describe the server.

    The guest's SMBIOS UUID is the server's own, and so is the serial number by Nova's default
    (`[libvirt]sysinfo_serial = unique`).
    """
    server, hints = facts.server, facts.hints
    uefi = str(hints.get("hw_firmware_type") or "").lower() == "uefi"
    identifier = str(server["id"])
    vm = SourceVM(
        id=identifier,
        name=str(server.get("name") or identifier),
        cpu_count=int(facts.flavor.get("vcpus") or 0),
        memory_mib=int(facts.flavor.get("ram") or 0),
        disks=to_disks(facts),
        nics=to_nics(facts),
        firmware=Firmware.UEFI if uefi else Firmware.BIOS,
        secure_boot=uefi and _secure_boot(facts),
        tpm=bool(facts.extra_specs.get("hw:tpm_version") or hints.get("hw_tpm_version")),
        uuid=identifier,
        serial=identifier,
        description=_description(facts),
        guest_os=guests.guest_os(hints),
        os_label=guests.os_label(hints),
        clock_offset=guests.clock_offset(hints),
        power_state=state.power_state(server),
        known_networks=tuple(sorted({*facts.networks.values(), *facts.networks})),
    )
    return replace(vm, findings=findings.of_server(vm, facts))


def _secure_boot(facts: ServerFacts) -> bool:
    """Only what is required: `optional` may have been off, and then a guest may not start with it on."""
    return "required" in (
        str(facts.extra_specs.get("os:secure_boot") or "").lower(),
        str(facts.hints.get("os_secure_boot") or "").lower(),
    )


def _description(facts: ServerFacts) -> str | None:
    """Return the server's description (from microversion 2.19); Nova presets it with the name."""
    description = str(facts.server.get("description") or "")
    return description if description and description != facts.server.get("name") else None
