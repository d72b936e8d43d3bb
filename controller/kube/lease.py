"""The lease of leader election, as a `Lease` object: https://kubernetes.io/docs/concepts/architecture/leases/.

What may not live here: when it is taken or given up (`runtime.leader`).
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from controller.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound
from controller.kube.resource import Resource
from controller.runtime.lease import LeaseChanged, LeaseForbidden, LeaseRecord, StoredLease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.kube.client import KubeClient, KubeObject

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


class KubeLeaseStore:
    """One `Lease`: `runtime.lease.LeaseStore` over a `KubeClient`.

    Fields and metadata that are not ours survive every update. The client must answer well within the renew
    deadline, and must not be guarded by the lease itself.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name

    def get(self) -> StoredLease | None:
        """See `LeaseStore.get`."""
        try:
            with _translated():
                return _stored(self._client.get(LEASES, self._name, self._namespace))
        except NotFound:
            return None

    def create(self, record: LeaseRecord) -> StoredLease:
        """See `LeaseStore.create`."""
        obj = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": _spec(record),
        }
        with _translated():
            return _stored(self._client.create(LEASES, obj))

    def update(self, stored: StoredLease, record: LeaseRecord) -> StoredLease:
        """See `LeaseStore.update`; the API server compares resourceVersions."""
        obj = {**stored.object, "spec": {**(stored.object.get("spec") or {}), **_spec(record)}}
        try:
            with _translated():
                return _stored(self._client.replace(LEASES, obj))
        except NotFound as exc:
            raise LeaseChanged(str(exc)) from exc


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (AlreadyExists, Conflict) as exc:
        raise LeaseChanged(str(exc)) from exc
    except Forbidden as exc:
        if "NamespaceTerminating" in exc.causes:  # a refusal of today, not of this account
            raise
        raise LeaseForbidden(str(exc)) from exc


def _stored(obj: KubeObject) -> StoredLease:
    spec = obj.get("spec") or {}
    record = LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration_seconds=spec.get("leaseDurationSeconds"),
        transitions=spec.get("leaseTransitions") or 0,
        acquired=_parsed(spec.get("acquireTime")),
        renewed=_parsed(spec.get("renewTime")),
    )
    return StoredLease(record, obj)


def _spec(record: LeaseRecord) -> dict[str, Any]:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_seconds,
        "leaseTransitions": record.transitions,
        "acquireTime": _micro_time(record.acquired),
        "renewTime": _micro_time(record.renewed),
    }


def _micro_time(at: datetime | None) -> str | None:
    """Return a `metav1.MicroTime`."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _parsed(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
