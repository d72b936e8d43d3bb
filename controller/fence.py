"""The fence before sources: what changes something there is asked for by the leader only.

The one before the cluster is `kube.client.KubeClient.guarded`. Which replica leads is `runtime.leader`'s to
say, and what remains between a check and its deed is told there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from providers.base import DiskStream, Provider, Verified
from providers.model import PowerState, SourceDisk, SourceVM

Guard: TypeAlias = Callable[[], None]
"""Returns if this replica may write now, and else raises `runtime.lease.NotLeader`."""


class GuardedProvider:
    """A `providers.base.Provider` that calls `guard` right before whatever acts upon a VM.

    Reading is free, and so is a stream that is open: it fills files of this replica. So is `close`: it ends
    what this replica's own session holds, and the sooner an ex-leader does so, the better for its successor.
    """

    def __init__(self, provider: Provider, guard: Guard) -> None:
        self._provider = provider
        self._guard = guard

    @property
    def cuts_power(self) -> bool:
        """See `Provider.cuts_power`."""
        return self._provider.cuts_power

    def verify(self) -> Verified:
        """See `Provider.verify`."""
        return self._provider.verify()

    def inspect(self, name: str, folder: str = "") -> SourceVM:
        """See `Provider.inspect`."""
        return self._provider.inspect(name, folder)

    def power_state(self, vm: SourceVM) -> PowerState:
        """See `Provider.power_state`."""
        return self._provider.power_state(vm)

    def request_shutdown(self, vm: SourceVM) -> None:
        """See `Provider.request_shutdown`; NotLeader: it was not asked for."""
        self._guard()
        self._provider.request_shutdown(vm)

    def power_off(self, vm: SourceVM) -> None:
        """See `Provider.power_off`; NotLeader: it was not asked for."""
        self._guard()
        self._provider.power_off(vm)

    def power_on(self, vm: SourceVM) -> None:
        """See `Provider.power_on`; NotLeader: it was not asked for."""
        self._guard()
        self._provider.power_on(vm)

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> DiskStream:
        """See `Provider.open_disk`; NotLeader: it was not asked for."""
        self._guard()
        return self._provider.open_disk(vm, disk, export_id)

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:
        """See `Provider.discard_export`; NotLeader: it was not asked for."""
        self._guard()
        self._provider.discard_export(vm, export_id, complete=complete)

    def close(self) -> None:
        """See `Provider.close`."""
        self._provider.close()
