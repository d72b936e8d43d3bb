"""Converters: from the bytes of any disk format to a sparse raw image, with its digest.

A leaf: imports nothing of the controller, knows no network. `decode` is the one way in.
"""

from __future__ import annotations

from converters.decode import decode

__all__ = ["decode"]
