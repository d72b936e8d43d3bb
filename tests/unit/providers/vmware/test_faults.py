from __future__ import annotations

import ssl
from http.client import RemoteDisconnected
from typing import Any
from xml.parsers.expat import ExpatError

import pytest
from pyVmomi import vim, vmodl

from providers import errors
from providers.vmware.faults import translate

VM = vim.VirtualMachine("vm-7")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (vim.fault.InvalidLogin(msg="Login failure"), errors.AuthenticationFailed),
        (vim.fault.NotAuthenticated(privilegeId="System.View"), errors.AuthenticationFailed),
        (vim.fault.NoPermission(object=VM, privilegeId="VApp.Export"), errors.PermissionDenied),
        (vim.fault.ToolsUnavailable(), errors.GuestToolsNotRunning),
        (vim.fault.InvalidPowerState(existingState="poweredOn"), errors.InvalidPowerState),
        (vim.fault.TaskInProgress(), errors.SourceBusy),
        (vim.fault.InvalidState(), errors.SourceBusy),
        (vim.fault.FileLocked(), errors.ExportFailed),
        (vmodl.fault.HostNotConnected(), errors.Unreachable),
        (vmodl.fault.HostNotReachable(), errors.Unreachable),
        (vmodl.fault.ManagedObjectNotFound(obj=VM), errors.SourceVMNotFound),
        (vmodl.fault.ManagedObjectNotFound(obj=vim.Task("task-1")), errors.ProviderError),
        (vmodl.fault.NotSupported(), errors.ProviderError),
        (ConnectionRefusedError(111, "Connection refused"), errors.Unreachable),
        (TimeoutError("timed out"), errors.Unreachable),
        (ssl.SSLCertVerificationError(1, "verify failed"), errors.CertificateNotTrusted),
        (RemoteDisconnected("gone"), errors.Unreachable),
        (ExpatError("syntax error"), errors.Unreachable),
        (KeyError("faultToleranceState"), errors.ProviderError),
    ],
)
def test_what_pyvmomi_raises_becomes_an_error_of_ours(fault: Any, error: type[errors.ProviderError]) -> None:
    assert type(translate(fault, "do it", "vc:443")) is error


def test_a_missing_privilege_is_named_with_the_object() -> None:
    fault = vim.fault.NoPermission(object=VM, privilegeId="VApp.Export")

    assert "VApp.Export on vm-7" in str(translate(fault, "export the VM", "vc:443"))


def test_the_missing_privileges_of_newer_servers_are_named() -> None:
    missing = vim.fault.NoPermission.EntityPrivileges(entity=VM, privilegeIds=["A.B", "C.D"])
    fault = vim.fault.NoPermission(object=VM, missingPrivileges=[missing])

    assert "A.B, C.D" in str(translate(fault, "export the VM", "vc:443"))


def test_a_wrong_power_state_is_told() -> None:
    fault = vim.fault.InvalidPowerState(existingState="poweredOn", msg="Not now.")

    assert str(translate(fault, "export the VM", "vc:443")) == (
        "export the VM: InvalidPowerState: Not now. (the VM is poweredOn)"
    )


def test_a_faults_own_words_stand_in_the_message_on_one_line() -> None:
    fault = vim.fault.FileFault(msg="Unable to access\n file  [ds] a.vmdk")

    assert str(translate(fault, "export the VM", "vc:443")).endswith("Unable to access file [ds] a.vmdk")
