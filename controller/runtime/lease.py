"""What a lease is, and the three calls by which leader election uses one.

The vocabulary between `runtime.leader` and `kube.lease`, which implements the calls; tests fake them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from controller.runtime.listwatch import Object


class NotLeader(Exception):
    """Surfaces when something is to be written and this replica is not, or not surely, the one that acts.

    Attributes:
        retry_within: Seconds after which whatever it has hit is tried again at the latest: once the lease is
            renewed, work must go on.
    """

    reason: ClassVar[str] = "NotLeader"
    retryable: ClassVar[bool] = True
    retry_within: ClassVar[float] = 30.0


class LeaseChanged(Exception):
    """Surfaces when the lease is not what it was when it was read: written, made or deleted by another."""


class LeaseForbidden(Exception):
    """Surfaces when this account may not use the lease at all."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a lease says.

    Attributes:
        holder: Identity of the one who acts; empty when it was given back.
        duration_seconds: How long it must be seen unchanged before another may take it; `None` if not said.
        transitions: How often it has changed hands.
        acquired: When the holder got it, by the holder's wall clock; for people.
        renewed: When the holder said so last, by the same clock; here it only shows *that* it has.
    """

    holder: str
    duration_seconds: int | None = None
    transitions: int = 0
    acquired: datetime | None = None
    renewed: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease in one version; `object` is the store's own, with what must survive an update."""

    record: LeaseRecord
    object: Object


class LeaseStore(Protocol):
    """One lease. Any other error than those named means that it is not known what has happened."""

    def get(self) -> StoredLease | None:
        """Return the lease as it is now, never from a cache; `None` if there is none.

        Raises:
            LeaseForbidden: this account may not.
        """
        ...

    def create(self, record: LeaseRecord) -> StoredLease:
        """Make the lease.

        Raises:
            LeaseChanged: there is one.
            LeaseForbidden: this account may not.
        """
        ...

    def update(self, stored: StoredLease, record: LeaseRecord) -> StoredLease:
        """Write `record` in the place of exactly the version `stored`.

        Raises:
            LeaseChanged: it has another version, or is gone.
            LeaseForbidden: this account may not.
        """
        ...


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds, with client-go's names and defaults; each is less than the one before.

    Attributes:
        lease_duration: How long others wait for a sign of life before they take over.
        renew_deadline: How long after its last one a leader still acts.
        retry_period: Between attempts to get or renew the lease.
    """

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
