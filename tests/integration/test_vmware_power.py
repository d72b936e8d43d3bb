"""The VMware provider against the lab's vCenter: power states."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from providers.errors import GuestToolsNotRunning, PermissionDenied, SourceBusy, SourceVMNotFound
from providers.model import PowerState
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from providers.vmware.provider import VmwareProvider
    from tests.lab.vcenter import VCenter
    from tests.lab.vcenter_model import FaultKind

pytestmark = pytest.mark.integration

RUNNING_TASK = {"task": {"type": "Task", "value": "task-1"}}


def test_a_privilege_that_is_missing_is_named(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("forbidden", power_state="on")
    vm = provider.inspect("forbidden")
    vcenter.fault(
        "method_fault",
        method="PowerOffVM_Task",
        fault="NoPermission",
        detail={"privilegeId": "VirtualMachine.Interact.PowerOff"},
    )

    with pytest.raises(PermissionDenied, match=r"VirtualMachine\.Interact\.PowerOff"):
        provider.power_off(vm)


def test_a_guest_is_shut_down_and_seen_off(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("guest", power_state="on", shutdown_seconds=0.2)
    vm = provider.inspect("guest")
    assert provider.power_state(vm) is PowerState.ON

    provider.request_shutdown(vm)

    eventually(lambda: provider.power_state(vm) is PowerState.OFF)
    provider.request_shutdown(vm)  # off already: nothing to ask for


def test_a_guest_without_tools_cannot_be_asked(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("mute", power_state="on", tools="not_running")
    vm = provider.inspect("mute")

    assert vm.tools_running is False
    with pytest.raises(GuestToolsNotRunning):
        provider.request_shutdown(vm)


def test_switching_to_the_state_it_has_is_success(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("switch")
    vm = provider.inspect("switch")

    for wanted, switch in ((PowerState.OFF, provider.power_off), (PowerState.ON, provider.power_on)) * 2:
        switch(vm)
        switch(vm)
        assert provider.power_state(vm) is wanted


def test_a_suspended_vm_can_be_switched_off(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("asleep", power_state="suspended")
    vm = provider.inspect("asleep")
    assert vm.power_state is PowerState.SUSPENDED

    provider.power_off(vm)

    assert provider.power_state(vm) is PowerState.OFF


@pytest.mark.parametrize("kind", ["task_fault", "method_fault"])
def test_a_power_task_that_fails_tells_why(
    vcenter: VCenter, provider: VmwareProvider, kind: FaultKind
) -> None:
    vcenter.add_vm(f"busy {kind}", power_state="on")
    vm = provider.inspect(f"busy {kind}")
    vcenter.fault(kind, method="PowerOffVM_Task", fault="TaskInProgress", detail=RUNNING_TASK)

    with pytest.raises(SourceBusy):
        provider.power_off(vm)


def test_a_vm_that_was_deleted_is_not_found(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("gone")
    vm = provider.inspect("gone")
    vcenter.remove_vm("gone")

    with pytest.raises(SourceVMNotFound):
        provider.power_state(vm)


def test_another_vm_under_the_same_identifier_is_not_touched(
    vcenter: VCenter, provider: VmwareProvider
) -> None:
    """The source's endpoint is another vCenter by now, or its database was restored."""
    other = {"on": vcenter.add_vm("other on", power_state="on"), "off": vcenter.add_vm("other off")}
    seen = {
        name: dataclasses.replace(
            provider.inspect(f"other {name}"), uuid="42000000-0000-4000-8000-00000000000a"
        )
        for name in other
    }

    for act, vm in (
        (provider.power_state, seen["on"]),
        (provider.request_shutdown, seen["on"]),
        (provider.power_off, seen["on"]),
        (provider.power_on, seen["off"]),
    ):
        with pytest.raises(SourceVMNotFound, match="is another VM by now, 'other"):
            act(vm)

    state = vcenter.state()
    assert state.vm("other on").power_state == "poweredOn"
    assert state.vm("other off").power_state == "poweredOff"
    assert not state.vm("other on").calls.keys() & {"ShutdownGuest", "PowerOffVM_Task"}


def test_the_guest_of_a_suspended_vm_cannot_be_asked(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("frozen", power_state="suspended")
    vm = provider.inspect("frozen")

    with pytest.raises(GuestToolsNotRunning, match="suspended"):
        provider.request_shutdown(vm)


def test_a_suspended_vm_can_be_resumed(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("resumed", power_state="suspended")
    vm = provider.inspect("resumed")

    provider.power_on(vm)

    assert provider.power_state(vm) is PowerState.ON
