"""Sources: verified again when anything about them changes, and never a way to somebody else's Secret."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.tenants import PATH, SECONDS, ready, slow_import, wait_for_reason
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_corrected_secret_makes_its_source_ready_without_an_edit_of_the_source(
    scene: Scene, tenant: str
) -> None:
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant, password="old"))  # noqa: S106
    assert wait_for_reason(scene, tenant, "AuthenticationFailed")["status"] == "False"
    logins = scene.vcenter.state().refused_logins
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant)[:1])
    assert wait_for_reason(scene, tenant, "Verified")["status"] == "True"
    assert scene.vcenter.state().refused_logins - logins <= 1


def test_a_source_says_what_is_wrong_with_its_secret(scene: Scene, tenant: str) -> None:
    secret, source = vmware_source(scene.vcenter, tenant)
    scene.control_plane.apply([source])
    assert "vcenter-credentials" in wait_for_reason(scene, tenant, "SecretNotFound")["message"]
    del secret["stringData"]["password"]
    scene.control_plane.apply([secret])
    assert "password" in wait_for_reason(scene, tenant, "SecretIncomplete")["message"]


def test_a_wrong_datacenter_is_answered_with_those_that_exist(scene: Scene, tenant: str) -> None:
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant, dc="Berlin"))
    assert "DC0" in wait_for_reason(scene, tenant, "DatacenterNotFound")["message"]
    assert (
        scene.control_plane.kubectl("get", "vmwaresource", "-n", tenant).split()[-2:][0] == "clusterNotReady"
    )


def test_a_secret_of_another_namespace_needs_its_owners_consent(scene: Scene, tenant: str) -> None:
    thief = vmware_source(scene.vcenter, tenant)[1]
    thief["spec"]["credentials"] = {"name": "vcenter-credentials", "namespace": "default"}
    scene.control_plane.apply([thief])
    assert "annotate" in wait_for_reason(scene, tenant, "ReferenceNotPermitted")["message"]
    annotate = ("annotate", "secret", "vcenter-credentials", "-n", "default")
    allow = "migration.harvesterhci.io/allow-from"
    scene.control_plane.kubectl(*annotate, f"{allow}={tenant}")
    wait_for_reason(scene, tenant, "Verified")
    scene.control_plane.kubectl(*annotate, f"{allow}-")
    wait_for_reason(scene, tenant, "ReferenceNotPermitted")


def test_an_import_may_come_before_its_source(scene: Scene, tenant: str) -> None:
    scene.add_guest_vm(tenant)
    spec: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted"}
    scene.control_plane.apply([vm_import(tenant, "early", tenant, **spec)])
    wait_until(
        lambda: (
            "SourceNotFound" in scene.control_plane.kubectl("get", "vmimport", "-n", tenant, "-o", "yaml")
        ),
        what="the import to say what it waits for",
        timeout_seconds=SECONDS,
    )
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    status = scene.wait_for_phase("early", "Succeeded", "Failed", "Invalid", namespace=tenant)
    assert (status["phase"], status["importStatus"]) == ("Succeeded", "virtualMachineCreated")


def test_an_import_that_comes_with_its_source_says_why_that_is_not_ready(scene: Scene, tenant: str) -> None:
    """Not only that it was not verified yet, which is what the first look at it says."""
    source = vmware_source(scene.vcenter, tenant, password="wrong-password")  # noqa: S106
    scene.control_plane.apply([*source, vm_import(tenant, "early", "web", networkMapping=[])])
    wait_until(
        lambda: (
            "check username and password"
            in scene.control_plane.kubectl("get", "vmimport", "-n", tenant, "-o", "wide")
        ),
        what="the import to say what its source says",
        timeout_seconds=SECONDS,
    )


def test_sources_of_all_kinds_in_one_manifest_each_get_a_status(scene: Scene, tenant: str) -> None:
    scene.control_plane.apply(
        [
            *vmware_source(scene.vcenter, tenant),
            {
                "apiVersion": API_VERSION,
                "kind": "OpenstackSource",
                "metadata": {"name": "cloud", "namespace": tenant},
                "spec": {"endpoint": "https://127.0.0.1:1/v3", "region": "R", "credentials": {"name": "x"}},
            },
            {
                "apiVersion": API_VERSION,
                "kind": "OvaSource",
                "metadata": {"name": "file", "namespace": tenant},
                "spec": {"url": "https://127.0.0.1:1/a.ova"},
            },
        ]
    )
    wait_for_reason(scene, tenant, "Verified")
    for plural, name in (("openstacksources", "cloud"), ("ovasources", "file")):
        wait_until(
            lambda plural=plural, name=name: ready(scene, tenant, name, plural).get("status") == "False",  # type: ignore[misc]
            what=f"a status of {name}",
            timeout_seconds=SECONDS,
        )


def test_a_certificate_without_a_known_authority_is_pinned_and_another_is_refused(
    scene: Scene, tenant: str
) -> None:
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    wait_for_reason(scene, tenant, "Verified")
    stored = scene.control_plane.api.get(f"{PATH}/{tenant}/vmwaresources/vcenter")
    assert stored["status"]["tlsFingerprint"] == scene.vcenter.fingerprint
    forged = '{"status":{"tlsFingerprint":"' + "0" * 64 + '"}}'
    patch = ("patch", "vmwaresource", "vcenter", "-n", tenant, "--subresource=status", "--type=merge", "-p")
    scene.control_plane.kubectl(*patch, forged)
    assert wait_for_reason(scene, tenant, "CertificateChanged")["status"] == "False"
    scene.control_plane.kubectl(*patch, '{"status":{"tlsFingerprint":""}}')
    wait_for_reason(scene, tenant, "Verified")


def wait_for_logins(scene: Scene, more_than: int) -> None:
    wait_until(
        lambda: scene.vcenter.state().logins > more_than, what="another login", timeout_seconds=SECONDS
    )


def test_a_password_changed_in_the_middle_of_an_import_does_not_interrupt_it(
    scene: Scene, tenant: str
) -> None:
    secret, source = vmware_source(scene.vcenter, tenant)
    scene.control_plane.apply([secret, source])
    wait_for_reason(scene, tenant, "Verified")
    slow_import(scene, tenant)
    old, logins = scene.vcenter.password, scene.vcenter.state().logins
    try:
        scene.vcenter.set_credentials(scene.vcenter.username, "new-password")
        secret["stringData"]["password"] = "new-password"  # noqa: S105
        scene.control_plane.apply([secret])
        wait_for_logins(scene, logins)  # with the new one, by whoever verifies the source
        scene.vcenter.clear_faults()
        status = scene.wait_for_phase("slow", "Succeeded", "Failed", namespace=tenant)
    finally:
        scene.vcenter.set_credentials(scene.vcenter.username, old)
        scene.vcenter.clear_faults()
    assert status["phase"] == "Succeeded"
    assert scene.vcenter.state().vm(tenant).calls["ExportVm"] == 1


def test_an_import_whose_source_is_deleted_says_so_and_goes_on_when_it_is_back(
    scene: Scene, tenant: str
) -> None:
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    wait_for_reason(scene, tenant, "Verified")
    slow_import(scene, tenant)
    scene.control_plane.kubectl("delete", "vmwaresource", "vcenter", "-n", tenant)
    wait_until(
        lambda: (
            "does not exist" in scene.control_plane.kubectl("get", "vmimport", "-n", tenant, "-o", "wide")
        ),
        what="the import to say that its source is gone",
        timeout_seconds=SECONDS,
    )
    scene.vcenter.clear_faults()
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant)[1:])
    assert scene.wait_for_phase("slow", "Succeeded", "Failed", namespace=tenant)["phase"] == "Succeeded"
