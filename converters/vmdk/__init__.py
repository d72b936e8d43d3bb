"""VMDK, VMware's disk format: decoding a streamOptimized extent while it is downloaded.

`layout` knows the structures, `ledger` the account of grains, `grains` the inflating, `decoder` the order of
things. Other kinds of VMDK are `converters.qemu_img`'s.
"""

from __future__ import annotations

from converters.vmdk.decoder import decode_stream
from converters.vmdk.layout import SparseExtentHeader, parse_header

__all__ = ["SparseExtentHeader", "decode_stream", "parse_header"]
