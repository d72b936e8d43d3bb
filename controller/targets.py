"""Which import is to make which VirtualMachine, so that two that want the same name do not copy for hours."""

from __future__ import annotations

import threading
from typing import Final

from controller import interest
from controller.api.phase import TERMINAL
from controller.api.types import VirtualMachineImport
from controller.runtime.listwatch import object_key
from controller.runtime.store import Store

_INDEX: Final = "target"
_ENDED: Final = frozenset(phase.value for phase in TERMINAL)


class TargetNames:
    """The names of VMs that imports under way will make. Thread-safe.

    A name belongs to the import whose status says so; between the pass that took it and the moment at which
    the informer shows that status, to the one that `claim`ed it.
    """

    def __init__(self, imports: Store) -> None:
        """Index `imports`, the informer's store of VirtualMachineImports."""
        self._imports = imports
        self._lock = threading.Lock()
        self._claims: dict[str, tuple[str, str]] = {}  # namespace/name of the VM -> UID and key of its import
        imports.add_index(_INDEX, interest.target_keys)

    def rival(self, vmimport: VirtualMachineImport, target: str) -> str | None:
        """Return `namespace/name` of another import that has the name, `None` when it is free."""
        with self._lock:
            return self._rival(vmimport, target)

    def claim(self, vmimport: VirtualMachineImport, target: str) -> str | None:
        """Take the name for an import that leaves Preflight; return who has it instead, `None` when taken."""
        with self._lock:
            rival = self._rival(vmimport, target)
            if rival is None:
                self._release(vmimport.uid)
                self._claims[f"{vmimport.namespace}/{target}"] = vmimport.uid, vmimport.key
            return rival

    def release(self, uid: str) -> None:
        """Forget what an import has claimed. Idempotent."""
        with self._lock:
            self._release(uid)

    def _release(self, uid: str) -> None:
        for key in [key for key, (owner, _) in self._claims.items() if owner == uid]:
            del self._claims[key]

    def _rival(self, vmimport: VirtualMachineImport, target: str) -> str | None:
        name = f"{vmimport.namespace}/{target}"
        for obj in self._imports.by_index(_INDEX, name):
            if obj["metadata"]["uid"] != vmimport.uid:
                return object_key(obj)
        uid, key = self._claims.get(name, ("", ""))
        claimant = self._imports.get(key)
        if uid == vmimport.uid or claimant is None or claimant["metadata"]["uid"] != uid:
            return None
        return None if (claimant.get("status") or {}).get("phase") in _ENDED else key
