"""A Kubernetes control plane: etcd, API server and controller manager, without nodes, on loopback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.lab.debian import system_program
from tests.lab.errors import LabError
from tests.lab.kube_api import KubeApi
from tests.lab.pki import Authority, KeyPair
from tests.lab.ports import free_ports
from tests.lab.processes import LabProcess, wait_until
from tests.lab.secrecy import Secrecy
from tests.lab.toolchain import go_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

READY_TIMEOUT_SECONDS = 180  # measured: 3 s on two idle cores
SERVICE_ADDRESSES = "10.96.0.0/16"
PLEASANT_TMPFS = Path("/dev/shm")  # noqa: S108  # etcd writes each change; a RAM disk spares the disk's waits
TMPFS_MINIMUM_BYTES = 1 << 30  # etcd alone sets aside 64 MB for its log

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The lab's own: they ask all the time, and a log of 100 MB begins anew.
        {
            "level": "None",
            "users": ["admin", "system:apiserver", "system:kube-controller-manager"],
        },
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata"},
    ],
}
# Of Go's garbage collector: a fifth of the API server's work, for 260 MiB more of memory.
COLLECT_LESS = {"GOGC": "400"}


class ControlPlane:
    """One cluster of one's own: RBAC on, anonymous requests refused, garbage collection running.

    It starts in about four seconds, several run side by side, and leaves nothing behind: programs and their
    temporary directory end with the block, or with the process.

    Attributes:
        kubeconfig: The administrator's, with a client certificate.
        api: The administrator's access, for lists and patches that need not look like a user's.
        url: Of the API server; the same after `start_api_server`.
        directory: Logs (`*.log`) and everything else that is temporary.
        secrecy: The secrets that are used here, and where none may stand.
    """

    def __init__(self, *, audit: bool = False, api_server_flags: Sequence[str] = ()) -> None:
        self._resources = ExitStack()
        self.secrecy = Secrecy()
        self.directory = Path(
            self._resources.enter_context(tempfile.TemporaryDirectory(prefix="lab-k8s-", dir=_scratch()))
        )
        self._etcd_port, self._etcd_peer_port, self._api_port, self._manager_port = free_ports(4)
        self.url = f"https://127.0.0.1:{self._api_port}"
        self._authority = Authority(self.directory / "pki", "lab-kubernetes")
        self._signer = self._authority.issue("service-accounts", common_name="service-accounts")
        self.kubeconfig = self.kubeconfig_for_user("admin", groups=["system:masters"])
        self.api = KubeApi(
            self.url,
            authority=self._authority.certificate,
            user=KeyPair(self.directory / "pki/user-admin.crt", self.directory / "pki/user-admin.key"),
        )
        self._audit_log = self.directory / "audit.log" if audit else None
        self._etcd = self._process("etcd", self._etcd_command())
        self._api_server = self._process("kube-apiserver", [*self._api_server_command(), *api_server_flags])
        self._manager = self._process("kube-controller-manager", self._manager_command())

    def __enter__(self) -> Self:
        try:
            self._etcd.start()
            self.start_api_server()
            self._manager.start()
            wait_until(
                self._default_account_exists,
                what="the default service account",
                timeout_seconds=READY_TIMEOUT_SECONDS,
                processes=[self._manager, self._api_server, self._etcd],
            )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in (self._manager, self._api_server, self._etcd):
            process.kill()
        self.api.close()
        self._resources.close()

    # -- starting and stopping parts of it -------------------------------------------------------------------

    def start_api_server(self) -> None:
        """Start the API server and wait until it says that it is ready."""
        self._api_server.start()
        wait_until(
            self.api.is_ready,
            what="the API server",
            timeout_seconds=READY_TIMEOUT_SECONDS,
            processes=[self._api_server, self._etcd],
        )

    def stop_api_server(self) -> None:
        """Kill the API server: connections break, nobody is told. What is stored stays."""
        self._api_server.kill()

    def restart_controller_manager(self) -> None:
        """Start the controller manager afresh.

        Its garbage collector looks for new kinds every 30 s only; a fresh one knows those that exist now.
        """
        self._manager.kill()
        self._manager.start()

    # -- using it --------------------------------------------------------------------------------------------

    def kubectl(self, *words: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl, as the administrator unless another kubeconfig is given, and return what it printed.

        Raises:
            LabError: kubectl failed; with what it said.
        """
        done = subprocess.run(
            [go_program("kubectl"), *words],
            input=stdin,
            env={
                **os.environ,
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "KUBECACHEDIR": str(self.directory / "kubectl-cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Create or update objects, as `kubectl apply --server-side` does."""
        objects = list(manifests)
        self.secrecy.remember_manifests(objects)
        items = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def kubeconfig_for_user(self, name: str, *, groups: Sequence[str] = ()) -> Path:
        """Return the path of a kubeconfig with a client certificate for a user that RBAC knows by `name`."""
        pair = self._authority.issue(f"user-{name.replace(':', '-')}", common_name=name, organizations=groups)
        user = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        return self._write_kubeconfig(pair.key.stem, user)

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """Return the path of a kubeconfig with a token of an existing ServiceAccount, as a pod would have."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "24h").strip()
        self.secrecy.remember("ServiceAccount token", token)
        return self._write_kubeconfig(f"service-account-{namespace}-{name}", {"token": token})

    def audit_events(self) -> Iterator[dict[str, Any]]:
        """Yield every request so far (`audit.k8s.io/v1` Event, metadata level); needs `audit=True`.

        Those of the administrator and of the control plane itself are left out.
        """
        if self._audit_log is None:
            raise LabError("this control plane was started without an audit log")
        for line in self._audit_log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # else it is being written
                yield json.loads(line)

    @property
    def authority(self) -> Authority:
        """The cluster's certificate authority, for servers that the API server calls (webhooks)."""
        return self._authority

    def logs(self) -> str:
        """Return the ends of all logs, for the report of a failed test."""
        parts = (self._etcd, self._api_server, self._manager)
        return "\n".join(f"--- {part.log}\n{part.tail()}" for part in parts)

    # -- command lines ---------------------------------------------------------------------------------------

    def _etcd_command(self) -> list[str | Path]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer_port}"
        return [
            system_program("etcd"),
            "--name=lab",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
        ]

    def _api_server_command(self) -> list[str | Path]:
        server = self._authority.issue(
            "api-server",
            common_name="kube-apiserver",
            hosts=["127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1"],
        )
        command: list[str | Path] = [
            go_program("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # loopback may not stand in an Endpoints object
            f"--secure-port={self._api_port}",
            f"--client-ca-file={self._authority.certificate}",
            f"--kubelet-client-certificate={self.directory / 'pki/user-admin.crt'}",
            f"--kubelet-client-key={self.directory / 'pki/user-admin.key'}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._signer.certificate}",
            f"--service-account-signing-key-file={self._signer.key}",
        ]
        if self._audit_log is not None:
            policy = self.directory / "audit-policy.json"
            policy.write_text(json.dumps(AUDIT_POLICY))
            command += [f"--audit-policy-file={policy}", f"--audit-log-path={self._audit_log}"]
        return command

    def _manager_command(self) -> list[str | Path]:
        own = self.kubeconfig_for_user("system:kube-controller-manager")
        return [
            go_program("kube-controller-manager"),
            f"--kubeconfig={own}",
            f"--authentication-kubeconfig={own}",
            f"--authorization-kubeconfig={own}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._manager_port}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._signer.key}",
            f"--root-ca-file={self._authority.certificate}",
            "--leader-elect=false",
            "--kube-api-qps=1000",  # the default of 20 makes its start last five seconds
            "--kube-api-burst=1000",
        ]

    def _process(self, name: str, command: Sequence[str | Path]) -> LabProcess:
        return LabProcess(name, command, log=self.directory / f"{name}.log", env=COLLECT_LESS)

    # -- inner parts -----------------------------------------------------------------------------------------

    def _write_kubeconfig(self, name: str, user: Mapping[str, str]) -> Path:
        cluster = {"server": self.url, "certificate-authority-data": _base64(self._authority.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
            "current-context": "lab",
        }
        path = self.directory / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _default_account_exists(self) -> bool:
        return self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None


def _scratch() -> Path | None:
    try:
        room = os.statvfs(PLEASANT_TMPFS)
    except OSError:
        return None
    return PLEASANT_TMPFS if room.f_bavail * room.f_frsize > TMPFS_MINIMUM_BYTES else None


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
