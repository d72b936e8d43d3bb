"""The border: whatever pyVmomi raises, in the words of `providers.errors`."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any
from xml.parsers.expat import ExpatError

from pyVmomi import vim, vmodl

from providers import errors, tls

WIRE_ERRORS = (
    vmodl.MethodFault,  # the base of every fault, also of vmodl.RuntimeFault
    OSError,
    HTTPException,
    ExpatError,
    # pyVmomi's deserializer, when an answer does not fit its types
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""All that a call through pyVmomi can raise."""

# First match wins, so a subclass stands before its base (NotAuthenticated is a NoPermission).
_FAULTS: tuple[tuple[Any, type[errors.ProviderError]], ...] = (
    (vim.fault.NotAuthenticated, errors.AuthenticationFailed),
    (vim.fault.NoPermission, errors.PermissionDenied),
    (vim.fault.RestrictedVersion, errors.PermissionDenied),  # free ESXi: the API is read-only
    (vim.fault.ToolsUnavailable, errors.GuestToolsNotRunning),
    (vim.fault.InvalidPowerState, errors.InvalidPowerState),
    (vim.fault.TaskInProgress, errors.SourceBusy),
    (vim.fault.QuestionPending, errors.SourceBusy),
    (vim.fault.ResourceInUse, errors.SourceBusy),
    (vim.fault.InvalidState, errors.SourceBusy),  # what is left of it: another operation holds the object
    (vim.fault.FileFault, errors.ExportFailed),
    (vim.fault.HostConnectFault, errors.Unreachable),
    (vmodl.fault.HostCommunication, errors.Unreachable),
    (vim.fault.Timedout, errors.Unreachable),
)


def translate(exc: BaseException, what: str, where: str) -> errors.ProviderError:
    """Return the error of ours that `exc` means.

    Args:
        exc: One of `WIRE_ERRORS`.
        what: What was being done, for the message: `list datacenters`.
        where: The endpoint, `host:port`.
    """
    if isinstance(exc, vmodl.MethodFault):
        return _translate_fault(exc, what)
    if isinstance(exc, OSError):
        return tls.connection_error(exc, where)
    if isinstance(exc, HTTPException):
        return errors.Unreachable(f"{what}: {where} answered {str(exc) or type(exc).__name__}")
    if isinstance(exc, ExpatError):  # the page of a proxy, mostly
        return errors.Unreachable(f"{what}: {where} did not answer in SOAP")
    return errors.ProviderError(
        f"{what}: {where} did not answer as a vSphere API does ({type(exc).__name__})"
    )


def _translate_fault(fault: Any, what: str) -> errors.ProviderError:
    if isinstance(fault, vim.fault.NotAuthenticated):
        return errors.AuthenticationFailed(f"{what}: the session ended and could not be renewed")
    if isinstance(fault, vim.fault.NoPermission):
        return errors.PermissionDenied(
            f"{what}: the account lacks the privilege {privileges(fault)} on {_name(fault.object)}"
        )
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound) and isinstance(fault.obj, vim.VirtualMachine):
        return errors.SourceVMNotFound(f"{what}: {_name(fault.obj)} does not exist")
    if isinstance(fault, vim.fault.InvalidLogin):
        return errors.AuthenticationFailed(
            f"{what}: {describe(fault)}; check username and password in the source's Secret"
        )
    for kind, error in _FAULTS:
        if isinstance(fault, kind):
            return error(f"{what}: {describe(fault)}")
    return errors.ProviderError(f"{what}: {describe(fault)}")


def describe(fault: Any) -> str:
    """Return a fault in one line: its type, and its own words where it has any."""
    name = type(fault).__name__.rpartition(".")[2]
    words = " ".join((fault.msg or "").split()) or next(
        (" ".join(message.message.split()) for message in fault.faultMessage or () if message.message), ""
    )
    if isinstance(fault, vim.fault.InvalidPowerState):
        words = f"{words or 'refused'} (the VM is {fault.existingState})"
    return f"{name}: {words}" if words else name


def privileges(fault: Any) -> str:
    """Return the privilege, or privileges (since vSphere 7.0.3), whose absence a NoPermission reports."""
    if fault.privilegeId:
        return str(fault.privilegeId)
    missing = [name for entity in fault.missingPrivileges or () for name in entity.privilegeIds or ()]
    return ", ".join(missing) or "that this needs"


def _name(reference: Any) -> str:
    return reference._GetMoId() if reference is not None else "the object"  # noqa: SLF001  # its only accessor
