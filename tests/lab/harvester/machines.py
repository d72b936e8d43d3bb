"""VirtualMachines: what KubeVirt does with one, except that here the guest must prove that it runs.

A real KubeVirt calls a machine ready as soon as its process lives. Here it becomes ready when its console
says the guest's sentence, so that "ready" means that every byte needed to boot arrived.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.lab.errors import LabError
from tests.lab.harvester import domain
from tests.lab.kube_api import ApiError
from tests.lab.qemu import Guest, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from tests.lab.harvester.volumes import VolumeController
    from tests.lab.kube_api import KubeApi

COLLECTION = "/apis/kubevirt.io/v1/virtualmachines"
MARKER = r"VMIMPORT-GUEST OK[^\r\n]*[\r\n]"  # the whole line: sums may follow
NOTHING_TO_BOOT = "No bootable device"  # SeaBIOS's last word
CONSOLE_TAIL = 400  # characters of a console in a condition's message
POLL_SECONDS = 0.1


@dataclass
class _Run:
    """One machine's being started."""

    stop: threading.Event = field(default_factory=threading.Event)
    future: Future[None] | None = None


@dataclass(frozen=True, slots=True)
class BootPolicy:
    """How machines are started.

    Attributes:
        boot: False: nothing is started; a machine whose volumes are bound is ready.
        parallel: So many at a time.
        timeout_seconds: For the guest to say its sentence, unless the BIOS finds nothing to boot.
        keep_running: Leave it on afterwards, until it is stopped or deleted.
        memory_limit_mib: Granted at most.
    """

    boot: bool = True
    parallel: int = 1
    timeout_seconds: float = 180
    keep_running: bool = False
    memory_limit_mib: int = 1024


class MachineController:
    """Starts machines and reports on them.

    Args:
        api: The administrator's access.
        volumes: Knows the files behind claims.
        policy: How machines are started.
        fault: Told of every exception that nobody handles.

    Attributes:
        consoles: `(namespace, name)` -> what the console has said.
        machines: `(namespace, name)` -> what was started.
    """

    def __init__(
        self,
        api: KubeApi,
        volumes: VolumeController,
        policy: BootPolicy,
        *,
        fault: Callable[[Exception], None],
    ) -> None:
        self._api = api
        self._fault = fault
        self._volumes = volumes
        self._policy = policy
        self._pool = ThreadPoolExecutor(max_workers=policy.parallel, thread_name_prefix="boot")
        self._runs: dict[str, _Run] = {}
        self.consoles: dict[tuple[str, str], str] = {}
        self.machines: dict[tuple[str, str], Machine] = {}

    def sync(self, vm: dict[str, Any], claims: Mapping[str, dict[str, Any]]) -> None:
        """Look at one VirtualMachine and do what is due.

        Args:
            vm: The object.
            claims: `namespace/name` -> PersistentVolumeClaim.
        """
        metadata, uid = vm["metadata"], vm["metadata"]["uid"]
        if "deletionTimestamp" in metadata:
            return
        if not domain.wants_to_run(vm):
            self._end(uid)
            self._report(
                vm, "Stopped", created=False, ready=False, reason="VMINotExists", message="VMI does not exist"
            )
            return
        if uid in self._runs:
            return
        paths: dict[str, Path] = {}
        for claim_name in domain.claims(vm).values():
            claim = claims.get(f"{metadata['namespace']}/{claim_name}")
            if claim is None:
                why = f"claim {claim_name} does not exist"
                self._report(
                    vm,
                    "ErrorPvcNotFound",
                    created=False,
                    ready=False,
                    reason="FailedPvcNotFound",
                    message=why,
                )
                return
            path = self._volumes.disk(claim)
            if path is None or claim.get("status", {}).get("phase") != "Bound":
                why = f"claim {claim_name} is not bound"
                self._report(
                    vm,
                    "WaitingForVolumeBinding",
                    created=False,
                    ready=False,
                    reason="VolumeNotBound",
                    message=why,
                )
                return
            paths[claim_name] = path
        run = self._runs[uid] = _Run()
        machine = domain.machine(vm, paths.__getitem__, memory_limit_mib=self._policy.memory_limit_mib)
        self.machines[metadata["namespace"], metadata["name"]] = machine
        self._report(vm, "Starting", created=True, ready=False, reason="GuestNotRunning", message="starting")
        run.future = self._pool.submit(self._run, vm, machine, run)

    def forget_all_but(self, uids: Collection[str]) -> None:
        """Switch off the machines that were deleted."""
        for uid in [uid for uid in self._runs if uid not in uids]:
            self._end(uid)

    def stop(self) -> None:
        """Switch everything off."""
        for run in self._runs.values():
            run.stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _end(self, uid: str) -> None:
        if run := self._runs.pop(uid, None):
            run.stop.set()
            if run.future is not None and not run.future.cancel():
                run.future.result()

    def _run(self, vm: dict[str, Any], machine: Machine, run: _Run) -> None:
        try:
            if not self._policy.boot:
                self._report_ready(vm)
                return
            with Guest(machine) as guest:
                self._watch(vm, guest, run)
        except LabError as exc:
            self._report_failure(vm, str(exc))
        except Exception as exc:  # noqa: BLE001  # told to the test through `fault`
            self._fault(exc)

    def _watch(self, vm: dict[str, Any], guest: Guest, run: _Run) -> None:
        key = vm["metadata"]["namespace"], vm["metadata"]["name"]
        waited, ready = 0.0, False
        while guest.running and not run.stop.wait(POLL_SECONDS):
            self.consoles[key] = guest.console
            if not ready and re.search(MARKER, guest.console):
                ready = True
                self._report_ready(vm)
            waited += POLL_SECONDS
            if ready and not self._policy.keep_running:
                break
            if not ready and (waited > self._policy.timeout_seconds or NOTHING_TO_BOOT in guest.story):
                break
        if not ready and not run.stop.is_set():
            self._report_failure(
                vm, f"the guest did not say {MARKER!r}; it said: {guest.story[-CONSOLE_TAIL:]}"
            )

    def _report_ready(self, vm: dict[str, Any]) -> None:
        self._report(vm, "Running", created=True, ready=True)

    def _report_failure(self, vm: dict[str, Any], message: str) -> None:
        self._report(
            vm, "CrashLoopBackOff", created=True, ready=False, reason="GuestNotRunning", message=message
        )

    def _report(
        self,
        vm: dict[str, Any],
        shown: str,
        *,
        created: bool,
        ready: bool,
        reason: str = "",
        message: str = "",
    ) -> None:
        metadata, old = vm["metadata"], vm.get("status", {})
        conditions: list[dict[str, Any]] = old.get("conditions", [])
        condition: dict[str, Any] = {
            "type": "Ready",
            "status": str(ready),
            "reason": reason,
            "message": message,
        }
        told = any(condition.items() <= item.items() for item in conditions)
        if told and old.get("printableStatus") == shown:
            return
        moment = dt.datetime.now(dt.UTC)  # noqa: TID251  # KubeVirt stamps by the wall clock
        condition |= {"lastTransitionTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "lastProbeTime": None}
        status = {
            "created": created or None,
            "ready": ready or None,
            "printableStatus": shown,
            "observedGeneration": metadata["generation"],
            "conditions": [condition],
        }
        collection = f"/apis/kubevirt.io/v1/namespaces/{metadata['namespace']}/virtualmachines"
        path = f"{collection}/{metadata['name']}/status"
        try:
            self._api.merge(path, {"status": status})
        except ApiError as exc:
            if exc.status != 404:  # deleted meanwhile
                raise
