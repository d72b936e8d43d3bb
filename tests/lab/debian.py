"""Programs out of Debian packages: installed, or only unpacked into the cache. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tests.lab.cache import cache_dir, locked, run
from tests.lab.errors import LabError
from tests.lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEBIAN_PACKAGES = {
    "etcd": "etcd-server",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
}
NODE_PACKAGES = {  # for `make test-cluster` only: what builds the image, and what runs it as a pod
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "iptables": "iptables",
}
PROMETHEUS, PROMTOOL = ("prometheus", "usr/bin/prometheus"), ("prometheus", "usr/bin/promtool")
UNPACKED_PROGRAMS = (PROMETHEUS, PROMTOOL)
# Other programs may hold dpkg's lock for a while; nothing needs to survive a power failure while it unpacks.
APT_OPTIONS = ("-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-unsafe-io")
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = (
    b"#!/bin/sh\n# of the lab of harvester-vm-import-controller, while it installs packages\nexit 101\n"
)


def debian_programs(packages: Mapping[str, str] | None = None) -> None:
    """Install the Debian packages whose programs are missing; no service of theirs is started.

    Args:
        packages: Program, or absolute path, to the package that brings it; default `DEBIAN_PACKAGES`.

    Raises:
        LabError: they cannot be installed from here; the message is the command to give as root.
    """
    missing = _missing(packages or DEBIAN_PACKAGES)
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(f"programs are missing; as root: {' '.join([*command, *missing])}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with locked("apt"):
        missing = _missing(packages or DEBIAN_PACKAGES)  # another run may have installed some meanwhile
        with Progress(f"installing {', '.join(missing)}") as progress, services_stay_off():
            for step in (["apt-get", "update"], [*command, *APT_OPTIONS, *missing]):
                _follow(step, progress, environment=environment)


def _missing(packages: Mapping[str, str]) -> list[str]:
    return sorted(
        {
            package
            for program, package in packages.items()
            if not (shutil.which(program) or Path(program).exists())
        }
    )


@contextmanager
def services_stay_off() -> Iterator[None]:
    """Forbid the scripts of Debian packages to start services inside the block.

    That is what `policy-rc.d` is for; see invoke-rc.d(8). A policy that was there before is there afterwards.
    """
    before = SERVICE_POLICY.read_bytes() if SERVICE_POLICY.exists() else None
    if before == NO_SERVICES:  # of a run that was killed
        before = None
    mode = SERVICE_POLICY.stat().st_mode if before is not None else 0o755
    SERVICE_POLICY.write_bytes(NO_SERVICES)
    SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            SERVICE_POLICY.unlink()
        else:
            SERVICE_POLICY.write_bytes(before)
            SERVICE_POLICY.chmod(mode)


def unpacked_program(package: str, program: str) -> Path:
    """Return a program out of a Debian package that is unpacked into the cache, not installed.

    For packages whose installation would start a service on this machine. What the program needs beside
    itself must be there.

    Args:
        package: Name of the package.
        program: Path of the program in it, without the first slash.

    Raises:
        LabError: the package cannot be had; the message says what to do.
    """
    home = cache_dir() / "debian" / package
    with locked(package):
        if not (home / program).exists():
            with Progress(f"fetching {package}"), tempfile.TemporaryDirectory(dir=cache_dir()) as temporary:
                Path(temporary).chmod(0o755)  # apt writes as a user of its own, where it can
                try:
                    _download(package, Path(temporary))
                    (archive,) = Path(temporary).glob("*.deb")
                    run(["dpkg-deb", "--extract", archive, f"{temporary}/unpacked"])
                except (LabError, FileNotFoundError) as exc:
                    raise LabError(f"no package {package}; `apt-get update` as root may help: {exc}") from exc
                home.parent.mkdir(exist_ok=True)
                Path(temporary, "unpacked").rename(home)
    return home / program


def _download(package: str, directory: Path) -> None:
    command = ["apt-get", "download", package]
    try:
        run(command, directory=directory)
    except LabError:  # lists that are missing, or older than what they name
        run(["apt-get", "update"])
        run(command, directory=directory)


def system_program(name: str) -> Path:
    """Return a program of the system (or of `KUBEBUILDER_ASSETS`).

    Raises:
        LabError: it is not there; the message says what makes it be.
    """
    if (assets := os.environ.get("KUBEBUILDER_ASSETS")) and (given := Path(assets, name)).is_file():
        return given
    if (found := shutil.which(name)) is None:
        raise LabError(f"{name} is missing: run `make setup`, or install {DEBIAN_PACKAGES[name]}")
    return Path(found)


def _follow(command: Sequence[str], progress: Progress, *, environment: dict[str, str]) -> None:
    """Run a command to its end and show its last line meanwhile.

    Raises:
        LabError: it failed; with the end of what it said.
    """
    said: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        for line in cast("IO[str]", running.stdout):
            said.append(line)
            progress.detail(line.strip()[:60])
    if running.returncode != 0:
        raise LabError(f"{' '.join(command)} failed:\n{''.join(said)}")
