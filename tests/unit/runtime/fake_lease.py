"""A lease that behaves as one in an API server does, seen by clients whose requests can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controller.runtime.lease import LeaseChanged, LeaseForbidden, LeaseRecord, StoredLease


class Unreachable(Exception):
    """What a client says of a server that does not answer."""

    retryable = True


@dataclass
class FakeLease:
    """The one lease, in versions; each write is atomic."""

    stored: StoredLease | None = None
    version: int = 0

    def record(self) -> LeaseRecord:
        assert self.stored is not None
        return self.stored.record

    def put(self, record: LeaseRecord) -> StoredLease:
        self.version += 1
        self.stored = StoredLease(record, {"metadata": {"resourceVersion": str(self.version)}})
        return self.stored

    def touch(self) -> None:
        """Change it as `kubectl annotate` does: another version, the same record."""
        self.put(self.record())


def _nothing() -> None:
    return


@dataclass
class FakeLeaseStore:
    """One candidate's way to the lease.

    Attributes:
        before: Called when a request is on its way; may raise, or let time pass.
        after: Called when it was carried out and the answer is on its way.
        forbidden: Every request is refused.
        requests: How many there were.
    """

    lease: FakeLease
    before: Callable[[], None] = _nothing
    after: Callable[[], None] = _nothing
    forbidden: bool = False
    requests: list[str] = field(default_factory=list)

    def get(self) -> StoredLease | None:
        self._ask("get")
        found = self.lease.stored
        self.after()
        return found

    def create(self, record: LeaseRecord) -> StoredLease:
        self._ask("create")
        if self.lease.stored is not None:
            raise LeaseChanged("it exists")
        made = self.lease.put(record)
        self.after()
        return made

    def update(self, stored: StoredLease, record: LeaseRecord) -> StoredLease:
        self._ask("update")
        if self.lease.stored is None or self.lease.stored.object != stored.object:
            raise LeaseChanged("it has changed")
        made = self.lease.put(record)
        self.after()
        return made

    def _ask(self, verb: str) -> None:
        self.requests.append(verb)
        self.before()
        if self.forbidden:
            raise LeaseForbidden("leases are forbidden")


def away() -> None:
    """Be the `before` (nothing is carried out) or the `after` (the answer is lost) of an absent server."""
    raise Unreachable("no answer")
