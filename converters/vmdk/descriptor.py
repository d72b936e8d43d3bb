"""The descriptor: the text in a VMDK that says, among other things, whether the disk is whole.

Source: VMware, "Virtual Disk Format 5.0", "The Header" and "Delta Links".
"""

from __future__ import annotations

import re

from converters.errors import UnsupportedFormat

MAX_SECTORS = 128  # as long as VMware's own reader takes; writers use 1 to 20
_PARENT_NAME = b"parentfilenamehint"
_PARENT_ID = re.compile(rb"parentCID\s*=\s*(\w*)", re.IGNORECASE)
_NO_PARENT = {b"ffffffff", b"00000000", b"0"}


def refuse_delta(descriptor: bytes) -> None:
    """Return unless the disk is a delta: of what is not in it, its parent has the content.

    Raises:
        UnsupportedFormat: it is one; read by itself, what is missing would be taken for zeros.
    """
    # The bytes that a descriptor stands for are text; bytes of anything else contain neither word.
    parents = {parent.lower() for parent in _PARENT_ID.findall(descriptor)}
    if _PARENT_NAME in descriptor.lower() or parents - _NO_PARENT:
        raise UnsupportedFormat("the VMDK is a delta disk: it needs its parent")
