"""Whether the VM behind an identifier is still the one that was described.

A MoRef means one VM in one vCenter. When the source's endpoint becomes another vCenter, or its database is
restored or made anew, `vm-12` can be another machine. That one must be neither switched off nor taken for the
described one; what does not change without its owner's doing is the BIOS UUID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyVmomi import vim

from providers.errors import SourceVMNotFound
from providers.vmware import properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.model import SourceVM
    from providers.vmware.session import Session


def read(session: Session, what: str, vm: SourceVM, paths: Sequence[str] = ()) -> properties.Properties:
    """Return those of `paths` that are set on the VM, having made sure that it is the described one.

    A VM whose configuration vSphere cannot read passes: whatever is done to it fails by itself.

    Raises:
        SourceVMNotFound: it is gone, or another VM has its identifier.
        PermissionDenied: the account may not read one of the properties.
    """
    reference = session.managed_object(vim.VirtualMachine, vm.id)
    found = properties.read(session, what, reference, ["name", "config.uuid", *paths])
    uuid = (found.get("config.uuid") or "").lower()
    if uuid and vm.uuid and uuid != vm.uuid:
        raise SourceVMNotFound(
            f"{what}: {vm.id} is another VM by now, {found.get('name')!r} (BIOS UUID {uuid}), and not "
            f"{vm.name!r} ({vm.uuid})"
        )
    return found
