"""What the states of a server mean. Pure; the rules of Nova's `compute/api.py`, `check_instance_state`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.model import PowerState

if TYPE_CHECKING:
    from providers.openstack.facts import JSON

_BY_STATUS = {
    "ACTIVE": PowerState.ON,
    "SHUTOFF": PowerState.OFF,
    "SHELVED": PowerState.OFF,
    "SHELVED_OFFLOADED": PowerState.OFF,
    "PAUSED": PowerState.SUSPENDED,
    "SUSPENDED": PowerState.SUSPENDED,
    "RESCUE": PowerState.ON,
    "REBOOT": PowerState.ON,
    "HARD_REBOOT": PowerState.ON,
    "PASSWORD": PowerState.ON,
}
_BY_POWER_STATE = {1: PowerState.ON, 3: PowerState.SUSPENDED, 4: PowerState.OFF, 7: PowerState.SUSPENDED}
"""Nova's `power_state`: RUNNING, PAUSED, SHUTDOWN, SUSPENDED; 0 NOSTATE and 6 CRASHED say nothing."""

_PASSING = frozenset({"BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "RESIZE", "REVERT_RESIZE", "MIGRATING",
                      "PASSWORD"})  # fmt: skip
_SWITCHING = frozenset({"powering-off", "powering-on"})


def power_state(server: JSON) -> PowerState:
    """Return whether the server runs. One that is just being switched off still runs: its disks change."""
    task = task_of(server)
    if task == "powering-off":
        return PowerState.ON
    known = _BY_STATUS.get(status_of(server))
    if known is PowerState.OFF and task == "powering-on":
        return PowerState.ON
    if known is not None:
        return known
    return _BY_POWER_STATE.get(int(server.get("OS-EXT-STS:power_state") or 0), PowerState.UNKNOWN)


def status_of(server: JSON) -> str:
    """Return Nova's status word."""
    return str(server.get("status") or "UNKNOWN").upper()


def task_of(server: JSON) -> str:
    """Return the task that Nova is carrying out on the server; empty: none."""
    return str(server.get("OS-EXT-STS:task_state") or "")


def busy_with(server: JSON) -> str:
    """Say what is under way that goes by itself and that an import has to wait for; empty: nothing."""
    status, task = status_of(server), task_of(server)
    if task and task not in _SWITCHING:
        return f"task {task} is under way (status {status})"
    return f"its status is {status}" if status in _PASSING else ""


def is_locked(server: JSON) -> bool:
    """Tell whether somebody locked it against such as us (from microversion 2.9)."""
    return bool(server.get("locked"))
