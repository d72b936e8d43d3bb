"""The controller's container image, built by buildah from the Dockerfile on a Debian base of one's own.

The base is made by debootstrap, so that no registry is needed. It trusts whom this machine trusts, because
package mirrors may stand behind a proxy; that is the lab's base only, and not in the Dockerfile.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.cache import cache_dir, locked, run
from tests.lab.debian import NODE_PACKAGES, debian_programs
from tests.lab.errors import LabError
from tests.lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
BASE = f"localhost/debian:{SUITE}"
PAUSE = "localhost/pause:1"
PAUSE_ENTRYPOINT = '["/usr/bin/sleep", "infinity"]'  # a whole path: the image has no PATH
REPOSITORY, TAG = "localhost/harvester-vm-import-controller", "test"
CONTEXT = ("Dockerfile", "requirements.lock", "pyproject.toml", "controller", "providers", "converters")
MACHINE_TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
BASE_TRUST = "usr/local/share/machine-trust.pem"


def archive() -> Path:
    """Return a docker archive of the controller's image, built if its sources changed since it was.

    Raises:
        LabError: it cannot be built; with the end of what buildah said.
    """
    debian_programs(NODE_PACKAGES)
    path = _home() / f"controller-{_key()}.tar"
    with locked("image"):
        if not path.exists():
            _ensure_base()
            with Progress("building the controller's image"):
                _buildah(
                    *("bud", "--pull-never", "--timestamp", "0", "--build-arg", f"BASE={BASE}"),
                    *("--tag", f"{REPOSITORY}:{TAG}", ROOT),
                )
                _push(f"{REPOSITORY}:{TAG}", path)
    return path


def pause_archive() -> Path:
    """Return a docker archive of an image that only sleeps: what holds a pod's namespaces.

    Raises:
        LabError: it cannot be built.
    """
    path = _home() / f"pause-{hashlib.sha256(PAUSE_ENTRYPOINT.encode()).hexdigest()[:16]}.tar"
    with locked("image"):
        if not path.exists():
            _ensure_base()
            container = _buildah("from", "--pull-never", BASE).strip()
            _buildah("config", "--entrypoint", PAUSE_ENTRYPOINT, container)
            _buildah("commit", "--quiet", "--rm", container, PAUSE)
            _push(PAUSE, path)
    return path


def main() -> int:
    """Build the image and say where it is."""
    try:
        print(archive())
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def _home() -> Path:
    path = cache_dir() / "image"
    path.mkdir(exist_ok=True)
    return path


def _ensure_base() -> None:
    """Make the image of Debian that the others stand on, once."""
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    with Progress("making a Debian base"), tempfile.TemporaryDirectory(dir=_home()) as temporary:
        root = Path(temporary, "root")
        run(["debootstrap", "--variant=minbase", SUITE, str(root), MIRROR])
        for cached in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
            cached.unlink()
        if MACHINE_TRUST.exists():
            shutil.copy(MACHINE_TRUST, root / BASE_TRUST)
            (root / "etc/pip.conf").write_text(f"[global]\ncert = /{BASE_TRUST}\n")
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, root, "/")
        _buildah("commit", "--quiet", "--rm", container, BASE)


def _push(name: str, path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _buildah("push", "--quiet", name, f"docker-archive:{partial}:{name}")
    partial.replace(path)


def _key() -> str:
    """Hash what the image is made of."""
    digest = hashlib.sha256()
    for path in sorted(_context()):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _context() -> Iterator[Path]:
    for name in CONTEXT:
        path = ROOT / name
        if path.is_dir():
            yield from path.rglob("*.py")
        else:
            yield path


def _buildah(*words: str | Path) -> str:
    home = _home()
    places = ["--root", str(home / "storage"), "--runroot", str(home / "run"), "--storage-driver", "overlay"]
    # chroot: no runtime is needed, and none of the kernel's namespaces but that of mounts.
    return run(["buildah", *places, *words], environment={**os.environ, "BUILDAH_ISOLATION": "chroot"})


if __name__ == "__main__":
    sys.exit(main())
