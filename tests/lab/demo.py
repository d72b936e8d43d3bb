"""`make demo`: one import on real parts, from a vCenter to a booted guest, for a person to watch."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from tests.lab import toolchain
from tests.lab.errors import LabError
from tests.lab.scene import Scene, vm_import, vmware_source

if TYPE_CHECKING:
    from types import FrameType

MIB = 1 << 20
GUEST_SIZES = (96 * MIB, 48 * MIB)
SOURCE_BYTES_PER_SECOND = 3 * MIB // 2  # slower than an ESXi host, so that there is something to watch
TIMEOUT_SECONDS = 180
IMPORT = "web"
POLL_SECONDS = 0.3


class DemoFailed(Exception):
    """Surfaces when the import did not end with a booted guest; the message says why."""


def main() -> int:
    """Run the demo; 0 when the guest has booted from what was imported."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, _end)
    console = Console()
    started = time.monotonic()
    try:
        console.rule("[bold]1  What the demo needs")
        toolchain.prepare(toolchain.PROGRAMS)
        toolchain.go_program("vcsim")
        console.print("Programs are built and installed.")
        console.rule("[bold]2  Starting")
        with Scene(
            arguments=["--progress-seconds=1"],
            guest_sizes=GUEST_SIZES,
            tell=lambda what: console.print(f"  {what}"),
        ) as scene:
            _import(scene, console)
            console.print(f"\nDone in {time.monotonic() - started:.0f} s, everything included.")
            if keep:
                _keep(scene, console)
    except (LabError, DemoFailed) as exc:
        console.print(f"[red]The demo failed:[/] {exc}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything was stopped and removed.")
        return 130
    console.print(
        "Nothing of it is left running. Next: [bold]make demo KEEP=1[/] to try things by hand, "
        "[bold]make test[/], docs/architecture.md, manifests/."
    )
    return 0


def _import(scene: Scene, console: Console) -> None:
    console.rule("[bold]3  A virtual machine in vCenter, and its import")
    scene.add_guest_vm("web")
    scene.vcenter.fault("slow", bytes_per_second=SOURCE_BYTES_PER_SECOND, count=-1)
    source = vmware_source(scene.vcenter, "default")
    wanted = vm_import("default", IMPORT, "web")
    console.print("The VM [bold]web[/] runs on the vCenter: 2 CPUs, 256 MiB, two disks, one network card.")
    console.print("kubectl apply: a Secret, a VmwareSource, and this VirtualMachineImport:")
    console.print_json(json.dumps(wanted["spec"]))
    scene.control_plane.apply([*source, wanted])
    status = _watch(scene, console)
    console.print()
    if status.get("phase") != "Succeeded":
        raise DemoFailed(_message(status) or f"nothing came of it within {TIMEOUT_SECONDS} s")
    console.rule("[bold]4  What came of it")
    for words in (
        ("get", "virtualmachineimport.migration", "-o", "wide"),
        ("get", "virtualmachineimages.harvesterhci.io,pvc,virtualmachines.kubevirt.io"),
    ):
        console.print(f"[bold]$ kubectl {' '.join(words)}", soft_wrap=True)
        console.print(scene.control_plane.kubectl(*words), markup=False, highlight=False, soft_wrap=True)
    _check_console(scene, console)


def _watch(scene: Scene, console: Console) -> dict[str, Any]:
    """Show the import until it ends; return its last status."""
    bars = Progress(
        TextColumn("  {task.description:<28}"),
        BarColumn(bar_width=40),
        TextColumn("{task.percentage:>3.0f} %"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    pause = threading.Event()
    shown = ""
    with Live(console=console, refresh_per_second=8) as live:
        while True:
            status = scene.status(IMPORT)
            word = f"{status.get('phase', 'new')}  {status.get('importStatus', '')}"
            if word != shown:
                live.console.print(
                    f"  [cyan]{status.get('phase', 'new'):<12}[/] {status.get('importStatus', '')}"
                )
                shown = word
            for entry in status.get("diskImportStatus") or ():
                name = f"{entry['sourceDisk']} {entry['diskName']}"
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=entry["diskSize"])
                bars.update(tasks[name], completed=entry.get("bytesTransferred", 0))
            live.update(Group(bars, Text(f"  {_message(status)}", style="dim")))
            if status.get("phase") in ("Succeeded", "Failed", "Invalid") or time.monotonic() > deadline:
                return status
            pause.wait(POLL_SECONDS)


def _check_console(scene: Scene, console: Console) -> None:
    """Show what the imported guest has said; it compares its disks with checksums of its own."""
    said = scene.harvester.consoles.get(("default", "web"), "")
    line = next((line.strip() for line in said.splitlines() if scene.guest.marker in line), "")
    console.print("The imported disks were booted in QEMU; the guest's serial console says:")
    if not line:
        raise DemoFailed(f"the guest has not confirmed its disks; its console:\n{said[-2000:]}")
    console.print(f"  [green bold]{line}[/]", highlight=False)
    console.print(
        "  (OK and two checksums: the guest has read every sector of both disks, and all are right)"
    )


def _message(status: dict[str, Any]) -> str:
    entries = status.get("conditions") or ()
    return str(next((entry.get("message", "") for entry in entries if entry["type"] == "Succeeded"), ""))


def _keep(scene: Scene, console: Console) -> None:
    console.rule("[bold]Everything stays up until Ctrl-C")
    scene.vcenter.clear_faults()
    scene.add_guest_vm("web-2")
    second = scene.control_plane.directory / "web-2.json"
    second.write_text(json.dumps(vm_import("default", "web-2", "web-2"), indent=2))
    console.print(f"export KUBECONFIG={scene.control_plane.kubeconfig}", highlight=False, soft_wrap=True)
    console.print(
        f"export PATH={toolchain.go_program('kubectl').parent}:$PATH", highlight=False, soft_wrap=True
    )
    console.print(
        "kubectl describe vmimport web\n"
        f"kubectl apply -f {second}   # imports another VM\n"
        "kubectl get vmimport -o wide -w\n"
        f"curl http://127.0.0.1:{scene.controller.metrics_port}/metrics\n"
        f"tail -f {scene.controller.log}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    threading.Event().wait()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Let SIGTERM end the demo as Ctrl-C does: everything is stopped and removed on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
