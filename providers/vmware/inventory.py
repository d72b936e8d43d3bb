"""Finding the datacenter and the VM that a spec means. Only names are read here."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.errors import DatacenterNotFound, SourceVMNotFound, SourceVMNotUnique
from providers.vmware import names, properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.vmware.session import Session

MOREF = re.compile(r"(vm-)?[0-9]+")  # vCenter: vm-123; ESXi: a bare number
# What SOAP can say (XML 1.0, 2.2): a name with another character is no VM's, and asking for it is a fault.
_SAYABLE = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_DOWN_FOLDERS = [(vim.Folder, "childEntity")]
_UP = [(vim.ManagedEntity, "parent"), (vim.VirtualMachine, "parentVApp"), (vim.VirtualApp, "parentFolder")]
_NAMES: dict[Any, Sequence[str]] = {
    vim.Folder: ["name", "parent"],
    vim.Datacenter: ["name", "parent"],
    vim.VirtualApp: ["name", "parent", "parentFolder"],
    vim.VirtualMachine: ["name", "parent", "parentVApp"],
}


@dataclass(frozen=True, slots=True)
class Datacenter:
    """A datacenter and its root of VMs.

    Attributes:
        path: Inventory path: `/Folder/DC0`.
        vm_path: Inventory path of its VM folder: `/Folder/DC0/vm`.
    """

    reference: Any
    path: str
    vm_folder: Any
    vm_path: str


@dataclass(frozen=True, slots=True)
class _Entry:
    reference: Any
    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.path} ({moid(self.reference)})"


class Inventory:
    """The part of the inventory that belongs to one datacenter."""

    def __init__(self, session: Session, datacenter: str) -> None:
        self._session = session
        self._wanted = datacenter
        self._lock = threading.Lock()
        self._datacenter: Datacenter | None = None

    def datacenter(self) -> Datacenter:
        """Return the datacenter that the spec names; looked up once.

        Raises:
            DatacenterNotFound: none, or more than one, is meant; lists those that exist.
        """
        with self._lock:
            if self._datacenter is None:
                self._datacenter = self._find_datacenter()
            return self._datacenter

    def look_again(self) -> Datacenter:
        """Return the datacenter as `datacenter` does, but ask the source, which may have changed."""
        with self._lock:
            self._datacenter = None
        return self.datacenter()

    def find(self, name: str, folder: str) -> str:
        """Return the MoRef of the VM that `name` and `folder` mean.

        The first of these that hits:
        1. the VM of that name, or path, in exactly that folder (no folder: the datacenter's VM folder);
        2. the VM with that instance UUID or MoRef, anywhere in the datacenter;
        3. when no folder is given, the one VM of that name anywhere in the datacenter.

        Args:
            name: A name, a path below `folder`, a full inventory path, an instance UUID or a MoRef.
            folder: A path below the datacenter's VM folder, or a full inventory path.

        Raises:
            SourceVMNotFound: lists VMs that may have been meant.
            SourceVMNotUnique: lists those that have the name.
        """
        if not (_SAYABLE.fullmatch(name) and _SAYABLE.fullmatch(folder)):
            raise SourceVMNotFound(f"no virtual machine can be called {name!r} or be in folder {folder!r}")
        found = self._at_path(name, folder) or self._by_identifier(name)
        return found or self._by_name(name, folder)

    def _find_datacenter(self) -> Datacenter:
        root = self._session.content.rootFolder
        listed = properties.walk(
            self._session, "list datacenters", root, _DOWN_FOLDERS,
            {**_NAMES, vim.Datacenter: ["name", "parent", "vmFolder"]},
        )  # fmt: skip
        tree = _Tree(listed, top=root)
        existing = [
            (tree.path(o), o, p) for o, p in listed if isinstance(o, vim.Datacenter) and "vmFolder" in p
        ]
        wanted = names.parts(self._wanted)
        matching = [dc for dc in existing if _same_path(names.parts(dc[0]), wanted)] or [
            dc for dc in existing if names.same(dc[2]["name"], self._wanted)
        ]
        if len(matching) != 1:
            what = f"no datacenter {self._wanted!r}"
            if matching:
                what = f"several datacenters are called {self._wanted!r}, give the path of one"
            listing = ", ".join(path for path, _, _ in existing) or "none that this account may see"
            raise DatacenterNotFound(f"{what}; existing: {listing}")
        path, reference, found = matching[0]
        vm_folder = found["vmFolder"]
        vm_name = properties.read(self._session, "read the VM folder", vm_folder, ["name"]).get("name", "vm")
        return Datacenter(reference, path, vm_folder, f"{path}/{vm_name}")

    def _at_path(self, name: str, folder: str) -> str | None:
        """Ask the server's own index; one or a few calls, however large the inventory is."""
        datacenter = self.datacenter()
        base = _below(datacenter, folder)
        candidates = [(*base, spelling) for spelling in names.spellings(name)]
        if "/" in name:
            candidates.append(
                _below(datacenter, name) if name.startswith("/") else (*base, *names.parts(name))
            )
        for candidate in candidates:
            path = names.join((*names.parts(datacenter.vm_path), *candidate))
            index = self._session.content.searchIndex
            found = self._session.call("find the VM", lambda: index.FindByInventoryPath(path.lstrip("/")))  # noqa: B023
            if isinstance(found, vim.VirtualMachine):
                return moid(found)
        return None

    def _by_identifier(self, name: str) -> str | None:
        datacenter = self.datacenter()
        if UUID.fullmatch(name):
            index = self._session.content.searchIndex
            found = self._session.call(
                "find the VM by UUID",
                lambda: index.FindByUuid(datacenter.reference, name.lower(), True, True),
            )
            return moid(found) if found is not None else None
        if MOREF.fullmatch(name):
            vm = self._session.managed_object(vim.VirtualMachine, name)
            try:
                above = properties.walk(self._session, "find the VM by MoRef", vm, _UP, _NAMES)
            except SourceVMNotFound:
                return None
            if any(moid(entity) == moid(datacenter.reference) for entity, _ in above):
                return name
        return None

    def _by_name(self, name: str, folder: str) -> str:
        datacenter = self.datacenter()
        listed = self._list_vms(datacenter.vm_folder)
        tree = _Tree(listed, top=datacenter.vm_folder)
        vms = [
            _Entry(reference, found["name"], datacenter.vm_path + tree.path(reference))
            for reference, found in listed
            if isinstance(reference, vim.VirtualMachine) and "name" in found
        ]
        named = [entry for entry in vms if names.same(entry.name, name)]
        where = f"datacenter {datacenter.path}" + (f", folder {folder!r}" if folder else "")
        if not folder and len(named) == 1:
            return moid(named[0].reference)
        if not folder and named:
            raise SourceVMNotUnique(
                f"{len(named)} virtual machines in {where} are called {name!r}: "
                f"{', '.join(map(str, named))}; give the folder or the identifier in brackets"
            )
        close = set(names.close_to(name, (entry.name for entry in vms)))
        similar = named or [entry for entry in vms if entry.name in close]
        hint = f"; similar: {', '.join(map(str, similar[:5]))}" if similar else ""
        raise SourceVMNotFound(f"no virtual machine {name!r} in {where}{hint}")

    def _list_vms(self, folder: Any) -> list[tuple[Any, properties.Properties]]:
        """Return everything below a VM folder, vApps and their members included.

        The members of a vApp have no parent folder; the vApp itself has, and it may hold further vApps.
        """
        what = "list virtual machines"
        listed = properties.walk(self._session, what, folder, _DOWN_FOLDERS, _NAMES)
        apps = [reference for reference, _ in listed if isinstance(reference, vim.VirtualApp)]
        while apps:
            holding = properties.read_many(
                self._session, what, apps, {vim.VirtualApp: ["vm", "resourcePool"]}
            )
            members = [
                reference
                for _, found in holding
                for reference in (*found.get("vm", ()), *found.get("resourcePool", ()))
                if isinstance(reference, vim.VirtualMachine | vim.VirtualApp)
            ]
            listed += properties.read_many(self._session, what, members, _NAMES)
            apps = [reference for reference in members if isinstance(reference, vim.VirtualApp)]
        return listed


class _Tree:
    """Paths of listed entities, from what each says of its parent."""

    def __init__(self, listed: list[tuple[Any, properties.Properties]], top: Any) -> None:
        self._known = {moid(reference): found for reference, found in listed}
        self._top = moid(top)

    def path(self, entity: Any) -> str:
        """Return the path below `top`, made of stored names."""
        reversed_names: list[str] = []
        seen = {self._top}
        while entity is not None and moid(entity) not in seen:
            seen.add(moid(entity))
            found = self._known.get(moid(entity), {})
            if "name" in found:
                reversed_names.append(found["name"])
            entity = found.get("parentVApp") or found.get("parentFolder") or found.get("parent")
        return names.join(reversed(reversed_names))


def moid(reference: Any) -> str:
    """Return the identifier of a managed object reference: `vm-123`."""
    return str(reference._GetMoId())  # noqa: SLF001  # pyVmomi has no other accessor


def _below(datacenter: Datacenter, path: str) -> tuple[str, ...]:
    """Return `path` relative to the datacenter's VM folder, from which it may or may not start already."""
    given, root = names.parts(path), names.parts(datacenter.vm_path)
    return given[len(root) :] if _same_path(root, given[: len(root)]) else given


def _same_path(stored: tuple[str, ...], written: tuple[str, ...]) -> bool:
    return len(stored) == len(written) and all(map(names.same, stored, written))
