"""Switching a VM off and on, and asking its guest to shut down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.errors import GuestToolsNotRunning, InvalidPowerState, Unreachable
from providers.model import PowerState
from providers.vmware import identity, machine, properties
from providers.vmware.faults import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.model import SourceVM
    from providers.vmware.session import Session

TASK_TIMEOUT = 30.0  # seconds; then the task goes on without us, and the caller looks at the power state
_FIRST_POLL, _LONGEST_POLL = 0.1, 2.0  # seconds; doubles in between


def power_state(session: Session, vm: SourceVM) -> PowerState:
    """Return the power state now."""
    return machine.power_state(identity.read(session, "read the power state", vm, ["runtime.powerState"]))


def request_shutdown(session: Session, vm: SourceVM) -> None:
    """Ask the guest to shut down; returns at once. A VM that is off already is success.

    Raises:
        GuestToolsNotRunning: VMware Tools do not run, or not for this guest, or the VM is suspended.
    """
    what = "shut down the guest"
    identity.read(session, what, vm)
    try:
        session.call(what, _reference(session, vm).ShutdownGuest, repeatable=False)
    except InvalidPowerState as exc:
        state = power_state(session, vm)
        if state is PowerState.SUSPENDED:
            raise GuestToolsNotRunning("shut down the guest: the VM is suspended") from exc
        if state is not PowerState.OFF:
            raise


def power_off(session: Session, vm: SourceVM) -> None:
    """Switch off hard; a VM that is off already is success."""
    _switch(session, vm, "power off", _reference(session, vm).PowerOffVM_Task, PowerState.OFF)


def power_on(session: Session, vm: SourceVM) -> None:
    """Switch on; a VM that is on already is success."""
    _switch(session, vm, "power on", _reference(session, vm).PowerOnVM_Task, PowerState.ON)


def _switch(session: Session, vm: SourceVM, what: str, start: Callable[[], Any], wanted: PowerState) -> None:
    """Start the task and wait for it; a refusal counts only while the VM is not in the wanted state."""
    identity.read(session, what, vm)
    try:
        wait_for_task(session, what, session.call(what, start, repeatable=False))
    except InvalidPowerState:
        if power_state(session, vm) is not wanted:
            raise


def wait_for_task(session: Session, what: str, task: Any) -> None:
    """Return when the task has succeeded, or after `TASK_TIMEOUT`.

    pyVmomi's own `WaitForTask` waits without bound and misses updates that come while it sets up its filter.

    Raises:
        ProviderError: the task failed.
        Unreachable: the session was closed meanwhile.
    """
    deadline = time.monotonic() + TASK_TIMEOUT
    pause = _FIRST_POLL
    while time.monotonic() < deadline:
        found = properties.read(session, what, task, ["info.state", "info.error"])
        state = str(found.get("info.state"))
        if state == vim.TaskInfo.State.success:
            return
        if state == vim.TaskInfo.State.error:
            raise translate(found["info.error"], what, session.endpoint.authority)
        if session.closed.wait(pause):
            raise Unreachable(f"{what}: the connection to the source was closed")
        pause = min(pause * 2, _LONGEST_POLL)


def _reference(session: Session, vm: SourceVM) -> Any:
    return session.managed_object(vim.VirtualMachine, vm.id)
