"""One node for the lab's control plane: containerd, kubelet, kube-proxy and scheduler; pods really run.

It must have the namespaces of network, mounts and processes to itself (`python -m tests.cluster` makes them),
since it makes bridges, mounts and NAT rules, and leaves it to the end of those namespaces to take them away.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml

from tests.lab.errors import LabError
from tests.lab.processes import LabProcess, wait_until
from tests.lab.toolchain import go_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.lab.control_plane import ControlPlane

NAME = "node1"
ADDRESS = "10.200.0.1"  # of the node, where pods find what listens on the lab's loopback
PODS = "10.244.0.0/24"
PAUSE = "localhost/pause:1"
READY_SECONDS = 120
# The API server is reached from pods by the Service `kubernetes`, whose endpoint may not be on loopback.
API_SERVER_FLAGS = (
    "--bind-address=0.0.0.0",
    f"--advertise-address={ADDRESS}",
    "--endpoint-reconciler-type=lease",
    "--kubelet-preferred-address-types=InternalIP",  # nobody resolves the node's name
)
_CNI = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
# restrict_oom_score_adj: without CAP_SYS_RESOURCE no score may be lowered, and runc fails on it.
_CONTAINERD = """
version = 2
root = "{home}/containerd"
state = "/run/lab-containerd"
[grpc]
  address = "/run/lab-containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{home}/cni"
"""
_SOCKET = "/run/lab-containerd.sock"
_CTR = ("ctr", "--address", _SOCKET, "--namespace", "k8s.io")


def prepare_network() -> None:
    """Give the empty network namespace a loopback, a bridge with the node's address, and forwarding.

    What pods send to the node's address reaches what listens on its loopback: the lab's parts do.
    """
    for line in (
        "ip link set lo up",
        "ip link add node0 type bridge",
        f"ip addr add {ADDRESS}/24 dev node0",
        "ip link set node0 up",
        f"ip route add 10.96.0.0/16 via {ADDRESS}",
        f"iptables -t nat -A PREROUTING -d {ADDRESS} -p tcp -j DNAT --to-destination 127.0.0.1",
    ):
        _run(line.split())
    for path in ("ipv4/ip_forward", "ipv4/conf/all/route_localnet", "bridge/bridge-nf-call-iptables"):
        Path("/proc/sys/net", path).write_text("1")


class Node:
    """A node that is Ready, inside its block.

    Attributes:
        pod_logs: Directory of the logs of all containers.
    """

    def __init__(self, control_plane: ControlPlane, home: Path, images: Sequence[Path]) -> None:
        """Prepare it; nothing runs before the block.

        Args:
            control_plane: Of which it becomes a node; started with `API_SERVER_FLAGS`.
            home: For everything that is temporary, not on an overlay file system.
            images: Docker archives of the images that pods may use, the pause image among them.
        """
        self._control_plane = control_plane
        self._home = home
        self._images = images
        self._parts = ExitStack()
        self.pod_logs = home / "pod-logs"

    def __enter__(self) -> Self:
        try:
            self._start_containerd()
            self._start_kubelet()
            self._start("kube-scheduler", f"--kubeconfig={self._kubeconfig}", "--leader-elect=false")
            self._start("kube-proxy", f"--config={self._proxy_configuration()}")
            wait_until(
                self._is_ready,
                what="the node",
                timeout_seconds=READY_SECONDS,
                processes=[self._kubelet, self._containerd],
            )
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def logs(self) -> str:
        """Return the ends of the logs of kubelet and containerd, and of all containers."""
        parts = [f"--- {path}\n{_tail(path)}" for path in sorted(self.pod_logs.rglob("*.log"))]
        return "\n".join([self._kubelet.tail(), self._containerd.tail(), *parts])

    @property
    def _kubeconfig(self) -> Path:
        return self._control_plane.kubeconfig

    def _start(self, name: str, *arguments: str) -> LabProcess:
        program = LabProcess(name, [go_program(name), *arguments], log=self._home / f"{name}.log")
        program.start()
        self._parts.callback(program.stop)
        return program

    def _start_containerd(self) -> None:
        configuration = self._home / "containerd.toml"
        configuration.write_text(_CONTAINERD.format(home=self._home, pause=PAUSE))
        (self._home / "cni").mkdir()
        (self._home / "cni/lab.conflist").write_text(json.dumps(_CNI))
        self._containerd = LabProcess(
            "containerd",
            ["containerd", "--config", configuration],
            log=self._home / "containerd.log",
        )
        self._containerd.start()
        self._parts.callback(self._containerd.stop)
        wait_until(
            lambda: subprocess.run([*_CTR, "version"], capture_output=True, check=False).returncode == 0,
            what="containerd",
            timeout_seconds=READY_SECONDS,
            processes=[self._containerd],
        )
        for archive in self._images:
            _run([*_CTR, "images", "import", str(archive)])

    def _start_kubelet(self) -> None:
        (self._home / "resolv.conf").write_text("nameserver 10.96.0.10\n")
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                # The API server's, which asks for logs and the like.
                "x509": {"clientCAFile": str(self._control_plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "oomScoreAdj": 0,
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": str(self._home / "resolv.conf"),
            "podLogsDir": str(self.pod_logs),
            "volumePluginDir": str(self._home / "volume-plugins"),
            "imageGCHighThresholdPercent": 100,  # what was imported is not to be had again
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
        }
        path = self._home / "kubelet.yaml"
        path.write_text(yaml.safe_dump(configuration))
        self._kubelet = self._start(
            "kubelet",
            f"--config={path}",
            f"--kubeconfig={self._kubeconfig}",
            f"--root-dir={self._home / 'kubelet'}",
            f"--cert-dir={self._home / 'kubelet-certificates'}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        )

    def _proxy_configuration(self) -> Path:
        path = self._home / "kube-proxy.yaml"
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(self._kubeconfig)},
            "clusterCIDR": PODS,
            "hostnameOverride": NAME,
            "conntrack": {"maxPerCore": 0, "min": 0},
            "oomScoreAdj": 0,
        }
        path.write_text(yaml.safe_dump(configuration))
        return path

    def _is_ready(self) -> bool:
        node = self._control_plane.api.find(f"/api/v1/nodes/{NAME}") or {}
        conditions = node.get("status", {}).get("conditions", ())
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
