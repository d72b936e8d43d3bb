"""One pass over one VirtualMachineImport: live read, one step, one write of status, its Events."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from controller import kinds
from controller.api import conditions, names
from controller.api.phase import TERMINAL, Phase
from controller.api.types import VirtualMachineImport
from controller.config import Settings
from controller.connections import Connections
from controller.errors import Verdict, classify
from controller.imageserver import ImageServer
from controller.kube.client import KubeClient
from controller.kube.errors import Conflict, NotFound
from controller.kube.events import EventRecorder
from controller.kube.resource import Resource
from controller.metrics import Metrics
from controller.phases import cleanup
from controller.phases.base import Advance, Changes, Context, Outcome, Wait
from controller.phases.table import STEPS
from controller.reconcile import status as status_rules
from controller.runtime.clock import Clock
from controller.runtime.listwatch import split_key
from controller.runtime.workers import Result
from controller.scratch import Scratch
from controller.targets import TargetNames
from controller.transfers import TransferPool
from providers.errors import NotYet

log = structlog.get_logger(__name__)

_RESTART_POLL_SECONDS = 1.0
_NOT_WATCHED_DISK_FIELDS: Final = ("bytesTransferred", "progress")


@dataclass(slots=True)
class _Held:
    """What is remembered of an import between passes; none of it matters after a restart."""

    vmimport: VirtualMachineImport  # as the last pass has read it
    reported: float = float("-inf")  # when progress was written last, monotonic


class ImportReconciler:
    """Brings imports forward by one step a pass. Safe for many threads; keeps only the pace of progress.

    The finalizer stands before anything is touched: it is put on when Preflight has passed. Until then an
    import can be deleted like any object.

    Raises from `reconcile`: what is to be retried with back-off, after it was written into status.
    """

    def __init__(
        self,
        *,
        kube: KubeClient,
        connections: Connections,
        scratch: Scratch,
        transfers: TransferPool,
        images: ImageServer,
        targets: TargetNames,
        events: EventRecorder,
        clock: Clock,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._kube = kube
        self._connections = connections
        self._scratch = scratch
        self._transfers = transfers
        self._images = images
        self._targets = targets
        self._events = events
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def reconcile(self, key: str) -> Result:
        """Do one pass over the import `namespace/name`."""
        namespace, name = split_key(key)
        try:
            vmimport = VirtualMachineImport.from_object(self._kube.get(kinds.IMPORTS, name, namespace))
        except NotFound:
            return Result() if self._vanished(key) else Result(_RESTART_POLL_SECONDS)
        if not self._hold(vmimport):
            return Result(_RESTART_POLL_SECONDS)
        bound: FilteringBoundLogger = log
        structlog.contextvars.bind_contextvars(  # for all lines of this pass, the worker's own too
            namespace=namespace,
            name=name,
            uid=vmimport.uid,
            phase=status_rules.stored_phase(vmimport).value,
        )
        if vmimport.deleting:
            return self._delete(vmimport, bound)
        untouched = status_rules.stored_phase(vmimport) in (Phase.PREFLIGHT, Phase.INVALID)
        if names.OLD_FINALIZER in vmimport.finalizers or not (untouched or _is_marked(vmimport)):
            vmimport = self._take_over(vmimport)
        taken_over = status_rules.adopted(vmimport, self._clock.now())
        if taken_over is not None:
            return self._adopt(vmimport, taken_over, bound)
        if status_rules.wants_restart(vmimport):
            return self._restart(vmimport, bound)
        return self._step(vmimport, bound)

    def _context(self, vmimport: VirtualMachineImport, bound: FilteringBoundLogger) -> Context:
        return Context(
            vmimport=vmimport,
            kube=self._kube,
            connections=self._connections,
            scratch=self._scratch,
            transfers=self._transfers,
            images=self._images,
            targets=self._targets,
            clock=self._clock,
            settings=self._settings,
            log=bound,
        )

    def _step(self, vmimport: VirtualMachineImport, bound: FilteringBoundLogger) -> Result:
        phase = status_rules.stored_phase(vmimport)
        row = STEPS.get(phase)
        if row is None:
            self._forget(vmimport)
            return Result()
        try:
            outcome = row.run(self._context(vmimport, bound))
        except Conflict:
            raise  # somebody wrote in between; the next pass reads anew
        except Exception as exc:  # noqa: BLE001  # whatever it is, it gets a verdict and is shown
            return self._failed(vmimport, exc, bound)
        if isinstance(outcome, Advance) and not _is_marked(vmimport):
            vmimport = self._take_over(vmimport)
        self._record(vmimport, outcome, bound)
        if isinstance(outcome, Advance):
            if outcome.to is Phase.SUCCEEDED:
                self._forget(vmimport)
            return Result(0)
        if isinstance(outcome, Wait):
            for reason in outcome.retries:
                self._metrics.retries.labels(reason).inc()
            return Result(outcome.after)
        return Result()

    def _failed(self, vmimport: VirtualMachineImport, exc: Exception, bound: FilteringBoundLogger) -> Result:
        verdict = classify(exc)
        if not verdict.expected:
            bound.error("step failed unexpectedly", exc_info=exc)
        if vmimport.phase is Phase.FAILED:
            # Cleaning up is not given up: what refuses today (an image in use) may let go tomorrow.
            verdict = replace(verdict, retryable=True)
        self._record(vmimport, verdict, bound)
        if not verdict.retryable:
            self._metrics.failures.labels(verdict.reason).inc()
            return Result(0)
        self._metrics.retries.labels(verdict.reason).inc()
        if self._connections.refused(vmimport.uid, exc):
            return Result(0)
        if verdict.retry_after is not None:
            return Result(verdict.retry_after)
        raise exc

    def _adopt(
        self, vmimport: VirtualMachineImport, status: Mapping[str, Any], bound: FilteringBoundLogger
    ) -> Result:
        """Give an object of the old controller a status of ours.

        That controller lets go of a VM's images only when it has seen the VM run; until then they would be
        deleted with the import.
        """
        if status["phase"] in (Phase.SUCCEEDED, Phase.WAIT_FOR_VM):
            cleanup.release_disks(self._context(vmimport, bound))
        self._write(vmimport, status)
        message = (conditions.find(status["conditions"], conditions.SUCCEEDED) or {}).get("message", "")
        self._events.event(dict(vmimport.raw), "Normal", "Adopted", message)
        bound.info("import adopted", to=status["phase"], status=status["importStatus"])
        return Result(0)

    def _take_over(self, vmimport: VirtualMachineImport) -> VirtualMachineImport:
        """Put our finalizer on before anything is touched, and take the old controller's off."""
        obj: dict[str, Any] = copy.deepcopy(dict(vmimport.raw))
        kept = [entry for entry in vmimport.finalizers if entry not in (names.OLD_FINALIZER, names.FINALIZER)]
        obj["metadata"]["finalizers"] = [*kept, names.FINALIZER]
        return VirtualMachineImport.from_object(_put(self._kube.replace, obj))

    def _delete(self, vmimport: VirtualMachineImport, bound: FilteringBoundLogger) -> Result:
        """Undo what is unfinished, then let the object go; until then it stays and says why."""
        ours = {names.FINALIZER, names.OLD_FINALIZER}
        if not ours & set(vmimport.finalizers):
            return Result()  # it is gone when whoever else holds it lets go
        try:
            context = self._context(vmimport, bound)
            if not _is_over(vmimport) and cleanup.undo(context, restore_power=True) is None:
                return Result(_RESTART_POLL_SECONDS)
        except Conflict:
            raise
        except Exception as exc:
            verdict = classify(exc)
            if not verdict.expected:
                bound.error("cleanup failed unexpectedly", exc_info=exc)
            message = f"deletion waits: {verdict.message}"
            self._record(vmimport, Verdict(verdict.reason, message, retryable=True), bound)
            if self._connections.refused(vmimport.uid, exc) or verdict.retry_after is None:
                raise
            return Result(verdict.retry_after)
        self._transfers.discard(vmimport.uid)
        self._forget(vmimport)
        obj: dict[str, Any] = copy.deepcopy(dict(vmimport.raw))
        obj["metadata"]["finalizers"] = [entry for entry in vmimport.finalizers if entry not in ours]
        try:
            self._kube.replace(kinds.IMPORTS, obj)
        except NotFound:
            return Result()
        bound.info("import deleted")
        return Result()

    def _hold(self, vmimport: VirtualMachineImport) -> bool:
        """Remember the import; `False`: another one of that name has vanished and is still being undone."""
        with self._lock:
            held = self._held.get(vmimport.key)
            if held is None or held.vmimport.uid == vmimport.uid:
                reported = held.reported if held else float("-inf")
                self._held[vmimport.key] = _Held(vmimport, reported)
                return True
        try:
            return self._vanished(vmimport.key) and self._hold(vmimport)
        except Exception as exc:
            verdict = classify(exc)
            message = f"an import of this name that vanished is not undone yet: {verdict.message}"
            self._record(vmimport, replace(verdict, message=message, retryable=True), log)
            raise

    def _vanished(self, key: str) -> bool:
        """Undo an import that is gone and did not wait for us (its finalizer was taken off by force).

        Returns:
            Whether nothing is left to be undone.
        """
        with self._lock:
            held = self._held.get(key)
        if held is None:
            return True
        vmimport = held.vmimport
        bound = log.bind(namespace=vmimport.namespace, name=vmimport.name, uid=vmimport.uid)
        context = self._context(vmimport, bound)
        if not _is_over(vmimport) and cleanup.undo(context, restore_power=True) is None:
            return False
        self._forget(vmimport)
        bound.info("import vanished")
        return True

    def _forget(self, vmimport: VirtualMachineImport) -> None:
        """Let go of what is kept for an import that has come to its end."""
        self._connections.release(vmimport.uid)
        self._targets.release(vmimport.uid)
        with self._lock:
            self._held.pop(vmimport.key, None)

    def _restart(self, vmimport: VirtualMachineImport, bound: FilteringBoundLogger) -> Result:
        """Drop what the last run has left unfinished, and begin again at Preflight."""
        try:
            # A run that ended in Succeeded has nothing unfinished; its VM and images belong to the user.
            ended = vmimport.phase in (Phase.SUCCEEDED, Phase.INVALID)
            context = self._context(vmimport, bound)
            has_vm = vmimport.phase is Phase.SUCCEEDED or cleanup.has_vm(context)
            if not ended and cleanup.undo(context, restore_power=False) is None:
                return Result(_RESTART_POLL_SECONDS)
        except Conflict:
            raise
        except Exception as exc:  # noqa: BLE001  # as above
            return self._failed_restart(vmimport, exc, bound)
        self._targets.release(vmimport.uid)
        self._write(vmimport, status_rules.restarted(vmimport, has_vm=has_vm))
        self._events.event(dict(vmimport.raw), "Normal", "Restarted", "the import starts again")
        bound.info("import restarted")
        return Result(0)

    def _failed_restart(
        self, vmimport: VirtualMachineImport, exc: Exception, bound: FilteringBoundLogger
    ) -> Result:
        verdict = classify(exc)
        if not verdict.expected:
            bound.error("cleanup before a restart failed unexpectedly", exc_info=exc)
        message = f"restart waits: {verdict.message}"
        if not isinstance(exc, NotYet):
            self._events.event(dict(vmimport.raw), "Warning", verdict.reason, message)
        if self._connections.refused(vmimport.uid, exc) or verdict.retry_after is None:
            raise exc
        return Result(verdict.retry_after)

    def _record(
        self, vmimport: VirtualMachineImport, outcome: Outcome | Verdict, bound: FilteringBoundLogger
    ) -> None:
        """Write the status that follows from `outcome`, if it differs; tell Events and log what flipped."""
        before = vmimport.status
        after = status_rules.next_status(vmimport, outcome, self._clock.now())
        # What an error says counts at once: the next pass may be minutes away.
        if after != before and (isinstance(outcome, Verdict) or not self._too_soon(vmimport, before, after)):
            self._write(vmimport, after)
            self._tell(vmimport, before, after, outcome, bound)

    def _write(self, vmimport: VirtualMachineImport, status: Mapping[str, Any]) -> None:
        _put(self._kube.replace_status, {**vmimport.raw, "status": dict(status)})

    def _too_soon(
        self, vmimport: VirtualMachineImport, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> bool:
        """Tell whether only progress differs and was written less than `progress_seconds` ago."""
        now = self._clock.monotonic()
        with self._lock:
            held = self._held.setdefault(vmimport.key, _Held(vmimport))
            progress_only = _without_progress(before) == _without_progress(after)
            if progress_only and now - held.reported < self._settings.progress_seconds:
                return True
            held.reported = now
            return False

    def _tell(
        self,
        vmimport: VirtualMachineImport,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        outcome: Outcome | Verdict,
        bound: FilteringBoundLogger,
    ) -> None:
        changes = Changes() if isinstance(outcome, Verdict) else outcome.changes
        about = dict(vmimport.raw)
        for kind, reason, message in changes.events:
            self._events.event(about, kind, reason, message)
        old, new = before.get("conditions") or (), after["conditions"]
        for entry in status_rules.earned(old, new):
            words = f": {entry['message']}" if entry.get("message") else ""
            self._events.event(about, "Normal", entry["reason"], f"{entry['type']}{words}")
        if isinstance(outcome, Verdict) or (isinstance(outcome, Wait) and outcome.trouble):
            for entry in status_rules.new_trouble(old, new):
                self._events.event(about, "Warning", entry["reason"], entry["message"])
        if before.get("phase") != after["phase"]:
            summary = conditions.find(after["conditions"], conditions.SUCCEEDED) or {}
            level = bound.warning if isinstance(outcome, Verdict) else bound.info
            level(
                "import moved" if before.get("phase") else "import noticed",
                to=after["phase"],
                status=after["importStatus"],
                reason=summary.get("reason"),
                message=summary.get("message"),
            )
            self._measure(before)

    def _measure(self, before: Mapping[str, Any]) -> None:
        left, since = before.get("phase"), before.get("phaseStartTime")
        if left and since and left not in TERMINAL:
            from_then = self._clock.now() - conditions.parse_timestamp(since)
            self._metrics.phase_duration.labels(left).observe(from_then.total_seconds())


def _is_over(vmimport: VirtualMachineImport) -> bool:
    """Tell whether nothing is unfinished: it succeeded, nothing was touched, or all was put back."""
    phase = status_rules.stored_phase(vmimport)
    cleaned_up = conditions.is_true(vmimport.status.get("conditions") or (), cleanup.CLEANED_UP)
    return phase in (Phase.SUCCEEDED, Phase.INVALID) or (phase is Phase.FAILED and cleaned_up)


def _is_marked(vmimport: VirtualMachineImport) -> bool:
    return names.FINALIZER in vmimport.finalizers


def _put(write: Callable[[Resource, dict[str, Any]], dict[str, Any]], obj: dict[str, Any]) -> dict[str, Any]:
    """Write an import; that it was deleted since it was read is one more way of having changed."""
    try:
        return write(kinds.IMPORTS, obj)
    except NotFound as exc:
        raise Conflict(str(exc), status=exc.status) from exc


def _without_progress(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return `status` without what changes with every byte."""
    rest = {key: value for key, value in status.items() if key != "progress"}
    rest["diskImportStatus"] = [
        {key: value for key, value in entry.items() if key not in _NOT_WATCHED_DISK_FIELDS}
        for entry in status.get("diskImportStatus") or ()
    ]
    rest["conditions"] = [
        {key: value for key, value in entry.items() if key != "message"}
        if entry["type"] == conditions.SUCCEEDED and entry["status"] == conditions.UNKNOWN
        else entry
        for entry in status.get("conditions") or ()
    ]
    return rest
