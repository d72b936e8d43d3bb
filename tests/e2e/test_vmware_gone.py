"""A source VM that is not there any more, or that cannot be read yet: neither holds up whoever gives up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.api import conditions
from controller.phases.cleanup import CLEANED_UP
from tests.e2e.tenants import SECONDS, Tenancy
from tests.lab.processes import wait_until
from tests.lab.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def own(scene: Scene) -> Iterator[Tenancy]:
    scene.control_plane.kubectl("create", "namespace", "gone")
    with Tenancy.of(scene, "gone") as tenancy:
        yield tenancy
    scene.control_plane.kubectl("delete", "namespace", "gone", "--wait=false")


def delete(own: Tenancy, name: str) -> None:
    """Delete an import; it may take two minutes."""
    own.scene.control_plane.kubectl("delete", "vmimport", name, "-n", own.namespace, "--timeout=120s")


def test_an_import_can_be_deleted_while_vsphere_prepares_its_export(own: Tenancy) -> None:
    own.vcenter.settings(lease_initializing_seconds=1000)
    own.add_vm("preparing")
    own.start("preparing")
    wait_until(lambda: bool(own.vcenter.state().alive_leases), what="the lease", timeout_seconds=SECONDS)
    delete(own, "preparing")
    own.vcenter.settings(lease_initializing_seconds=0.1)
    state = own.vcenter.state()
    assert state.vm("preparing").power_state == "poweredOn"
    assert state.alive_leases == ()


def test_an_import_whose_source_vm_was_deleted_fails_and_is_cleaned_up(own: Tenancy) -> None:
    own.start_slowly("deleted")
    own.vcenter.expire_leases("deleted")
    own.vcenter.remove_vm("deleted")
    assert own.ended("deleted")["phase"] == "Failed"
    assert own.summary("deleted")["reason"] == "SourceVMNotFound"
    wait_until(
        lambda: conditions.is_true(own.status("deleted")["conditions"], CLEANED_UP),
        what="nothing to be left of it",
        timeout_seconds=SECONDS,
    )
    delete(own, "deleted")
