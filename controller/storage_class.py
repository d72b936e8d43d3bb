"""What a StorageClass means for the disks that go to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.api import names


@dataclass(frozen=True, slots=True)
class StorageChoice:
    """Where an image's data go: a StorageClass and the backend that serves it.

    Attributes:
        parameters: Those of the class that decide anything here.
    """

    class_name: str
    provisioner: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    explicit: bool = True

    @property
    def backend(self) -> str:
        """`backingimage` for Longhorn's v1 engine, else `cdi`."""
        longhorn = self.provisioner == names.LONGHORN_PROVISIONER
        return "backingimage" if longhorn and self.parameters.get("dataEngine") != "v2" else "cdi"

    @property
    def objection(self) -> str:
        """Why no disk can be imported to this class; empty when it can.

        Harvester refuses the class of another image (v1.6.0, `pkg/image/common/mutator.go`). Longhorn refuses
        to attach an encrypted volume whose backing image is plain, as all that are downloaded are
        (`unsupported disk encryption format`, `csi/node_server.go`).
        """
        if self.backend != "backingimage":
            return ""
        if self.parameters.get("backingImage"):
            return "it is that of another image, and none can be made from it"
        if self.parameters.get("encrypted") == "true":
            return "it encrypts, and Longhorn attaches no imported disk through it"
        return ""
