"""A vCenter that behaves like one, as a context manager: `go/vcsim`, started, and its whole control API.

With a person in front: `python -m tests.lab.vcenter`. What the simulator does that govmomi's own does not is
told in `go/vcsim`; nothing here knows SOAP.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from tests.lab.errors import LabError
from tests.lab.processes import LabProcess, wait_until
from tests.lab.toolchain import go_program
from tests.lab.vcenter_control import ControlAPI
from tests.lab.vcenter_model import (
    CDROM,
    NIC,
    NO_OBSTACLES,
    VM,
    Disk,
    FaultKind,
    Obstacles,
    PowerState,
    Server,
    State,
    Tools,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_SECONDS = 180  # one second on an idle machine


class VCenter:
    """A vCenter (or, with `esx`, an ESXi host) on ports of 127.0.0.1 that lives inside a `with`.

    Its ESXi host, which serves the disks, listens on a port of its own with a certificate of its own; both
    certificates are signed by the CA in `ca_pem` until `new_certificate` changes that.

    Attributes:
        username: The only user that may log in.
        password: Made up at every start unless given.
        sdk_url: `https://127.0.0.1:<port>/sdk`.
        ca_pem: Certificate of the authority that signed both servers' certificates.
        fingerprint: SHA-256 of the vCenter's leaf certificate: lower-case hex without colons.
    """

    sdk_url: str
    ca_pem: str
    fingerprint: str
    _control: ControlAPI

    def __init__(
        self,
        *,
        username: str = "administrator@vsphere.local",
        password: str | None = None,
        datacenters: int = 1,
        folders: int = 0,
        machines: int = 0,
        esx: bool = False,
    ) -> None:
        """Prepare one; nothing runs before `start` or `with`.

        Args:
            username: The only user that may log in.
            password: Its password.
            datacenters: How many there are: `DC0`, `DC1`, ... Each has a host and the networks `VM Network`
                and `DC<n>_DVPG0`.
            folders: How many of them, counted from the last, stand in a folder: `/F0/DC0`.
            machines: VMs without bytes that every host starts with.
            esx: Be a standalone ESXi host: one datacenter `ha-datacenter`, leases with `*` as host.
        """
        self.username = username
        self.password = password or secrets.token_urlsafe(12)
        self._options = [
            f"-username={username}",
            f"-datacenters={datacenters}",
            f"-folders={folders}",
            f"-machines={machines}",
            f"-esx={str(esx).lower()}",
        ]
        self._home: Path | None = None
        self._process: LabProcess | None = None

    def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            LabError: it cannot be built, or does not start.
        """
        home = self._home = Path(tempfile.mkdtemp(prefix="lab-vcenter-"))
        ready = home / "ready.json"
        argv = [str(go_program("vcsim")), *self._options, f"-ready-file={ready}"]
        # TMPDIR: the simulator's datastores are directories there, and it may be killed.
        env = {"VCSIM_PASSWORD": self.password, "TMPDIR": str(home)}
        process = self._process = LabProcess("vcsim", argv, log=home / "vcsim.log", env=env)
        try:
            process.start()
            wait_until(ready.exists, what="vcsim", timeout_seconds=START_SECONDS, processes=[process])
        except LabError:
            self.stop()
            raise
        facts = json.loads(ready.read_text())
        self._control = ControlAPI(facts["control_url"], process.tail)
        self.sdk_url, self.ca_pem, self.fingerprint = facts["sdk_url"], facts["ca_pem"], facts["fingerprint"]

    def stop(self) -> None:
        """End it and remove its files. Idempotent."""
        if self._process:
            self._process.stop()
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- inventory

    def add_network(self, name: str, *, switch: str = "", datacenter: str = "") -> None:
        """Make a standard port group, or a distributed one on `switch`, which is made when missing."""
        self._control.call("POST", "/networks", {"name": name, "switch": switch, "datacenter": datacenter})

    def add_vm(
        self,
        name: str,
        *,
        disks: Sequence[Disk] = (),
        nics: Sequence[NIC] = (),
        datacenter: str = "",
        folder: str = "",
        cpus: int = 1,
        cores_per_socket: int = 1,
        memory_mib: int = 256,
        firmware: Literal["bios", "efi"] = "bios",
        secure_boot: bool = False,
        tpm: bool = False,
        encrypted: bool = False,
        guest_id: str = "",
        annotation: str = "",
        uuid: str = "",
        instance_uuid: str = "",
        cdrom: CDROM | None = None,
        boot_order: Sequence[str] = (),
        extra_config: Mapping[str, str] | None = None,
        snapshots: int = 0,
        power_state: PowerState = "off",
        tools: Tools = "running",
        ignores_shutdown: bool = False,
        shutdown_seconds: float = 0.5,
        obstacles: Obstacles = NO_OBSTACLES,
    ) -> VM:
        """Make a VM.

        Args:
            name: Its name; need not be unique, except in its folder.
            disks: In the order in which the VM lists them.
            nics: In the order of the guest.
            datacenter: Name or inventory path; default the first.
            folder: Path below the datacenter's VM folder; made when missing.
            cpus: Virtual CPUs in total.
            cores_per_socket: How they are shown to the guest.
            memory_mib: Memory in MiB.
            firmware: `secure_boot` needs `efi`.
            secure_boot: As the VM's boot options say.
            tpm: Whether it has a virtual TPM.
            encrypted: Whether its disks are encrypted.
            guest_id: vSphere's identifier of the guest system; it must be one.
            annotation: The notes.
            uuid: BIOS UUID; default made up.
            instance_uuid: vCenter's own; default made up.
            cdrom: A drive on the second IDE channel.
            boot_order: `disk:N`, `nic:N` (N: place in the lists above), `cdrom`.
            extra_config: Raw entries of the .vmx.
            snapshots: How many it has, one upon the other.
            power_state: The state it is in when this returns.
            tools: State of VMware Tools while the VM is on.
            ignores_shutdown: The guest takes the request and does nothing.
            shutdown_seconds: How long a guest that obeys takes.
            obstacles: What is the matter with it.

        Raises:
            LabError: the simulator refuses it; with its words.
        """
        body = {
            "name": name,
            "datacenter": datacenter,
            "folder": folder,
            "cpus": cpus,
            "cores_per_socket": cores_per_socket,
            "memory_mib": memory_mib,
            "firmware": firmware,
            "secure_boot": secure_boot,
            "tpm": tpm,
            "encrypted": encrypted,
            "guest_id": guest_id,
            "annotation": annotation,
            "uuid": uuid,
            "instance_uuid": instance_uuid,
            "nics": [nic.to_json() for nic in nics],
            "disks": [disk.to_json() for disk in disks],
            "cdrom": cdrom.to_json() if cdrom else None,
            "boot_order": list(boot_order),
            "extra_config": dict(extra_config or {}),
            "snapshots": snapshots,
            "power_state": power_state,
            "tools": tools,
            "ignores_shutdown": ignores_shutdown,
            "shutdown_seconds": shutdown_seconds,
            "obstacles": obstacles.to_json(),
        }
        return VM.from_json(name, self._control.call("POST", "/vms", body))

    def remove_vm(self, vm: str) -> None:
        """Destroy a VM that is off. `vm` is a name or a MoRef here and below."""
        self._control.call("DELETE", f"/vms/{quote(vm, safe='')}")

    def set_power(self, vm: str, state: PowerState) -> None:
        """Bring a VM into a power state behind the client's back, even one that a lease locks."""
        self._control.call("POST", f"/vms/{quote(vm, safe='')}/power", {"state": state})

    def set_guest(
        self,
        vm: str,
        *,
        tools: Tools | None = None,
        ignores_shutdown: bool | None = None,
        shutdown_seconds: float | None = None,
    ) -> None:
        """Change how a guest behaves; what is not given stays."""
        changes = {"tools": tools, "ignores_shutdown": ignores_shutdown, "shutdown_seconds": shutdown_seconds}
        self._control.call("PATCH", f"/vms/{quote(vm, safe='')}", _given(changes))

    def set_disk_file(self, vm: str, key: int, file: Path | None) -> None:
        """Say which streamOptimized VMDK the export of a disk sends; without one ExportVm is a FileFault."""
        self._control.call("PUT", f"/disks/{quote(vm, safe='')}/{key}", {"file": str(file or "")})

    # --- looking inside

    def state(self) -> State:
        """Return what the vCenter knows now."""
        return State.from_json(self._control.call("GET", "/state"))

    # --- making it difficult

    def settings(
        self,
        *,
        lease_initializing_seconds: float | None = None,
        lease_timeout_seconds: float | None = None,
        nfc_host: Literal["esxi", "star", "vcenter"] | None = None,
        nfc_host_name: str | None = None,
        thumbprint: Literal["sha1", "sha256", "none", "wrong"] | None = None,
        lease_certificate: bool | None = None,
        down: bool | None = None,
    ) -> None:
        """Turn knobs; what is not given stays.

        Args:
            lease_initializing_seconds: How long a new lease is not ready (0.2).
            lease_timeout_seconds: How long a lease lives without progress (300).
            nfc_host: Whose URLs leases give: those of the ESXi host, which has another port and certificate
                (what a vCenter does), with `*` as host (what an ESXi host does), or the vCenter's own.
            nfc_host_name: Host name in those URLs (`localhost`).
            thumbprint: What stands in `sslThumbprint` (`sha1`, of the server that the URL means).
            lease_certificate: Whether the lease carries the certificate too (shown from API 9.0 on).
            down: Whether both servers break every connection.
        """
        changes = {
            "lease_initializing_seconds": lease_initializing_seconds,
            "lease_timeout_seconds": lease_timeout_seconds,
            "nfc_host": nfc_host,
            "nfc_host_name": nfc_host_name,
            "thumbprint": thumbprint,
            "lease_certificate": lease_certificate,
            "down": down,
        }
        self._control.call("PATCH", "/settings", _given(changes))

    def fault(
        self,
        kind: FaultKind,
        *,
        vm: str = "",
        disk: int | str = "",
        after_bytes: int = 0,
        bytes_per_second: int = 0,
        status: int = 503,
        method: str = "",
        fault: str = "",
        detail: Mapping[str, Any] | None = None,
        delay_seconds: float = 0,
        count: int = 1,
    ) -> None:
        """Order something to go wrong. Orders are taken in the order in which they were given.

        Args:
            kind: Bodies of disks: `cut` (connection reset after `after_bytes`), `truncate` (ended there as if
                complete), `stall` (silent from there on, until `clear_faults`), `corrupt` (one byte changed),
                `slow` (`bytes_per_second` from there on, until `clear_faults`), `status` (that HTTP status
                instead). Leases: `lease_error` (never ready; `fault`). SOAP: `method_fault`, `task_fault`
                (power tasks only), `method_delay`; HTTP of the SDK: `sdk_status`, `sdk_cut`.
            vm: Name or MoRef of the VM that is hit; default any.
            disk: Device key or target (`disk-0.vmdk`) that is hit; default any.
            after_bytes: See `kind`.
            bytes_per_second: See `kind`.
            status: See `kind`.
            method: SOAP name of the method: `ExportVm`, `PowerOffVM_Task`.
            fault: Name of a vSphere fault: `NoPermission`.
            detail: Its fields, named as in the vSphere API.
            delay_seconds: Of `method_delay`; of `stall`, after which the body goes on (default: see there).
            count: How often it happens; -1: until `clear_faults`.
        """
        order = {
            "kind": kind,
            "vm": vm,
            "disk": str(disk),
            "after_bytes": after_bytes,
            "bytes_per_second": bytes_per_second,
            "status": status,
            "method": method,
            "fault": fault,
            "delay_seconds": delay_seconds,
            "count": count,
        }
        self._control.call("POST", "/faults", order | ({"detail": dict(detail)} if detail else {}))

    def clear_faults(self) -> None:
        """Forget all orders; bodies that stall go on."""
        self._control.call("DELETE", "/faults")

    def expire_leases(self, vm: str = "") -> None:
        """Let the leases of a VM, or of all, time out now."""
        self._control.call("POST", "/leases/expire", {"vm": vm})

    def expire_sessions(self) -> None:
        """Forget every session, as after 30 minutes of idleness. Leases stay until they time out."""
        self._control.call("POST", "/sessions/expire")

    def cut_connections(self) -> None:
        """Break every open connection of both servers."""
        self._control.call("POST", "/connections/cut")

    def set_credentials(self, username: str, password: str) -> None:
        """Change who may log in; sessions stay."""
        self._control.call("PUT", "/credentials", {"username": username, "password": password})
        self.username, self.password = username, password

    def new_certificate(
        self, server: Server = "vcenter", *, names: Sequence[str] = (), self_signed: bool = False
    ) -> str:
        """Give a server another certificate and break its connections; return the certificate's PEM.

        Args:
            server: The vCenter itself or the ESXi host that serves the disks.
            names: Host names and addresses it is for; default `localhost` and `127.0.0.1`.
            self_signed: Not signed by the lab's CA.
        """
        body = {"server": server, "names": list(names), "self_signed": self_signed}
        answer = self._control.call("POST", "/certificates", body)
        if server == "vcenter":
            self.fingerprint = answer["fingerprint"]
        return str(answer["pem"])


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def main() -> None:
    """Start a vCenter with two VMs, say how to reach it, and end it on Ctrl-C."""
    with VCenter(machines=2) as vcenter:
        print(f"SDK       {vcenter.sdk_url}")
        print(f"user      {vcenter.username}")
        print(f"password  {vcenter.password}")
        print(f"SHA-256   {vcenter.fingerprint}")
        print(f"control   {vcenter._control.url}/state")
        print("CA certificate:", vcenter.ca_pem, "Ctrl-C ends it.", sep="\n", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, ends := {signal.SIGINT, signal.SIGTERM})
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
