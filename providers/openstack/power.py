"""Stopping and starting a server. Nova has no hard power-off: its stop is graceful first, then hard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.errors import InvalidPowerState, SourceBusy
from providers.model import PowerState
from providers.openstack import state
from providers.openstack.catalogue import Service

if TYPE_CHECKING:
    from providers.openstack.inventory import Inventory
    from providers.openstack.session import Session


def stop(session: Session, inventory: Inventory, identifier: str) -> None:
    """Ask Nova to stop the server; returns at once. Stopped or being stopped already is success.

    Raises:
        InvalidPowerState: its status is one that Nova does not stop (paused, suspended).
        SourceBusy: Nova is doing something else with it, or somebody locked it.
    """
    server = inventory.server(identifier)
    power = state.power_state(server)
    if power is PowerState.OFF or state.task_of(server) == "powering-off":
        return
    if power is PowerState.SUSPENDED:
        raise InvalidPowerState(
            f"server {server.get('name')!r} is {state.status_of(server)}, and Nova stops no such server; "
            "resume it"
        )
    _act(session, inventory, identifier, "os-stop", PowerState.OFF)


def start(session: Session, inventory: Inventory, identifier: str) -> None:
    """Ask Nova to start the server; returns at once. Running or being started already is success.

    Raises:
        SourceBusy: Nova is doing something else with it, or somebody locked it.
    """
    server = inventory.server(identifier)
    if state.power_state(server) is not PowerState.ON:
        _act(session, inventory, identifier, "os-start", PowerState.ON)


def _act(session: Session, inventory: Inventory, identifier: str, action: str, wanted: PowerState) -> None:
    """Send the action; a conflict counts only while the server is neither there nor on its way."""
    try:
        session.post(Service.COMPUTE, f"/servers/{identifier}/action", {action: None})
    except SourceBusy:
        server = inventory.server(identifier)
        under_way = {PowerState.OFF: "powering-off", PowerState.ON: "powering-on"}[wanted]
        if state.power_state(server) is not wanted and state.task_of(server) != under_way:
            raise
