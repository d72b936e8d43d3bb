"""Giving a source VM the power back that this import took from it."""

from __future__ import annotations

from typing import Final

from controller.errors import SourceNotFound
from controller.phases.base import Context
from providers.errors import SourceVMNotFound
from providers.model import PowerState

DEBT: Final = ("source", "sourceVM", "sourcePowerState")
"""The fields of status that say which machine was touched, and how it was before."""


def give_back(ctx: Context) -> bool:
    """Switch the source VM on again if it was on before this import touched it, and the user wants that.

    Idempotent. A machine that is gone, or whose source is, is given nothing back: nobody could ever do it.

    Returns:
        Whether the source VM is on because it was on before.

    Raises:
        ProviderError: the source refused, or is not there for the moment.
    """
    vmimport = ctx.vmimport
    wanted = vmimport.spec.restore_source_power and ctx.powered_on_before()
    if not wanted or not vmimport.status.get("sourceVM"):
        return False
    vm = ctx.source_vm()
    try:
        provider = ctx.provider()
        if provider.power_state(vm) is PowerState.OFF:
            provider.power_on(vm)
            ctx.log.info("source VM switched on again", source_vm=vm.name)
    except (SourceNotFound, SourceVMNotFound) as exc:
        ctx.log.warning("nothing can be put back at the source", error=str(exc))
        return False
    return True
