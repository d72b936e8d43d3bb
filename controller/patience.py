"""Not waiting, again and again, for a source that does not answer: one asks, the others are told at once.

A call to a host that swallows packets takes its whole network timeout, and a worker with it. With as many
imports of one dead source as there are workers, nobody else's import would go on, and none could be deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from controller.runtime.clock import Clock
from providers.base import DiskStream, Provider, Verified
from providers.errors import Unreachable
from providers.model import PowerState, SourceDisk, SourceVM

T = TypeVar("T")

SILENT_SECONDS: Final = 5.0  # a call that failed sooner holds nobody up: refused, or answered with an error
PAUSE_SECONDS: Final = 15.0  # after a failure, until somebody asks again
ASKING_SECONDS: Final = (
    60.0  # how long the others rely on the one who asks; twice a provider's network timeout
)


class PatientProvider:
    """A `providers.base.Provider` that spares its callers a source that was silent a moment ago.

    Once a call has raised `Unreachable` after `SILENT_SECONDS` or more, calls raise the same at once, but for
    one every `PAUSE_SECONDS`, until one has come back sooner, whatever it brought. `verify` always asks: it
    is how the source is told to be back.
    """

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._lock = threading.Lock()
        self._silence = ""  # what the last call was told; empty while the source is not silent
        self._next = 0.0  # when to ask again

    @property
    def cuts_power(self) -> bool:
        """See `Provider.cuts_power`."""
        return self._provider.cuts_power

    def verify(self) -> Verified:
        """See `Provider.verify`."""
        return self._listen(self._provider.verify)

    def inspect(self, name: str, folder: str = "") -> SourceVM:
        """See `Provider.inspect`."""
        return self._ask(lambda: self._provider.inspect(name, folder))

    def power_state(self, vm: SourceVM) -> PowerState:
        """See `Provider.power_state`."""
        return self._ask(lambda: self._provider.power_state(vm))

    def request_shutdown(self, vm: SourceVM) -> None:
        """See `Provider.request_shutdown`."""
        self._ask(lambda: self._provider.request_shutdown(vm))

    def power_off(self, vm: SourceVM) -> None:
        """See `Provider.power_off`."""
        self._ask(lambda: self._provider.power_off(vm))

    def power_on(self, vm: SourceVM) -> None:
        """See `Provider.power_on`."""
        self._ask(lambda: self._provider.power_on(vm))

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> DiskStream:
        """See `Provider.open_disk`; neither spared nor a sign: one host of many may serve the disk."""
        return self._provider.open_disk(vm, disk, export_id)

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:
        """See `Provider.discard_export`."""
        self._ask(lambda: self._provider.discard_export(vm, export_id, complete=complete))

    def close(self) -> None:
        """See `Provider.close`."""
        self._provider.close()

    def _ask(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self._silence:
                now = self._clock.monotonic()
                if now < self._next:
                    raise Unreachable(self._silence)
                self._next = now + ASKING_SECONDS
        return self._listen(call)

    def _listen(self, call: Callable[[], T]) -> T:
        started = self._clock.monotonic()
        silence = ""
        try:
            return call()
        except Unreachable as exc:
            if self._clock.monotonic() - started >= SILENT_SECONDS:
                silence = str(exc)
            raise
        finally:
            with self._lock:
                self._silence = silence
                self._next = self._clock.monotonic() + PAUSE_SECONDS
