"""Servers as the services describe them: shortened answers of a real cloud (Zed), varied."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from providers.openstack.facts import ServerFacts

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER = "b6c9423d-4b59-41a1-a98d-ca4f52a533e9"
ROOT = "5498aa33-13c4-48a7-abd5-5c136e42a38d"
DATA = "7af84738-45d8-4855-8605-3aa1856417f8"
TENANT, PUBLIC = "16adf337-52da-43e8-92fb-4cd220421166", "14ce56f2-a952-474d-b114-e87c7495edc1"
FLAVOR = {"vcpus": 2, "ram": 2048, "disk": 20, "ephemeral": 0, "swap": 0, "original_name": "m1.small"}
IMAGE = {"id": "7ff4979a-c143-45d3-8609-5e3794c33387", "disk_format": "qcow2", "virtual_size": 3 << 30}
ENOUGH = {name: {"limit": 1000, "in_use": 3, "reserved": 0} for name in ("snapshots", "volumes", "gigabytes")}


def server(**fields: Any) -> dict[str, Any]:
    return {
        "id": SERVER,
        "name": "vm1",
        "status": "ACTIVE",
        "image": "",
        "addresses": {"tenant": [address(1), address(1, version=6)]},
        "OS-EXT-STS:task_state": None,
        "OS-EXT-STS:power_state": 1,
        "locked": False,
        "description": "vm1",
        **fields,
    }


def address(card: int, version: int = 4) -> dict[str, Any]:
    return {"version": version, "addr": f"10.0.0.{card}", "OS-EXT-IPS-MAC:mac_addr": mac(card)}


def mac(card: int) -> str:
    return f"fa:16:3e:00:00:{card:02x}"


def port(card: int, network: str = TENANT, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"00000000-0000-4000-8000-{card:012}",
        "network_id": network,
        "mac_address": mac(card).upper(),
        "created_at": "2026-11-27T11:00:00Z",
        "binding:vnic_type": "normal",
        **fields,
    }


def attachment(volume: str, device: str | None) -> dict[str, Any]:
    return {"id": volume, "volumeId": volume, "serverId": SERVER, "device": device}


def volume(identifier: str, size: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "name": "",
        "size": size,
        "status": "in-use",
        "bootable": "false",
        "encrypted": False,
        "multiattach": False,
        "volume_type": "__DEFAULT__",
        "attachments": [{"server_id": SERVER}],
        **fields,
    }


def facts(**fields: Any) -> ServerFacts:
    root = volume(ROOT, 5, name="root", bootable="true", volume_image_metadata={"os_distro": "debian"})
    known: dict[str, Any] = {
        "server": server(),
        "flavor": FLAVOR,
        "attachments": (attachment(ROOT, "/dev/vda"),),
        "volumes": {ROOT: root},
        "ports": (port(1),),
        "networks": {TENANT: "tenant", PUBLIC: "public"},
        "quota": ENOUGH,
    }
    return ServerFacts(**copy.deepcopy({**known, **fields}))


def booted_from_a_volume() -> ServerFacts:
    return facts()


def booted_from_an_image_with_two_volumes() -> ServerFacts:
    return facts(
        server=server(
            image={"id": IMAGE["id"]},
            **{"OS-EXT-SRV-ATTR:root_device_name": "/dev/vda", "description": "the shop"},
        ),
        image={**IMAGE, "os_distro": "ubuntu", "os_version": "22.04", "hw_vif_model": "e1000"},
        attachments=(attachment(DATA, "/dev/vdaa"), attachment(ROOT, "/dev/vdb")),
        volumes={ROOT: volume(ROOT, 5), DATA: volume(DATA, 7, name="data")},
    )


def as_large_as_its_image() -> ServerFacts:
    return facts(server=server(image={"id": "x"}), flavor={**FLAVOR, "disk": 0}, image=IMAGE, attachments=())


def root_of_unknown_size() -> ServerFacts:
    return facts(server=server(image={"id": "x"}), flavor={**FLAVOR, "disk": 0}, attachments=())


def uefi_with_everything() -> ServerFacts:
    hints = {
        "hw_firmware_type": "uefi",
        "os_secure_boot": "required",
        "hw_machine_type": "pc-i440fx-6.2",
        "hw_disk_bus": "sata",
        "hw_vif_model": "virtio",
        "hw_tpm_version": "2.0",
        "hw_architecture": "aarch64",
        "os_type": "windows",
    }
    root = volume(ROOT, 5, bootable="true", volume_image_metadata=hints)
    return facts(
        volumes={ROOT: root},
        flavor={**FLAVOR, "ephemeral": 10, "swap": 512, "extra_specs": {"os:secure_boot": "required"}},
    )


def secure_boot_only_if_possible() -> ServerFacts:
    hints = {"hw_firmware_type": "uefi", "os_secure_boot": "optional", "hw_machine_type": "q35"}
    return facts(volumes={ROOT: volume(ROOT, 5, bootable="true", volume_image_metadata=hints)})


def many_cards() -> ServerFacts:
    """Attached in the order 3, 1, 2; the fourth without an address, the fifth on a network not to be seen."""
    return facts(
        server=server(
            addresses={
                "public": [address(3)],
                "tenant": [address(1), address(1, 6), address(2)],
                "x": [address(5)],
            }
        ),
        ports=(
            port(1),
            port(2, **{"binding:vnic_type": "direct", "name": "fast"}),
            port(3, PUBLIC),
            port(4, created_at="2026-11-27T12:00:00Z"),
            port(5, "e1f0ae0d-0000-4000-8000-000000000000"),
        ),
    )


def without_a_card() -> ServerFacts:
    return facts(server=server(addresses={}), ports=())


def on_every_kind_of_disk() -> ServerFacts:
    names = ("plain", "encrypted", "shared", "elsewhere", "in-error", "unseen")
    ids = {name: f"00000000-0000-4000-9000-{n:012}" for n, name in enumerate(names)}
    return facts(
        attachments=tuple(
            attachment(identifier, f"/dev/sd{'abcdef'[n]}") for n, identifier in enumerate(ids.values())
        ),
        volumes={
            ids["plain"]: volume(ids["plain"], 1, bootable="true"),
            ids["encrypted"]: volume(ids["encrypted"], 2, encrypted=True),
            ids["shared"]: volume(ids["shared"], 3, multiattach=True),
            ids["elsewhere"]: volume(ids["elsewhere"], 4, attachments=[{}, {}]),
            ids["in-error"]: volume(ids["in-error"], 5, status="error"),
            ids["unseen"]: {},
        },
    )


def flavor_that_was_deleted() -> ServerFacts:
    return facts(server=server(flavor={"id": "42"}), flavor={})


def flavor_that_is_not_embedded() -> ServerFacts:
    flavor = {"id": "2", "vcpus": 4, "ram": 512, "disk": 1, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 3}
    return facts(flavor=flavor)


def without_room() -> ServerFacts:
    quota = {
        "snapshots": {"limit": 0, "in_use": 0, "reserved": 0},
        "volumes": {"limit": 10, "in_use": 9, "reserved": 1},
        "gigabytes": {"limit": 20, "in_use": 12, "reserved": 0},
        "gigabytes___DEFAULT__": {"limit": -1, "in_use": 0, "reserved": 0},
        "volumes___DEFAULT__": {"limit": 0, "in_use": 0, "reserved": 0},
        "per_volume_gigabytes": {"limit": 4, "in_use": 0, "reserved": 0},
    }
    images = {"image_size_total": {"limit": 1000, "usage": 10}, "image_count_total": {"limit": 5, "usage": 2}}
    return facts(quota=quota, image_quota=images)


def _in_status(status: str, **fields: Any) -> Callable[[], ServerFacts]:
    return lambda: facts(server=server(status=status, **fields))


SERVERS: dict[str, Callable[[], ServerFacts]] = {
    **{
        make.__name__: make
        for make in (
            booted_from_a_volume,
            booted_from_an_image_with_two_volumes,
            as_large_as_its_image,
            root_of_unknown_size,
            uefi_with_everything,
            secure_boot_only_if_possible,
            many_cards,
            without_a_card,
            on_every_kind_of_disk,
            flavor_that_was_deleted,
            flavor_that_is_not_embedded,
            without_room,
        )
    },
    "stopped_and_locked": _in_status("SHUTOFF", locked=True),
    "running_and_locked": _in_status("ACTIVE", locked=True, locked_reason="audit"),
    "paused": _in_status("PAUSED"),
    "suspended": _in_status("SUSPENDED"),
    "shelved": _in_status("SHELVED_OFFLOADED"),
    "rescued": _in_status("RESCUE"),
    "resized_without_confirmation": _in_status("VERIFY_RESIZE"),
    "in_error_and_off": _in_status(
        "ERROR", fault={"message": "No valid host was found"}, **{"OS-EXT-STS:power_state": 4}
    ),
    "of_unknown_power": _in_status("UNKNOWN", **{"OS-EXT-STS:power_state": 0}),
    "deleted": _in_status("SOFT_DELETED"),
}
