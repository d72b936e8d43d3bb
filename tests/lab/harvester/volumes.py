"""PersistentVolumeClaims: Longhorn's provisioner, for volumes that begin as the copy of an image.

It only creates a PersistentVolume that is meant for the claim; Kubernetes' own binder does the rest, and
leaves the claim Pending if the two do not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.lab.crds import LONGHORN
from tests.lab.harvester import quantity
from tests.lab.harvester.images import GOLDEN_IMAGE_ANNOTATION, condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.lab.harvester.images import ImageController
    from tests.lab.kube_api import KubeApi

IMAGE_ANNOTATION = "harvesterhci.io/imageId"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
VOLUMES = "/api/v1/persistentvolumes"


class VolumeController:
    """Provisions claims that refer to images.

    Attributes:
        refusals: `namespace/name` of a claim -> why it stays Pending.
    """

    def __init__(self, api: KubeApi, images: ImageController) -> None:
        self._api = api
        self._images = images
        self._disks: dict[str, Path] = {}
        self.refusals: dict[str, str] = {}

    def disk(self, claim: Mapping[str, Any]) -> Path | None:
        """Return the raw file that is behind a claim, `None` before it is provisioned and filled."""
        path = self._disks.get(claim["metadata"]["uid"])
        return path if path is not None and path.exists() else None

    def sync(self, claim: dict[str, Any], images: Mapping[str, dict[str, Any]]) -> None:
        """Look at one claim and provision it if it is due.

        Args:
            claim: A PersistentVolumeClaim.
            images: `namespace/name` -> VirtualMachineImage.
        """
        metadata, uid = claim["metadata"], claim["metadata"]["uid"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        annotations = metadata.get("annotations", {})
        golden = annotations.get(GOLDEN_IMAGE_ANNOTATION) == "true"
        wanted = key if golden else annotations.get(IMAGE_ANNOTATION)
        if wanted is None or uid in self._disks or "deletionTimestamp" in metadata:
            return
        image = images.get(wanted)
        # A golden claim is the one that CDI made for the image itself: it is bound first and filled then.
        if not golden and (why := "; ".join(_refusals(claim, wanted, image))):
            if self.refusals.get(key) != why:
                self.refusals[key] = why
                self._report(claim, why)
            return
        if image is None:
            return
        self._provision(claim)
        self._disks[uid] = self._images.path(image["metadata"]["uid"])
        self.refusals.pop(key, None)

    def release(self) -> None:
        """Delete the volumes of claims that are gone, as the provisioner does with reclaim policy Delete."""
        for volume in self._api.items(f"{VOLUMES}?labelSelector=lab.harvester%2Fclaim"):
            uid = volume["metadata"]["labels"]["lab.harvester/claim"]
            if volume.get("status", {}).get("phase") in {"Released", "Failed"} and uid in self._disks:
                self._api.delete(f"{VOLUMES}/{volume['metadata']['name']}")
                del self._disks[uid]

    def _provision(self, claim: dict[str, Any]) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{metadata['uid']}"
        self._api.ensure(
            VOLUMES,
            {
                "metadata": {
                    "name": name,
                    "labels": {"lab.harvester/claim": metadata["uid"]},
                    "annotations": {PROVISIONED_BY: LONGHORN},
                },
                "spec": {
                    "accessModes": spec["accessModes"],
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        **{part: metadata[part] for part in ("namespace", "name", "uid")},
                    },
                    "csi": {"driver": LONGHORN, "volumeHandle": name},
                    "persistentVolumeReclaimPolicy": "Delete",
                    "storageClassName": spec["storageClassName"],
                    "volumeMode": spec["volumeMode"],
                },
            },
        )

    def _report(self, claim: dict[str, Any], why: str) -> None:
        """Say it where people look: `kubectl describe pvc`."""
        metadata = claim["metadata"]
        reference = {part: metadata[part] for part in ("namespace", "name", "uid")}
        self._api.create(
            f"/api/v1/namespaces/{metadata['namespace']}/events",
            {
                "metadata": {"generateName": f"{metadata['name']}."},
                "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
                "type": "Warning",
                "reason": "ProvisioningFailed",
                "message": why,
                "source": {"component": LONGHORN},
            },
        )


def _refusals(claim: dict[str, Any], wanted: str, image: dict[str, Any] | None) -> Iterator[str]:
    """Yield why Longhorn would not provision the claim, or would never attach its volume."""
    if image is None or condition(image, "Imported") != "True":
        yield f"there is no imported image {wanted}"
        return
    spec, status = claim["spec"], image["status"]
    if image["spec"].get("storageClassParameters", {}).get("encrypted") == "true":
        # longhorn-manager `csi/node_server.go`: a plain backing image under an encrypted volume
        yield "unsupported disk encryption format"
    if spec.get("storageClassName") != status["storageClassName"]:
        given, right = spec.get("storageClassName"), status["storageClassName"]
        yield f"storage class {given!r} does not belong to image {wanted}: it has {right!r}"
    if spec.get("volumeMode") != "Block":
        yield "a disk of a virtual machine needs volumeMode Block"
    if spec.get("accessModes") != ["ReadWriteMany"]:
        yield f"a disk that can be live-migrated needs access mode ReadWriteMany, not {spec['accessModes']}"
    asked = quantity.parse(spec["resources"]["requests"]["storage"])
    if asked < status["virtualSize"]:
        yield f"volume size {asked} is smaller than the image's virtual size {status['virtualSize']}"
