from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import crds, toolchain
from tests.lab.errors import LabError
from tests.lab.kube_api import ApiError

if TYPE_CHECKING:
    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration

IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/{}/virtualmachineimages"
VMS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines"


def image(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImage",
        "metadata": {"name": "image-1"},
        "spec": {"displayName": "one", "sourceType": "download", **spec},
    }


def vm(**template_spec: Any) -> dict[str, Any]:
    spec = {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}, **template_spec}}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "vm-1"},
        "spec": spec,
    }


def test_an_image_gets_harvester_s_defaults(control_plane: ControlPlane, namespace: str) -> None:
    stored = control_plane.api.create(IMAGES.format(namespace), image())
    assert (stored["spec"]["backend"], stored["spec"]["retry"]) == ("backingimage", 3)


def test_an_image_has_no_status_subresource(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.api.create(IMAGES.format(namespace), image())
    path = f"{IMAGES.format(namespace)}/image-1"
    with pytest.raises(ApiError) as refusal:
        control_plane.api.merge(f"{path}/status", {"status": {"progress": 1}})
    assert refusal.value.status == 404
    assert control_plane.api.merge(path, {"status": {"progress": 1}})["status"]["progress"] == 1


def test_an_unknown_backend_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(ApiError, match="Unsupported value"):
        control_plane.api.create(IMAGES.format(namespace), image(backend="floppy"))


def test_the_status_of_a_machine_is_a_subresource(control_plane: ControlPlane, namespace: str) -> None:
    stored = control_plane.api.create(VMS.format(namespace), vm() | {"status": {"ready": True}})
    assert "status" not in stored
    path = f"{VMS.format(namespace)}/vm-1/status"
    assert control_plane.api.merge(path, {"status": {"ready": True}})["status"]["ready"] is True


def test_a_field_that_kubevirt_does_not_know_is_pruned(control_plane: ControlPlane, namespace: str) -> None:
    sent = vm(evictionStrategy="LiveMigrateIfPossible", evictionStrategi="oops")
    stored = control_plane.api.create(VMS.format(namespace), sent)["spec"]["template"]["spec"]
    assert stored["evictionStrategy"] == "LiveMigrateIfPossible"
    assert "evictionStrategi" not in stored


def test_a_machine_can_be_read_in_its_old_version_too(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.api.create(VMS.format(namespace), vm())
    old = control_plane.kubectl("-n", namespace, "get", "virtualmachines.v1alpha3.kubevirt.io", "-o", "name")
    assert old == "virtualmachine.kubevirt.io/vm-1\n"


def test_a_network_attachment_keeps_its_configuration(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply([crds.network_attachment(namespace, "vlan7", vlan=7)])
    path = f"/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/vlan7"
    assert json.loads(control_plane.api.get(path)["spec"]["config"])["vlan"] == 7


def test_the_default_storage_class_is_longhorn_s(control_plane: ControlPlane) -> None:
    path = f"/apis/storage.k8s.io/v1/storageclasses/{crds.DEFAULT_STORAGE_CLASS}"
    stored = control_plane.api.get(path)
    assert stored["provisioner"] == "driver.longhorn.io"
    assert stored["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"


def test_a_module_with_another_checksum_than_the_pinned_one_is_refused() -> None:
    forged = toolchain.GoModule(toolchain.KUBEVIRT.path, toolchain.KUBEVIRT.version, "h1:forged=")
    with pytest.raises(LabError, match="not the pinned h1:forged="):
        toolchain.go_module(forged)
