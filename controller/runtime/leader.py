"""Leader election: of several replicas one acts, and it knows by itself when it must not act any more.

client-go's algorithm (`tools/leaderelection`) on a store that does not overwrite what it has not shown. What
may not live here: how a lease is stored (`runtime.lease`, `kube.lease`), and what a leader does.

Why one acts at a time. A candidate takes a lease of another only after it has *watched it unchanged* for the
lease's whole duration, by its own monotonic clock: nobody's wall clock is ever compared. The holder in turn
counts from the moment *before* it sent its last successful renewal, and stops after the renew deadline, which
is shorter. So whatever the network delays, the holder stops `lease_duration - renew_deadline` (5 s) before
anybody else begins, as long as their clocks run within a factor of `lease_duration / renew_deadline`. The one
exception is client-go's too: somebody deletes a lease that is held, and a candidate starts that never saw it.

Fencing. `check` compares with the clock, it is no state that a thread would have to update: CLOCK_MONOTONIC
goes on while the process is stopped (SIGSTOP, a frozen cgroup) or starved, so that the first check after a
pause fails, whichever thread comes first. What remains is the time between a check and the arrival of the
write: a process that is stopped exactly there, or a request that the network holds back, for longer than the
5 s above. Against those stand the API server's own means: status and images are written with the
resourceVersion that was read, what is created has a name that only one can take, what is deleted is named by
its UID. A power operation at a source has no such precondition; it is idempotent, and asked for only when the
state is another. A machine that is *suspended*, and its clock with it, learns of it by its next renewal.

Not renewed is not lost. When the renew deadline passes, client-go gives up. Here the fence closes then, but
the lease is lost only when somebody else is seen to have it: a renewal that succeeds later, on the very
version that was written last, proves that nobody had it meanwhile, and all goes on. So an API server that is
away for two minutes does not cost a lone replica hours of transfers, which only read at the source and only
write files of our own. If it stays unknown for `SUSPENDED_SECONDS`, the replica gives up; until then its open
exports may keep a successor waiting, no longer than those of a leader that was killed do.

Lost is lost: the candidate never leads again, and its process should end. The next one is a new candidate,
with none of the old one's threads, connections and open files; cleaning up in place could not promise that.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import structlog

from controller.runtime.clock import Clock, SystemClock
from controller.runtime.lease import (
    LeaseChanged,
    LeaseForbidden,
    LeaseRecord,
    LeaseStore,
    LeaseTiming,
    NotLeader,
    StoredLease,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

SUSPENDED_SECONDS: Final = 300.0  # as long as a killed leader's exports lock their VMs, by vCenter's default
STUCK_SECONDS: Final = 120.0  # an attempt is three requests at most, each answered or given up within seconds
JITTER: Final = 0.2  # candidates ask up to a fifth later than they might, so that they do not ask in step

_NEVER, _ALWAYS = -math.inf, math.inf

log = structlog.get_logger(__name__)


class LeaderElector:
    """One candidate. A thread calls `run`; any thread may ask `is_leader` and `check`.

    Promises:

    * `on_leading` is called once, when the lease is held for the first time; `on_lost` once, when it was held
      and is so no more, after which this candidate never leads again. Both are called by the thread of `run`
      and must return soon: no renewal is made meanwhile.
    * From the moment `renew_deadline` after the last renewal was sent, `check` raises.
    * A replica to which the lease is forbidden for a whole `lease_duration`, and that has never seen another
      one hold it, acts without: whoever installs a role without leases has one replica. Two would both act.
    """

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        timing: LeaseTiming,
        *,
        on_leading: Callable[[], None],
        on_lost: Callable[[], None],
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Ask for nothing yet.

        Args:
            store: Where the lease is.
            identity: Of this process, and of no other ever: its host's name is not enough.
            timing: See there.
            on_leading: See the class.
            on_lost: See the class.
            clock: For measuring, and for the times that people see.
            rng: For jitter.
        """
        self._store = store
        self._identity = identity
        self._timing = timing
        self._on_leading = on_leading
        self._on_lost = on_lost
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        # All that other threads look at, and a single word of memory: they need no lock to see it whole.
        self._valid_until = _NEVER
        self._mine: StoredLease | None = None  # as this candidate wrote it last; `None` when that is not sure
        self._others: LeaseRecord | None = None  # of another holder, as seen last
        self._others_until = _NEVER
        self._leading = False  # on_leading was called, on_lost was not
        self._alone = False  # without a lease
        self._lost = False
        self._suspended = False
        self._forbidden_since: float | None = None
        self._error: Exception | None = None
        self._tried: float | None = None  # when the last attempt began
        self._log = log.bind(identity=identity)

    def is_leader(self) -> bool:
        """Return whether this replica may act now; true for `renew_deadline` after each renewal."""
        return self._clock.monotonic() < self._valid_until

    def check(self) -> None:
        """Return if this replica may write now; to be called right before every single write.

        Raises:
            NotLeader: it may not.
        """
        if not self.is_leader():
            raise NotLeader(f"nothing is written: {self.standing()}")

    def standing(self) -> str:
        """Return in a few words how this candidate stands."""
        if self.is_leader():
            return "leading, without a lease" if self._alone else "leading"
        if self._lost:
            return "the lease is lost"
        if self._leading:
            return "the lease was not renewed in time"
        holder = self._others.holder if self._others else ""
        if holder:
            return f"standby, {holder} leads"
        return f"standby, nobody is known to lead{f' ({self._error})' if self._error else ''}"

    def trouble(self) -> str:
        """Return in words why the lease is not looked after; empty: it is, as far as can be told."""
        if self._lost or self._alone or self._tried is None:
            return ""
        silent = self._clock.monotonic() - self._tried
        if silent <= self._timing.lease_duration + STUCK_SECONDS:
            return ""
        return f"leader election has not come back for {silent:.0f} s"

    def run(self, stop: threading.Event) -> None:
        """Get the lease, and keep it, until `stop` is set or it is lost. It is not given back here."""
        while not stop.is_set():
            pause = self.attempt()
            if pause is None:
                return
            stop.wait(pause)

    def attempt(self) -> float | None:
        """Try once to get or renew the lease; return the seconds to the next try, `None` when it is lost."""
        self._tried = self._clock.monotonic()
        if not self._lost:
            self._try()
            self._look_at_the_clock()
        if self._lost:
            return None
        if self._alone:
            return self._timing.lease_duration
        if self._leading:
            return self._timing.retry_period
        return self._timing.retry_period * (1 + JITTER * self._rng.random())

    def release(self) -> None:
        """Give the lease back, if it is held, so that another need not wait; after `run` has returned.

        From its beginning on, `check` raises. Nothing is raised here: what fails is left to expire.
        """
        self._valid_until = _NEVER
        if not self._leading or self._alone:
            return
        self._leading = False
        try:
            if self._mine is not None:
                try:
                    self._give_back(self._mine)
                except LeaseChanged:  # by a renewal of ours whose answer was lost, perhaps
                    pass
                else:
                    return
            stored = self._store.get()
            if stored is not None and stored.record.holder == self._identity:
                self._give_back(stored)
        except Exception as exc:  # noqa: BLE001  # it expires
            self._log.warning("lease not released, it expires", error=str(exc))

    def _try(self) -> None:
        started = self._clock.monotonic()
        try:
            held = self._acquire_or_renew()
        except LeaseChanged:
            self._forbidden_since = None  # another was quicker; who it was, the next attempt shows
        except LeaseForbidden as exc:
            self._refused(started, exc)
        except Exception as exc:  # noqa: BLE001  # whatever it is, a candidate must not stop asking
            self._failed(exc)
        else:
            self._forbidden_since = self._error = None
            if held:
                self._lead()
            elif self._leading:
                self._lose("another replica has the lease")

    def _acquire_or_renew(self) -> bool:
        """Return whether this candidate has just written the lease as its own."""
        if self._mine is not None and self._renewed(self._mine):
            return True
        found = self._store.get()
        if found is None or found.record.holder != self._identity:
            record = found.record if found else None
            if not self._may_take(record, self._clock.monotonic()):
                return False
        self._write(found)
        return True

    def _renewed(self, mine: StoredLease) -> bool:
        try:
            self._write(mine)
        except LeaseChanged:  # by an earlier renewal whose answer was lost, or by another
            return False
        return True

    def _may_take(self, record: LeaseRecord | None, now: float) -> bool:
        """Tell whether a lease that is not this candidate's is free, or was not renewed for long enough."""
        if record is None:
            return now >= self._others_until  # else somebody deleted it, and its holder does not know yet
        if record != self._others:
            self._noticed(record, now)
        if self._leading and not self._alone:
            return False  # even if it is free by now: another may have acted
        return not record.holder or now >= self._others_until

    def _noticed(self, record: LeaseRecord, now: float) -> None:
        """Remember a record of another holder, and from when on it may be taken if it does not change."""
        if record.holder and (self._others is None or record.holder != self._others.holder):
            self._log.info("another replica has the lease", holder=record.holder)
        duration = record.duration_seconds or self._timing.lease_duration
        self._others = record
        self._others_until = now + duration if record.holder else _NEVER

    def _write(self, stored: StoredLease | None) -> None:
        before = stored.record if stored else LeaseRecord("", transitions=-1)
        wall = self._clock.now()
        again = before.holder == self._identity
        record = LeaseRecord(
            holder=self._identity,
            duration_seconds=math.ceil(self._timing.lease_duration),
            transitions=before.transitions if again else before.transitions + 1,
            acquired=before.acquired if again else wall,
            renewed=wall,
        )
        sent = self._clock.monotonic()
        self._mine = self._store.create(record) if stored is None else self._store.update(stored, record)
        self._valid_until = sent + self._timing.renew_deadline

    def _give_back(self, stored: StoredLease) -> None:
        wall = self._clock.now()
        record = LeaseRecord("", 1, stored.record.transitions, wall, wall)
        self._mine = self._store.update(stored, record)
        self._log.info("lease released")

    def _lead(self) -> None:
        if self._alone:
            self._alone = False
            self._log.info("lease is permitted now, and held")
        if not self._leading:
            self._leading = True
            transitions = self._mine.record.transitions if self._mine else 0
            self._log.info("leading", transitions=transitions)
            self._on_leading()

    def _lose(self, why: str) -> None:
        self._valid_until = _NEVER
        self._leading, self._lost = False, True
        holder = self._others.holder if self._others else ""
        self._log.error("lease lost", error=why, holder=holder)
        self._on_lost()

    def _look_at_the_clock(self) -> None:
        """Tell when the fence has closed or opened again; give up when it was closed for too long."""
        if not self._leading:
            return
        late = self._clock.monotonic() - self._valid_until
        if late >= SUSPENDED_SECONDS:
            self._lose(f"not renewed for {SUSPENDED_SECONDS:.0f} s beyond the deadline")
        elif (late >= 0) != self._suspended:
            self._suspended = late >= 0
            if self._suspended:
                self._log.warning("lease not renewed in time, writing is suspended", error=str(self._error))
            else:
                self._log.info("lease renewed again, writing goes on")

    def _failed(self, exc: Exception) -> None:
        """Log the first of a row of failures of one kind; the others say nothing new."""
        self._forbidden_since = None
        if type(exc) is not type(self._error):
            self._log.warning("lease cannot be asked for", error=str(exc), error_type=type(exc).__name__)
        self._error = exc

    def _refused(self, started: float, exc: LeaseForbidden) -> None:
        self._error = exc
        if self._forbidden_since is None:
            self._forbidden_since = started
        # A replica of the same account that had the lease until then has stopped after this time; and a
        # server that has just started, and does not know its roles yet, knows them.
        passed = self._clock.monotonic() - self._forbidden_since
        if self._alone or self._others is not None or passed < self._timing.lease_duration:
            return
        self._alone = True
        self._mine = None
        self._valid_until = _ALWAYS
        self._log.warning("leases are forbidden, acting as the only replica", error=str(exc))
        if not self._leading:
            self._leading = True
            self._on_leading()
