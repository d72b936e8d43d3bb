"""What the cluster's rules refuse when the disks are there already: hours of copying are not thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.tenants import SECONDS, Tenancy
from tests.lab.kube_api import ApiError
from tests.lab.processes import wait_until
from tests.lab.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/{}/virtualmachineimages"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "probe"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}
MACHINE = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {"name": "probe"},
    "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}},
}
REFUSED = {
    "persistentvolumeclaims": ("", "/api/v1", CLAIM),
    "virtualmachines": ("kubevirt.io", "/apis/kubevirt.io/v1", MACHINE),
}


@pytest.fixture
def tenancy(scene: Scene, tenant: str) -> Iterator[Tenancy]:
    with Tenancy.of(scene, tenant) as tenancy:
        yield tenancy


@pytest.fixture(params=REFUSED)
def refused(scene: Scene, tenant: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Refuse one kind of objects in the test's namespace, with a status that is not 422."""
    plural = str(request.param)
    group, path, probe = REFUSED[plural]
    api = scene.control_plane.api
    policy, binding = policy_against(group, plural, tenant)
    api.create(f"{ADMISSION}/validatingadmissionpolicies", policy)
    api.create(f"{ADMISSION}/validatingadmissionpolicybindings", binding)

    def is_refused() -> bool:
        try:
            api.create(f"{path}/namespaces/{tenant}/{plural}?dryRun=All", probe)
        except ApiError as exc:
            return "only on Mondays" in str(exc)
        return False

    try:
        wait_until(is_refused, what=f"{plural} to be refused", timeout_seconds=SECONDS)
        yield plural
    finally:
        api.delete(f"{ADMISSION}/validatingadmissionpolicybindings/{tenant}")
        api.delete(f"{ADMISSION}/validatingadmissionpolicies/{tenant}")


def policy_against(group: str, plural: str, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": kind,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
            "validations": [
                {
                    "expression": "false",
                    "message": "only on Mondays",
                    "reason": "RequestEntityTooLarge",  # 413: nothing that could be tried again as it is
                }
            ],
        },
    }
    binding = {
        "apiVersion": kind,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    return policy, binding


@pytest.mark.usefixtures("refused")
def test_a_volume_or_vm_that_is_refused_waits_with_its_disks_kept(tenancy: Tenancy) -> None:
    tenancy.add_vm("web")
    tenancy.start("web")
    tenancy.scene.wait_for_phase("web", "VMCreate", "Failed", namespace=tenancy.namespace)
    assert "only on Mondays" in tenancy.wait_for("web", "VirtualMachineRefused")["message"]
    images = tenancy.scene.control_plane.api.items(IMAGES.format(tenancy.namespace))
    assert len(images) == 2
    assert not any("deletionTimestamp" in image["metadata"] for image in images)
    assert tenancy.events("web", "VirtualMachineRefused")["VirtualMachineRefused"] == "Warning"
