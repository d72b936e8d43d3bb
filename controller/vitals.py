"""Whether this process is alive, fit to serve, and what else should be known of it; for `health` to tell.

Alive is asked by who restarts the process: it is told only what a new process would mend, for a restart costs
the exports that are under way. Fit is asked by who sends readers of images. What may not live here: HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from controller.imageserver import ImageServer
from controller.runtime.clock import Clock
from controller.runtime.informer import SharedInformer
from controller.runtime.leader import LeaderElector
from controller.runtime.workers import WorkerPool
from controller.scratch import Scratch, ScratchError, ScratchFull

SCRATCH_WAIT_SECONDS: Final = 0.5  # a probe gives us 5 s; a volume that works answers in milliseconds
SCRATCH_SILENT_SECONDS: Final = 15.0  # three probes


@dataclass(frozen=True, slots=True)
class Vitals:
    """Looks at the parts of a running controller. Safe for many threads.

    Attributes:
        workers: The pools that reconcile.
        informers: All informers.
        imports: The informer without which nothing can be done.
        images: The image server.
        elector: The candidate for the lease; `None` without leader election.
        election: The thread in which it stands, or in which the start is waited for.
        scratch: How the scratch volume does.
        stopping: Set when the process is told to end.
        acting: Set once this replica acts.
        gave_up: Whether the process is about to end by itself.
    """

    workers: Sequence[WorkerPool]
    informers: Sequence[SharedInformer]
    imports: SharedInformer
    images: ImageServer
    elector: LeaderElector | None
    election: threading.Thread
    scratch: ScratchProbe
    stopping: threading.Event
    acting: threading.Event
    gave_up: Callable[[], bool]

    def ailments(self) -> list[str]:
        """Return what is broken in this process and will not mend by itself; empty: it is alive."""
        if self.stopping.is_set() or self.gave_up():
            return []  # it ends in order, and whoever started it knows within what time
        found = [words for pool in self.workers if (words := pool.trouble())]
        found += [f"informer {informer.name} has died" for informer in self.informers if not informer.alive()]
        if self.elector and self.election.ident is not None and not self.election.is_alive():
            found.append("leader election has died")
        if self.elector and (words := self.elector.trouble()):
            found.append(words)
        if self.acting.is_set() and not self.images.alive():
            found.append("the image server has died")
        return found

    def obstacles(self) -> list[str]:
        """Return why no reader of images should come here; empty: this replica acts and serves."""
        found = []
        if not self.imports.has_synced():
            found.append(f"{self.imports.name} not known yet{_because(self.imports)}")
        if self.stopping.is_set():
            found.append("stopping")
        elif self.elector and not self.elector.is_leader():
            found.append(self.elector.standing())
        elif not self.acting.is_set():
            found.append("starting")
        error = self.scratch.look()
        # A full volume is no obstacle: it becomes empty by images that are fetched from here.
        if error is not None and not isinstance(error, ScratchFull):
            found.append(str(error))
        return found + self.ailments()

    def remarks(self) -> list[str]:
        """Return what is not as it should be, or good to know, and keeps nobody away."""
        found = [self.elector.standing() if self.elector else "leading, without leader election"]
        for informer in self.informers:
            if not informer.has_synced():
                found.append(f"{informer.name} not known yet{_because(informer)}")
            elif informer.error is not None:
                found.append(f"{informer.name} not up to date{_because(informer)}")
        if isinstance(error := self.scratch.look(), ScratchFull):
            found.append(str(error))
        return found


class ScratchProbe:
    """Tries whether the scratch volume can be written to. A volume that hangs costs one thread, not many."""

    def __init__(self, scratch: Scratch, clock: Clock) -> None:
        self._scratch = scratch
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._started = 0.0
        self._error: ScratchError | None = None

    def look(self) -> ScratchError | None:
        """Return what is wrong with the volume, as far as it has answered; blocks a moment at most."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._started = self._clock.monotonic()
                thread = self._thread = threading.Thread(target=self._try, name="scratch-probe", daemon=True)
                thread.start()
        thread.join(SCRATCH_WAIT_SECONDS)
        silent = self._clock.monotonic() - self._started
        if thread.is_alive() and silent > SCRATCH_SILENT_SECONDS:
            return ScratchError(f"the scratch volume has not answered for {silent:.0f} s")
        return self._error

    def _try(self) -> None:
        try:
            self._scratch.try_out()
        except ScratchError as exc:
            self._error = exc
        else:
            self._error = None


def _because(informer: SharedInformer) -> str:
    return f" ({informer.error})" if informer.error else ""
