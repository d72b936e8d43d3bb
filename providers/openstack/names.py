"""Names and marks of what an export makes at the source, so that any process finds it again. Pure.

Everything carries a name that follows from the import, its run and the disk; snapshots, volumes and server
images also carry them as metadata. Names are enough to find a thing; the marks keep us from touching one that
somebody else has given such a name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

EXPORT_KEY = "harvester_vm_import"
DISK_KEY = "harvester_vm_import_disk"
_PREFIX = "harvester-vm-import"


@dataclass(frozen=True, slots=True)
class Mark:
    """What belongs to one disk of one export.

    Attributes:
        export_id: Names the import and its run, uniquely for ever.
        disk: Key of the disk.
    """

    export_id: str
    disk: str

    @property
    def name(self) -> str:
        """The name of the disk's snapshot, volume and image: at most 255 characters, whatever the key is."""
        key = self.disk if len(self.disk) <= 40 else hashlib.sha256(self.disk.encode()).hexdigest()[:16]  # noqa: PLR2004  # room for a UUID
        return f"{_PREFIX}-{self.export_id}-{key}"

    @property
    def metadata(self) -> dict[str, str]:
        """The marks, in a form that Nova, Cinder and Glance all take."""
        return {EXPORT_KEY: self.export_id, DISK_KEY: self.disk}
