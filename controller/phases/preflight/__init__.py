"""Preflight: every check passes before anything is touched. No side effects at the source or in the cluster.

All findings are reported together. What may pass by itself (a source that is not there or not ready yet) is
waited for; what only the user can change ends the import as Invalid, from where an edit starts it again.
"""

from __future__ import annotations

from controller.phases.preflight.step import run

__all__ = ["run"]
