"""Transfers: the long jobs that move the bytes of disks, outside of reconcile.

One job is one disk: *provider stream -> converter -> sparse raw file on the scratch volume*. The pool knows
jobs, limits and files. It knows nothing of phases, and it judges no error: it keeps it for the one who asks.
"""

from __future__ import annotations

from controller.transfers.jobs import DiskFile, DiskJob, TransferState, TransferStatus
from controller.transfers.pool import TransferPool

__all__ = ["DiskFile", "DiskJob", "TransferPool", "TransferState", "TransferStatus"]
