"""`make test-cluster`: the image as a pod of a real node, installed by helm, imports a VM. Needs root.

Not part of `make test`: building kubelet and the image takes minutes. What it needs is made first; then it
starts itself again in namespaces of its own, so that networks, mounts and processes of the node end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster import scenario
from tests.lab import image, toolchain
from tests.lab.errors import LabError

NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "slave")
INSIDE = "inside"
CGROUPS = Path("/sys/fs/cgroup")
POD_GROUPS = ("kubepods", "k8s.io")
# What kubelet sets, for the whole machine.
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")


def main() -> int:
    """Prepare, run the scenario in namespaces of its own, and clean up; 0 when it went well."""
    if sys.argv[1:2] == [INSIDE]:
        return scenario.main(Path(sys.argv[2]), [Path(word) for word in sys.argv[3:]])
    try:
        images = _prepare()
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    before = {name: Path("/proc/sys", name).read_text() for name in SYSCTLS}
    home = tempfile.mkdtemp(prefix="lab-node-", dir="/var/tmp")  # on a disk: for layers of images
    command = ["unshare", *NAMESPACES, sys.executable, "-m", "tests.cluster", INSIDE, home, *map(str, images)]
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        for name, text in before.items():
            Path("/proc/sys", name).write_text(text)
        for group in _pod_groups():
            for directory in sorted(group.rglob("*/"), key=lambda path: -len(path.parts)):
                directory.rmdir()
            group.rmdir()
        shutil.rmtree(home, ignore_errors=True)


def _prepare() -> list[Path]:
    """Make all that is needed exist, while there is a network, and return the images.

    Raises:
        LabError: it cannot be had, or this machine is not fit for it.
    """
    if os.geteuid() != 0:
        raise LabError("a node needs root")
    if groups := _pod_groups():
        raise LabError(f"another kubelet runs on this machine, or has left {groups[0]}")
    toolchain.prepare([*toolchain.PROGRAMS, *toolchain.NODE_PROGRAMS, "vcsim"])
    return [image.archive(), image.pause_archive()]


def _pod_groups() -> list[Path]:
    return [
        path for pattern in ("", "*/") for name in POD_GROUPS for path in CGROUPS.glob(f"{pattern}{name}")
    ]


if __name__ == "__main__":
    sys.exit(main())
