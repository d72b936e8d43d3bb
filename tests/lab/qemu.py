"""Virtual machines that really start: QEMU with disks on the buses that KubeVirt knows, console captured.

Disks are never changed (every write goes to a temporary overlay), there is no network and no display, and the
processor is emulated: a boot sector speaks after about a second.
"""

from __future__ import annotations

import enum
import re
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.debian import system_program
from tests.lab.errors import LabError
from tests.lab.processes import LabProcess, wait_until

if TYPE_CHECKING:
    from types import TracebackType

AHCI_PORTS = 6  # of the controller that is part of QEMU's q35 chipset
BIOS_LOG_PORT = 0x402  # SeaBIOS writes there what it does; a release build of OVMF writes nothing
BIOS_LOG_TAIL = 2000
OVMF = Path("/usr/share/OVMF")


class Bus(enum.StrEnum):
    """How a disk is attached; the words of KubeVirt's `disk.bus`."""

    SATA = "sata"
    SCSI = "scsi"
    USB = "usb"
    VIRTIO = "virtio"


@dataclass(frozen=True, slots=True)
class Disk:
    """One raw image as a disk; `boot_order` 1 is tried first, `None` never."""

    path: Path
    bus: Bus = Bus.VIRTIO
    boot_order: int | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What to start."""

    disks: tuple[Disk, ...]
    memory_mib: int = 128
    cpus: int = 1
    uefi: bool = False
    secure_boot: bool = False
    uuid: str | None = None


class Guest:
    """A running machine, as a context manager; it is killed at the end of the block."""

    def __init__(self, machine: Machine) -> None:
        self._resources = ExitStack()
        self._directory = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="lab-vm-")))
        self._console, self._bios_log = self._directory / "console", self._directory / "bios.log"
        words = command(machine, self._console, self._bios_log)
        self._process = LabProcess("qemu", words, log=self._directory / "qemu.log")

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._resources.close()

    @property
    def running(self) -> bool:
        """Whether it has not switched itself off or crashed."""
        return self._process.running

    @property
    def console(self) -> str:
        """Everything that came out of the first serial port so far: the guest's words, and UEFI's; no BIOS's.

        SeaBIOS would write there too if it were asked (`-nographic`), but it keeps its last characters until
        the next tick of its clock, so that they come out in the middle of what a quick guest writes.
        """
        return _text(self._console)

    @property
    def story(self) -> str:
        """What the BIOS did last, and then the console: what a person wants to read when it does not boot."""
        return f"{_text(self._bios_log)[-BIOS_LOG_TAIL:]}\n{self.console}"

    def wait_for(self, pattern: str, timeout_seconds: float = 180) -> re.Match[str]:
        """Return the first match of the regular expression on the console.

        Raises:
            LabError: the time is over, or QEMU ended, before it appeared; with the console.
        """
        try:
            wait_until(
                lambda: re.search(pattern, self.console) is not None or not self._process.running,
                what=f"{pattern!r} on the console",
                timeout_seconds=timeout_seconds,
            )
        except LabError as exc:
            raise LabError(f"{exc}\n{self.story}") from exc
        if (match := re.search(pattern, self.console)) is None:
            raise LabError(f"QEMU ended without {pattern!r}: {self._process.tail()}\n{self.story}")
        return match


def boot(machine: Machine, *, until: str, timeout_seconds: float = 180) -> str:
    """Start a machine, wait until the console matches, kill it, and return the console.

    Raises:
        LabError: it did not get there.
    """
    with Guest(machine) as guest:
        guest.wait_for(until, timeout_seconds)
        return guest.console


def command(machine: Machine, console: Path, bios_log: Path) -> list[str | Path]:
    """Return the command line of a machine whose first serial port is written to `console`."""
    chipset = "q35,smm=on" if machine.secure_boot else "q35"
    words: list[str | Path] = [
        system_program("qemu-system-x86_64"),
        *("-machine", chipset),
        *("-accel", "tcg"),  # the same everywhere: nested KVM is often there and broken
        *("-cpu", "max", "-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-display", "none", "-vga", "none", "-monitor", "none", "-serial", f"file:{_escaped(console)}"),
        *("-chardev", f"file,id=bios,path={_escaped(bios_log)}"),
        *("-device", f"isa-debugcon,iobase={BIOS_LOG_PORT:#x},chardev=bios"),
        *("-nic", "none", "-no-reboot", "-boot", "strict=on"),
    ]
    if machine.uuid is not None:
        words += ["-uuid", machine.uuid]
    if machine.uefi:
        words += _firmware(machine, console.parent)
    buses = {disk.bus for disk in machine.disks}
    if Bus.SCSI in buses:
        words += ["-device", "virtio-scsi-pci,id=scsi"]
    if Bus.USB in buses:
        words += ["-device", "qemu-xhci,id=usb"]
    if sum(disk.bus is Bus.SATA for disk in machine.disks) > AHCI_PORTS:
        raise LabError(f"more than {AHCI_PORTS} SATA disks")
    sata = 0
    for index, disk in enumerate(machine.disks):
        drive = f"file={_escaped(disk.path)},format=raw,if=none,id=drive{index},snapshot=on"
        words += ["-drive", drive, "-device", _device(disk, f"drive{index}", sata)]
        sata += disk.bus is Bus.SATA
    return words


def _device(disk: Disk, drive: str, sata_port: int) -> str:
    device = {
        Bus.SATA: f"ide-hd,bus=ide.{sata_port}",
        Bus.SCSI: "scsi-hd,bus=scsi.0",
        Bus.USB: "usb-storage,bus=usb.0",
        Bus.VIRTIO: "virtio-blk-pci",
    }[disk.bus]
    boot_index = "" if disk.boot_order is None else f",bootindex={disk.boot_order}"
    serial = "" if disk.serial is None else f",serial={disk.serial.replace(',', ',,')}"
    return f"{device},drive={drive}{boot_index}{serial}"


def _firmware(machine: Machine, directory: Path) -> list[str]:
    flavour = ".ms" if machine.secure_boot else ""  # `.ms`: Microsoft's keys are enrolled
    code, template = OVMF / f"OVMF_CODE_4M{flavour}.fd", OVMF / f"OVMF_VARS_4M{flavour}.fd"
    if not code.exists():
        raise LabError(f"{code} is missing: run `make setup`, or install ovmf")
    variables = directory / "variables.fd"
    shutil.copy(template, variables)
    words = [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={_escaped(variables)}"),
    ]
    if machine.secure_boot:  # only code in system management mode may write the variables
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return words


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _escaped(path: Path) -> str:
    """Write a path as QEMU's option parser wants it: a comma is doubled."""
    return str(path).replace(",", ",,")
