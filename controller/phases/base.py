"""What a step gets and what it may answer. Steps do not write status and do not sleep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from structlog.typing import FilteringBoundLogger

from controller import errors
from controller.api import conditions
from controller.api.conditions import Condition
from controller.api.phase import Phase
from controller.api.types import Reference, Source, VirtualMachineImport
from controller.config import Settings
from controller.connections import Connections
from controller.imageserver import ImageServer
from controller.kube.client import KubeClient
from controller.runtime.clock import Clock
from controller.scratch import Scratch
from controller.targets import TargetNames
from controller.transfers import TransferPool
from providers.base import Provider
from providers.errors import DiscardNotDone
from providers.model import Finding, PowerState, SourceVM


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the bytes are, over all disks of the import; bytes of the virtual disks."""

    bytes_transferred: int
    bytes_total: int
    bytes_per_second: float | None = None

    def to_status(self) -> dict[str, int]:
        """Return the form it has in status."""
        percent = 100 * self.bytes_transferred // self.bytes_total if self.bytes_total else 100
        fields = {
            "percent": min(100, percent),
            "bytesTransferred": self.bytes_transferred,
            "bytesTotal": self.bytes_total,
        }
        if self.bytes_per_second:
            fields["bytesPerSecond"] = int(self.bytes_per_second)
            fields["etaSeconds"] = int((self.bytes_total - self.bytes_transferred) / self.bytes_per_second)
        return fields

    def pace(self) -> str:
        """Return rate and time left for people: `25.0 MiB/s, about 12 min left`; empty without a rate."""
        if not self.bytes_per_second:
            return ""
        left = (self.bytes_total - self.bytes_transferred) / self.bytes_per_second
        return f"{format_bytes(self.bytes_per_second)}/s, about {format_duration(left)} left"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pass learned and wants kept; `None` leaves a field as it is.

    Attributes:
        fields: Plain fields of status, by name; a value of `None` removes the field.
        conditions: Entries for `conditions`, without times.
        old_conditions: Entries for `importConditions`, the old controller's list.
        disks: The whole of `diskImportStatus`; the `diskConditions` of each entry without times.
        events: `(type, reason, message)` to tell besides the flips of conditions.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    conditions: Sequence[Condition] = ()
    old_conditions: Sequence[Condition] = ()
    disks: Sequence[Mapping[str, Any]] | None = None
    progress: Progress | None = None
    preflight: Sequence[Finding] | None = None
    events: Sequence[tuple[str, str, str]] = ()


NOTHING = Changes()


@dataclass(frozen=True, slots=True)
class Advance:
    """This phase is done; go on with `to` at once."""

    to: Phase
    message: str = ""
    changes: Changes = NOTHING


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing more to do now; look again after `after` seconds, or when something wakes the import.

    Attributes:
        after: Seconds; 0 means at once, after the changes are written.
        reason: CamelCase, for the summary condition.
        message: What is waited for, in words for the user.
        trouble: Something went wrong that may pass: its Events are warnings.
        retries: Reasons of what has failed in the meantime and is tried again.
    """

    after: float
    reason: str
    message: str = ""
    changes: Changes = NOTHING
    trouble: bool = False
    retries: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is left to do in a phase that is an end."""

    changes: Changes = NOTHING


Outcome = Advance | Wait | Stop


@dataclass(frozen=True, slots=True)
class Context:
    """All that a step may use, for one pass over one import."""

    vmimport: VirtualMachineImport
    kube: KubeClient
    connections: Connections
    scratch: Scratch
    transfers: TransferPool
    images: ImageServer
    targets: TargetNames
    clock: Clock
    settings: Settings
    log: FilteringBoundLogger

    def source(self) -> Source:
        """Return the source that this run reads from, live; an edit of the spec counts for the next run.

        Raises:
            SourceNotFound: it does not exist.
            ReferenceNotPermitted: it is in another namespace and does not consent.
        """
        reads = self.vmimport.reads
        reference = Reference(reads["namespace"], reads["name"])
        return self.connections.source(reads["kind"], reference, self.vmimport.namespace)

    def provider(self) -> Provider:
        """Return the connection to the source of this run, the same one as long as the import uses it.

        Raises:
            SourceNotFound, SecretNotFound, ReferenceNotPermitted: as the words say.
        """
        return self.connections.provider(self.source(), user=self.vmimport.uid)

    def source_vm(self) -> SourceVM:
        """Return the machine as Preflight saw it.

        Raises:
            StatusMissing: somebody removed it from status.
        """
        stored = self.vmimport.status.get("sourceVM")
        if not stored:
            raise errors.StatusMissing("status.sourceVM is gone; clear status.importStatus to start again")
        return SourceVM.from_dict(dict(stored))

    def in_phase_since(self) -> datetime:
        """Return when the import entered its phase (now, where status does not say)."""
        stored = self.vmimport.status.get("phaseStartTime")
        return conditions.parse_timestamp(stored) if stored else self.clock.now()

    def powered_on_before(self) -> bool:
        """Tell whether the source VM was on before we touched it."""
        return bool(self.vmimport.status.get("sourcePowerState") == PowerState.ON)


def discard_export(ctx: Context, provider: Provider, vm: SourceVM, *, complete: bool) -> Wait | None:
    """Give back what the export holds at the source; return how to wait while that is under way."""
    try:
        provider.discard_export(vm, ctx.vmimport.export_id, complete=complete)
    except DiscardNotDone as exc:
        return Wait(exc.retry_after, exc.reason, str(exc))
    return None


StepFunction = Callable[[Context], Outcome]


def true(kind: str, reason: str, message: str = "") -> Condition:
    """Shorthand for a condition that holds."""
    return conditions.condition(kind, conditions.TRUE, reason, message)


def false(kind: str, reason: str, message: str = "") -> Condition:
    """Shorthand for a condition that does not hold."""
    return conditions.condition(kind, conditions.FALSE, reason, message)


def count(number: int, noun: str) -> str:
    """Return `1 disk`, `2 disks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a time for people: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 60:  # noqa: PLR2004  # a minute
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def format_bytes(count: float) -> str:
    """Return a size for people, in binary units: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004  # the step between binary units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
