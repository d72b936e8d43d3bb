"""What is shown on the node: from an old add-on's definitions to a VM that boots from what a pod copied."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.handbook import commands
from tests.handbook.commands import NEEDS_A_POD
from tests.lab import chart, crds, image, node, old_controller
from tests.lab.chart import CHART, helm
from tests.lab.control_plane import ControlPlane
from tests.lab.errors import LabError
from tests.lab.guest import build_guest
from tests.lab.harvester import Harvester
from tests.lab.processes import wait_until
from tests.lab.scene import PORT_GROUP, VLAN, import_path, vm_import, vmware_source
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import NIC, Disk

if TYPE_CHECKING:
    from collections.abc import Sequence

PODS = f"/api/v1/namespaces/{chart.NAMESPACE}/pods"
SERVICE = f"/api/v1/namespaces/{chart.NAMESPACE}/services/{chart.RELEASE}"
ADDRESS = f"{chart.RELEASE}.{chart.NAMESPACE}.svc"
SCRATCH_CLASS = "scratch"
LABEL = "app.kubernetes.io/name=harvester-vm-import-controller"
IMPORT_SECONDS = 180
STOP_SECONDS = 25  # what the contract gives the controller after SIGTERM
MIB = 1 << 20


def main(home: Path, images: Sequence[Path]) -> int:
    """Run it in namespaces that are this process's own; 0 when all of it came true."""
    try:
        # Not even the rest of the lab shares these: containers' state, and the name of the Service.
        for command in (
            ["mount", "--make-rshared", "/"],  # kubelet wants to pass mounts on
            ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ):
            subprocess.run(command, check=True)
        node.prepare_network()
        with ExitStack() as parts:
            _Scenario(home, images, parts).run()
    except LabError as exc:
        print(f"FAILED: {exc}", file=sys.stderr)
        return 1
    return 0


class _Scenario:
    def __init__(self, home: Path, images: Sequence[Path], parts: ExitStack) -> None:
        self._home = home
        self._images = images
        self._parts = parts
        self._started = time.monotonic()

    def _tell(self, what: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {what}", flush=True)

    def run(self) -> None:
        enter = self._parts.enter_context
        self._cluster = enter(ControlPlane(api_server_flags=node.API_SERVER_FLAGS))
        self._tell("control plane ready")
        with node.Node(self._cluster, self._home, self._images) as self._node:
            self._tell("node ready (containerd, kubelet, kube-proxy, scheduler)")
            try:
                self._install()
                self._import()
                self._type_what_the_handbook_says()
                self._restart()
            except LabError as exc:
                raise LabError(f"{exc}\n{self._node.logs()}") from None

    # -- installing ------------------------------------------------------------------------------------------

    def _install(self) -> None:
        """Install the chart over the old controller's definitions, with a volume that root made."""
        crds.install(self._cluster, old_controller.definitions())
        volume = self._home / "scratch"
        volume.mkdir()
        self._cluster.apply(
            [
                _volume(volume),
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": chart.NAMESPACE}},
            ]
        )
        values = {
            "image.repository": image.REPOSITORY,
            "image.tag": image.TAG,
            "image.pullPolicy": "Never",
            "pvcClaim.enabled": "true",
            "pvcClaim.size": "1Gi",
            "pvcClaim.storageClassName": SCRATCH_CLASS,
            "progressSeconds": "1",
        }
        sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
        helm(
            *("install", chart.RELEASE, CHART, "--namespace", chart.NAMESPACE, "--wait", "--timeout", "3m"),
            *sets,
            kubeconfig=self._cluster.kubeconfig,
        )
        self._tell("helm install --wait: definitions upgraded by the Job, pod ready")
        status = self._pod()["status"]["containerStatuses"][0]
        if status["restartCount"]:
            raise LabError(f"the pod was started {status['restartCount'] + 1} times")
        self._check_hardening()
        self._name_the_service()

    def _pod(self) -> dict[str, Any]:
        (pod,) = (
            item
            for item in self._cluster.api.items(f"{PODS}?labelSelector={LABEL}")
            if "deletionTimestamp" not in item["metadata"]
        )
        return dict(pod)

    def _check_hardening(self) -> None:
        """Look at the running process itself, from outside: user, capabilities, seccomp, root file system."""
        process = self._process()
        facts = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process}/status").read_text().splitlines()
            if ":\t" in line
        )
        mounts = [line.split() for line in Path(f"/proc/{process}/mounts").read_text().splitlines()]
        options = {fields[1]: fields[3].split(",") for fields in mounts}
        found = {
            "user": facts["Uid"].split()[1],
            "capabilities": {facts[name] for name in ("CapEff", "CapPrm", "CapBnd")},
            "no new privileges": facts["NoNewPrivs"],
            "seccomp": facts["Seccomp"],
            "root": options["/"][0],
            "scratch": options["/scratch"][0],
        }
        wanted = {
            "user": "65532",
            "capabilities": {"0" * 16},
            "no new privileges": "1",
            "seccomp": "2",  # a filter
            "root": "ro",
            "scratch": "rw",
        }
        if found != wanted:
            raise LabError(f"the process is {found}, not {wanted}")
        self._tell(
            "its process: user 65532, no capabilities, seccomp filter, read-only root, writable volume"
        )

    def _process(self) -> int:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            words = path.read_bytes().split(b"\0")
            if b"--scratch=/scratch/images" in words:
                return int(path.parent.name)
        raise LabError("the controller's process is not to be found")

    def _name_the_service(self) -> None:
        """Let the lab's Harvester, which is no pod, resolve the Service's name as a pod would."""
        address = self._cluster.api.get(SERVICE)["spec"]["clusterIP"]
        hosts = self._home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{address} {ADDRESS}\n")
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)

    # -- importing -------------------------------------------------------------------------------------------

    def _import(self) -> None:
        enter = self._parts.enter_context
        directory = Path(enter(tempfile.TemporaryDirectory(prefix="lab-guest-")))
        self._guest = build_guest(directory)
        self._vcenter = enter(VCenter())
        self._vcenter.add_network(PORT_GROUP)
        self._vcenter.new_certificate("esxi", names=[node.ADDRESS])
        self._vcenter.settings(nfc_host_name=node.ADDRESS)
        self._harvester = enter(Harvester(self._cluster))
        source = vmware_source(self._vcenter, "default")
        source[1]["spec"]["endpoint"] = self._vcenter.sdk_url.replace("127.0.0.1", node.ADDRESS)
        self._cluster.apply([*source, crds.network_attachment("default", VLAN)])
        self._add_vm("web", "00:50:56:aa:bb:01")
        self._cluster.apply([vm_import("default", "web", "web")])
        status = self._wait("web", "Succeeded")
        if self._guest.marker not in self._harvester.consoles["default", "web"]:
            raise LabError("the guest has not confirmed its disks")
        size = sum(disk["diskSize"] for disk in status["diskImportStatus"])
        self._tell(
            f"import of 2 disks, {size / MIB:.0f} MiB, done; the guest has booted and checked its disks"
        )

    def _add_vm(self, name: str, mac: str) -> None:
        guest = self._guest
        disks = [Disk(guest.boot_size, guest.boot_vmdk), Disk(guest.data_size, guest.data_vmdk)]
        self._vcenter.add_vm(
            name, disks=disks, nics=[NIC(PORT_GROUP, mac=mac)], cpus=2, memory_mib=256, power_state="on"
        )

    def _wait(self, name: str, *phases: str) -> dict[str, Any]:
        status: dict[str, Any] = {}

        def arrived() -> bool:
            status.clear()
            status.update(self._cluster.api.get(import_path("default", name)).get("status") or {})
            return status.get("phase") in (*phases, "Failed", "Invalid")

        wait_until(arrived, what=f"import {name}", timeout_seconds=IMPORT_SECONDS)
        if status["phase"] not in phases:
            raise LabError(json.dumps(status, indent=1))
        return status

    # -- looking at it ---------------------------------------------------------------------------------------

    def _type_what_the_handbook_says(self) -> None:
        """Run the handbook's commands for somebody in trouble that need a pod; each has something to show."""
        of_pod = [
            command for command in commands.all_commands() if commands.where_else(command) == NEEDS_A_POD
        ]
        (forward,) = (command for command in of_pod if command.startswith("kubectl port-forward "))
        (ask,) = (command for command in of_pod if command.startswith("curl "))
        together = f"{forward} >&2 & trap 'kill $!' EXIT; {ask} --silent --retry 30 --retry-connrefused"
        uid = self._cluster.api.get(import_path("default", "web"))["metadata"]["uid"]
        for command in (word for word in of_pod if word not in (forward, ask)):
            said = commands.run(command, self._cluster.kubeconfig, [("UID-OF-THE-IMPORT", uid)])
            if not said.strip() and " exec " not in command:
                raise LabError(f"{command} has nothing to show")
        said = commands.run(together, self._cluster.kubeconfig)
        if not said.startswith("ok\nleading"):
            raise LabError(f"{ask} shows {said!r}")
        self._wait_for_stacks()
        self._tell(f"{len(of_pod)} commands of the handbook work: pod, log, stacks, readiness")

    def _wait_for_stacks(self) -> None:
        log = f"{PODS}/{self._pod()['metadata']['name']}/log"
        wait_until(
            lambda: "(most recent call first):" in self._cluster.kubectl("get", "--raw", log),
            what="stacks in the log",
            timeout_seconds=30,
        )

    # -- restarting ------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Delete the pod in the middle of an export: it ends in time, and the next finishes the import."""
        self._add_vm("moved", "00:50:56:aa:bb:02")
        self._vcenter.fault("slow", vm="moved", bytes_per_second=MIB // 2, count=-1)
        self._cluster.apply([vm_import("default", "moved", "moved", targetRunStrategy="Halted")])
        self._wait("moved", "Export")
        old = self._pod()["metadata"]
        before = time.monotonic()
        self._cluster.api.delete(f"{PODS}/{old['name']}")
        wait_until(
            lambda: (
                (self._cluster.api.find(f"{PODS}/{old['name']}") or {"metadata": {}})["metadata"].get("uid")
                != old["uid"]
            ),
            what="the end of the pod",
            timeout_seconds=60,
        )
        took = time.monotonic() - before
        if took > STOP_SECONDS:
            raise LabError(f"the pod took {took:.1f} s to end")
        self._vcenter.clear_faults()
        self._wait("moved", "Succeeded")
        self._tell(
            f"pod deleted in the middle of an export ended in {took:.1f} s, the next one finished the import"
        )


def _volume(path: Path) -> dict[str, Any]:
    """Return a volume that belongs to root, as one that the old controller has used."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "scratch"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": SCRATCH_CLASS,
            "local": {
                "path": str(path)
            },  # kubelet gives it to the pod's fsGroup, which it does not for hostPath
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
