from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.boot_sector import boot_sector
from tests.lab.errors import LabError
from tests.lab.processes import wait_until
from tests.lab.qemu import Bus, Disk, Guest, Machine, boot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def image(path: Path, text: str | None) -> Path:
    path.write_bytes((boot_sector(text) if text else b"").ljust(1 << 20, b"\0"))
    return path


@pytest.mark.parametrize("bus", list(Bus))
def test_a_guest_boots_from_a_disk_on_any_bus(tmp_path: Path, bus: Bus) -> None:
    disk = Disk(image(tmp_path / "disk, with a comma.raw", f"on {bus}"), bus, boot_order=1, serial="X1")
    with Guest(Machine((disk,))) as guest:
        guest.wait_for(f"on {bus}")
        assert "Booting from Hard Disk" in guest.story


def test_the_console_is_the_guest_s_alone(tmp_path: Path) -> None:
    """A BIOS that writes to the same port has put a character into the middle of the guest's line."""
    disk = Disk(image(tmp_path / "disk", "hello"), boot_order=1)
    assert boot(Machine((disk,)), until="hello").strip() == "hello"


def test_the_boot_order_decides_which_disk_is_booted(tmp_path: Path) -> None:
    first = Disk(image(tmp_path / "a", "first"), Bus.SATA, boot_order=2)
    second = Disk(image(tmp_path / "b", "second"), Bus.VIRTIO, boot_order=1)
    assert "second" in boot(Machine((first, second)), until="first|second")


def test_the_end_of_the_firmware_s_attempts_is_told(tmp_path: Path) -> None:
    disk = Disk(image(tmp_path / "empty", None), boot_order=1)
    with Guest(Machine((disk,))) as guest:
        wait_until(lambda: "No bootable device" in guest.story, what="the BIOS's words", timeout_seconds=180)
        with pytest.raises(LabError, match="No bootable device"):
            guest.wait_for("never said", timeout_seconds=0.1)


def test_uefi_does_not_boot_a_disk_that_is_for_bios(tmp_path: Path) -> None:
    disk = Disk(image(tmp_path / "bios", "booted by a BIOS"), Bus.SATA, boot_order=1)
    console = boot(Machine((disk,), uefi=True), until="failed to (load|start) Boot0001|No bootable option")
    assert "booted by a BIOS" not in console


def test_what_a_guest_writes_does_not_reach_its_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(boot_sector("written", overwrites=True).ljust(1 << 20, b"\0"))
    before = path.read_bytes()
    boot(Machine((Disk(path, boot_order=1),)), until="written")
    assert path.read_bytes() == before
