"""Shutdown: the source VM is off, gracefully if it can be, and its power state before is on record."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api import conditions
from controller.api.phase import Phase
from controller.phases.base import Advance, Changes, Context, Outcome, Wait, false, true
from providers.base import Provider
from providers.errors import GuestToolsNotRunning, PermissionDenied
from providers.model import PowerState, SourceVM

POLL_SECONDS = 2.0  # one cheap property read per VM that is shutting down


@dataclass(frozen=True, slots=True)
class _Words:
    """How a shutdown is told.

    Attributes:
        asked: Once the source was asked.
        refused: When it could not be asked, because of `{error}`.
        waits: Meanwhile; `{grace}` stands for the grace period in seconds, as in `over`.
        over: When the grace period is over.
        off: While the VM is switched off, because of `{why}`.
        done: At the end.
        done_off: At the end, after it was switched off.
    """

    asked: str
    refused: str
    waits: str
    over: str
    off: str
    done: str
    done_off: str


_HARD = _Words(
    asked="the guest was asked to shut down",
    refused="{error}; the VM is switched off hard when the grace period is over",
    waits="waiting for the guest to shut down; it is switched off hard after {grace:.0f} s",
    over="the guest did not shut down within {grace:.0f} s",
    off="switching the source VM off hard: {why}",
    done="the guest shut down",
    done_off="switched off hard",
)
_SOFT = _Words(
    asked="the source was asked to stop the VM: guest first, and off when that takes it too long",
    refused="{error}; the source is asked again when the grace period is over",
    waits="waiting for the source to stop the VM; it is asked again after {grace:.0f} s",
    over="it was not off within {grace:.0f} s",
    off="asking the source to stop the VM, for which it takes its own time: {why}",
    done="the source stopped it",
    done_off="the source stopped it",
)


def run(ctx: Context) -> Outcome:
    """Bring the source VM to `PoweredOff`; never hangs on a guest that does not answer.

    The first pass only looks, and its finding is stored before anything is touched: whoever has to put things
    back later knows how they were.
    """
    vm = ctx.source_vm()
    provider = ctx.provider()
    words = _HARD if provider.cuts_power else _SOFT
    state = provider.power_state(vm)
    status = ctx.vmimport.status
    looked = conditions.find(status.get("conditions") or (), conditions.SOURCE_POWERED_OFF)
    owed = _owed(status.get("sourcePowerState"), state)
    if not looked or owed != status.get("sourcePowerState"):
        return Wait(
            0,
            "SourceInspected",
            f"the source VM is {state}",
            Changes(
                fields={"sourcePowerState": owed},
                conditions=[false(conditions.SOURCE_POWERED_OFF, str(state), "not touched yet")],
            ),
        )
    if state is PowerState.OFF:
        return Advance(
            Phase.EXPORT,
            "the source VM is off",
            Changes(
                fields={"shutdownRequestedTime": None},
                conditions=[true(conditions.SOURCE_POWERED_OFF, "PoweredOff", _how(ctx, words))],
                old_conditions=[true(conditions.OLD_POWERED_OFF, "PoweredOff")],
            ),
        )
    if ctx.vmimport.spec.force_power_off:
        return _power_off(provider, vm, words, "ForcedPowerOff", "spec.forcePowerOff is set")
    requested = status.get("shutdownRequestedTime")
    if not requested:
        return _request(ctx, provider, vm, words)
    grace = ctx.vmimport.spec.graceful_timeout_seconds
    now = ctx.clock.now()
    left = grace - (now - conditions.parse_timestamp(requested)).total_seconds()
    if left <= 0:
        return _power_off(provider, vm, words, "GracePeriodOver", words.over.format(grace=grace))
    # If the clock was set back, by hours perhaps, the guest has its time from now on.
    fields = {"shutdownRequestedTime": conditions.timestamp(now)} if left > grace else {}
    message = words.waits.format(grace=grace)
    return Wait(min(POLL_SECONDS, left), "ShuttingDown", message, Changes(fields=fields))


def _owed(known: str | None, state: PowerState) -> str:
    """Return the power state to go back to.

    The machine may be off because an earlier run switched it off, or on because somebody needs it by now.
    """
    return str(state) if state is PowerState.ON else known or str(state)


def _request(ctx: Context, provider: Provider, vm: SourceVM, words: _Words) -> Wait:
    """Ask the guest to shut down; the grace period runs from here, whether it can be asked or not."""
    message = words.asked
    reason = "ShutdownRequested"
    try:
        provider.request_shutdown(vm)
    except (GuestToolsNotRunning, PermissionDenied) as exc:
        reason, message = exc.reason, words.refused.format(error=exc)
    return Wait(
        POLL_SECONDS,
        "ShuttingDown",
        message,
        Changes(
            fields={"shutdownRequestedTime": conditions.timestamp(ctx.clock.now())},
            conditions=[false(conditions.SOURCE_POWERED_OFF, reason, message)],
            old_conditions=[true(conditions.OLD_SHUTDOWN_GUEST, reason, message)],
            events=[("Normal", reason, message)],
        ),
    )


def _power_off(provider: Provider, vm: SourceVM, words: _Words, reason: str, why: str) -> Wait:
    provider.power_off(vm)
    message = words.off.format(why=why)
    return Wait(
        POLL_SECONDS,
        "PoweringOff",
        message,
        Changes(
            events=[("Normal", reason, message)],
            conditions=[false(conditions.SOURCE_POWERED_OFF, reason, why)],
            old_conditions=[true(conditions.OLD_POWERING_OFF, reason, why)],
        ),
    )


def _how(ctx: Context, words: _Words) -> str:
    if not ctx.powered_on_before():
        return "it was not running"
    asked = conditions.find(ctx.vmimport.status.get("importConditions") or (), conditions.OLD_POWERING_OFF)
    return words.done_off if asked else words.done
