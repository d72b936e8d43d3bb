"""What a VmwareSource may say: how its vCenter is called, trusted and spared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.tenants import PATH, SECONDS, Tenancy, wait_for_reason
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def own(scene: Scene, tenant: str) -> Iterator[Tenancy]:
    with Tenancy.of(scene, tenant) as tenancy:
        yield tenancy


def apply_source(scene: Scene, tenant: str, ca: str = "", **spec: Any) -> None:
    secret, source = vmware_source(scene.vcenter, tenant, **spec)
    if ca:
        secret["stringData"]["caCert"] = ca
    scene.control_plane.apply([secret, source])


def stored(scene: Scene, tenant: str) -> dict[str, Any]:
    return scene.control_plane.api.get(f"{PATH}/{tenant}/vmwaresources/vcenter")


def test_a_vcenter_that_the_secrets_ca_vouches_for_is_not_pinned(scene: Scene, tenant: str) -> None:
    apply_source(scene, tenant, scene.vcenter.ca_pem)
    assert wait_for_reason(scene, tenant, "Verified")["status"] == "True"
    assert not stored(scene, tenant)["status"].get("tlsFingerprint")


def test_a_ca_that_did_not_sign_makes_a_source_not_ready_until_it_is_corrected(
    own: Tenancy, scene: Scene
) -> None:
    logins = scene.vcenter.state().logins
    apply_source(scene, own.namespace, own.vcenter.ca_pem)
    assert wait_for_reason(scene, own.namespace, "CertificateNotTrusted")["status"] == "False"
    assert stored(scene, own.namespace)["status"]["status"] == "clusterNotReady"
    apply_source(scene, own.namespace, scene.vcenter.ca_pem)
    wait_for_reason(scene, own.namespace, "Verified")
    assert scene.vcenter.state().logins - logins == 1


def test_an_unchecked_certificate_is_warned_of(scene: Scene, tenant: str) -> None:
    apply_source(scene, tenant, insecureSkipTLSVerify=True)
    wait_for_reason(scene, tenant, "Verified")
    assert not stored(scene, tenant)["status"].get("tlsFingerprint")
    wait_until(
        lambda: "CertificateNotChecked" in scene.control_plane.kubectl("get", "events", "-n", tenant),
        what="the warning",
        timeout_seconds=SECONDS,
    )


@pytest.mark.parametrize("written", ["{host}", "https://{host}", "https://{host}/", "https://{host}/sdk/"])
def test_an_endpoint_is_completed_and_the_secret_is_looked_for_beside_the_source(
    scene: Scene, tenant: str, written: str
) -> None:
    host = scene.vcenter.sdk_url.removeprefix("https://").removesuffix("/sdk")
    endpoint = written.format(host=host)
    nearby = {"name": "vcenter-credentials", "namespace": ""}
    apply_source(scene, tenant, endpoint=endpoint, dc="/DC0", credentials=nearby)
    assert "datacenter /DC0" in wait_for_reason(scene, tenant, "Verified")["message"]


def test_a_source_may_be_read_one_disk_at_a_time_until_it_is_allowed_more(own: Tenancy) -> None:
    def limit(disks: int) -> None:
        patch = {"spec": {"maxConcurrentTransfers": disks}}
        own.scene.control_plane.api.merge(f"{PATH}/{own.namespace}/vmwaresources/vcenter", patch)

    def reads(*numbers: int) -> None:
        wait_until(
            lambda: [gets for gets, _ in own.disks("web")] == list(numbers),
            what=f"{numbers} disks to be read",
            timeout_seconds=SECONDS,
        )

    limit(1)
    vm = own.add_vm("web")
    own.vcenter.fault("stall", vm="web", disk=vm.disks[0].key, after_bytes=1000)
    own.start("web")
    reads(1, 0)
    limit(2)
    reads(1, 1)
    own.vcenter.clear_faults()
    assert own.ended("web")["phase"] == "Succeeded"
