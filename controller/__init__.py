"""The controller: turns VirtualMachineImport objects into running virtual machines.

Layers, from the top: `__main__`, `app`, `reconcile`, `phases`, `kube`, `runtime`, `api`. A module may import
what lies below it, never above.
"""

from __future__ import annotations

__version__ = "0.1.0"
