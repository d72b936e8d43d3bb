"""The lab for a person: `python -m tests.lab up`, or a part of it: `control-plane`, `openstack`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from tests.lab import toolchain
from tests.lab.control_plane import ControlPlane
from tests.lab.errors import LabError
from tests.lab.openstack.cloud import OpenStackCloud
from tests.lab.scene import Scene, vm_import, vmware_source

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended
GUEST = "web"


def main() -> int:
    """Start what was asked for and leave it running until Ctrl-C or SIGTERM; then nothing of it remains."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    parser.add_argument(
        "what",
        choices=list(PARTS),
        help="up: cluster, vCenter with a VM, Harvester's behaviour and the controller",
    )
    what = parser.parse_args().what
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        PARTS[what]()
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEverything was stopped and removed.")
    return INTERRUPTED


def _control_plane() -> None:
    toolchain.prepare(toolchain.PROGRAMS)
    with ControlPlane() as cluster:
        _show_access(cluster)
        _wait_for_the_end()


def _up() -> None:
    toolchain.prepare([*toolchain.PROGRAMS, "vcsim"])
    with Scene(tell=print) as scene:
        scene.add_guest_vm(GUEST)
        directory = scene.control_plane.directory
        source, wanted = directory / "source.json", directory / "import.json"
        items = vmware_source(scene.vcenter, "default")
        source.touch(mode=0o600)
        source.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2))
        wanted.write_text(json.dumps(vm_import("default", GUEST, GUEST), indent=2))
        print(f"\nThe vCenter {scene.vcenter.sdk_url} has a running VM {GUEST!r}. In another terminal:\n")
        _show_access(scene.control_plane)
        print(f"kubectl apply -f {source}   # the vCenter and its credentials")
        print(f"kubectl apply -f {wanted}   # the import")
        print("kubectl get vmimport,vmimage,pvc,vm -o wide")
        print(f"kubectl describe vmimport {GUEST}")
        print(f"curl http://127.0.0.1:{scene.controller.metrics_port}/metrics")
        print(f"tail -f {scene.controller.log}")
        _wait_for_the_end()


def _openstack() -> None:
    with OpenStackCloud() as cloud, closing(cloud.new_tenant("lab")) as tenant:
        print(f"Logs: {cloud.directory / 'log'}\n\nexport OS_AUTH_TYPE=v3password OS_IDENTITY_API_VERSION=3")
        print(f"export OS_AUTH_URL={cloud.auth_url} OS_REGION_NAME={cloud.region}")
        print(f"export OS_USERNAME={tenant.username} OS_PASSWORD={tenant.password}")
        print(f"export OS_PROJECT_NAME={tenant.project}")
        print(f"export OS_USER_DOMAIN_NAME={tenant.domain} OS_PROJECT_DOMAIN_NAME={tenant.domain}")
        _wait_for_the_end()


def _show_access(cluster: ControlPlane) -> None:
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={toolchain.go_program('kubectl').parent}:$PATH")


def _wait_for_the_end() -> None:
    print("\nCtrl-C ends everything.", flush=True)
    threading.Event().wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


PARTS = {"up": _up, "control-plane": _control_plane, "openstack": _openstack}

if __name__ == "__main__":
    sys.exit(main())
