"""What a killed process left open at a vCenter is ended by the next one, without any privilege."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from controller.connections import _Journal
from controller.scratch import Scratch
from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.errors import SourceBusy, Unreachable
from providers.vmware.provider import VmwareProvider
from tests.integration.vmware import EXPORT, MIB, disk_file, in_background
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import Disk
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

KEY = "VmwareSource/default/vcenter"


@pytest.fixture
def vcenter(tmp_path: Path) -> Iterator[VCenter]:
    with VCenter() as vcenter:
        vcenter.add_vm("web", disks=[Disk(MIB, disk_file(tmp_path / "disk"))])
        yield vcenter


def started(vcenter: VCenter, scratch: Path, key: str = KEY) -> VmwareProvider:
    """Return the provider of a process that has just been started on this scratch volume."""
    secret = {"username": vcenter.username, "password": vcenter.password}
    config = SourceConfig(
        SourceKind.VMWARE, vcenter.sdk_url, secret, TLSPolicy(ca_pem=vcenter.ca_pem), {"dc": "DC0"}
    )
    return VmwareProvider(replace(config, journal=_Journal(Scratch(scratch), key)))


def leave_an_export_open(provider: VmwareProvider) -> None:
    """Do what a process has done that is killed in the middle of an export: nothing ends it."""
    vm = provider.inspect("web")
    provider.open_disk(vm, vm.disks[0], EXPORT).close()
    lease = provider._exports[vm.id]._lease
    assert lease is not None
    lease._ended.set()  # its thread dies with it
    provider._session._stub.DropConnections()


def alive(vcenter: VCenter) -> list[str]:
    return [lease.state for lease in vcenter.state().leases if lease.state in ("initializing", "ready")]


def test_the_next_process_ends_lease_and_session_and_exports_again(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    assert alive(vcenter) == ["ready"]
    second = started(vcenter, tmp_path)
    vm = second.inspect("web")
    assert alive(vcenter) == []
    assert vcenter.state().sessions == 1
    second.open_disk(vm, vm.disks[0], EXPORT).close()
    second.close()
    assert (alive(vcenter), vcenter.state().sessions) == ([], 0)
    assert list((tmp_path / ".open").iterdir()) == []


def test_leases_are_aborted_even_where_a_logout_leaves_them(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    vcenter.fault("method_fault", method="Logout", fault="NotAuthenticated")
    second = started(vcenter, tmp_path)
    second.verify()
    assert alive(vcenter) == []
    second.close()


def test_a_process_leaves_its_own_sessions_and_those_of_other_sources_alone(
    vcenter: VCenter, tmp_path: Path
) -> None:
    scratch = Scratch(tmp_path)
    other = started(vcenter, tmp_path, "VmwareSource/default/other")
    other.verify()
    secret = {"username": vcenter.username, "password": vcenter.password}
    config = SourceConfig(
        SourceKind.VMWARE, vcenter.sdk_url, secret, TLSPolicy(ca_pem=vcenter.ca_pem), {"dc": "DC0"}
    )
    retired, current = (VmwareProvider(replace(config, journal=_Journal(scratch, KEY))) for _ in range(2))
    retired.verify()
    current.verify()
    assert vcenter.state().sessions == 3
    for provider in (retired, current, other):
        provider.close()


def test_what_a_vcenter_does_not_know_any_more_is_forgotten(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    vcenter.expire_sessions()
    vcenter.expire_leases()
    second = started(vcenter, tmp_path)
    second.verify()
    assert vcenter.state().sessions == 1
    second.close()
    assert list((tmp_path / ".open").iterdir()) == []


def test_while_the_vcenter_is_away_nothing_is_forgotten(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    left = {path.name for path in (tmp_path / ".open").iterdir()}
    assert len(left) == 2
    vcenter.fault("method_delay", method="HttpNfcLeaseAbort", delay_seconds=600)
    second = started(vcenter, tmp_path)
    verification, raised = in_background(second.verify)
    eventually(lambda: vcenter.state().calls.get("HttpNfcLeaseAbort"))
    vcenter.settings(down=True)
    verification.join()
    assert [type(error) for error in raised] == [Unreachable]
    assert {path.name for path in (tmp_path / ".open").iterdir()} == left
    vcenter.settings(down=False)
    second.close()
    second = started(vcenter, tmp_path)
    second.verify()
    assert alive(vcenter) == []
    assert vcenter.state().sessions == 1
    second.close()


def test_a_leftover_that_cannot_be_ended_does_not_stand_in_the_way(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    vcenter.fault("method_fault", method="HttpNfcLeaseAbort", fault="NoPermission")
    second = started(vcenter, tmp_path)
    second.verify()
    assert vcenter.state().sessions == 1
    second.close()


def test_a_cookie_is_never_sent_to_another_endpoint(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    with VCenter(username=vcenter.username, password=vcenter.password) as moved:
        provider = started(moved, tmp_path)
        provider.verify()
        assert not moved.state().calls.get("HttpNfcLeaseAbort")
        assert not moved.state().calls.get("Logout")
        provider.close()
    assert list((tmp_path / ".open").iterdir()) == []


def test_without_a_journal_a_second_export_waits_for_the_lease(vcenter: VCenter, tmp_path: Path) -> None:
    leave_an_export_open(started(vcenter, tmp_path))
    second = started(vcenter, tmp_path / "other")
    vm = second.inspect("web")
    with pytest.raises(SourceBusy, match="TaskInProgress"):
        second.open_disk(vm, vm.disks[0], EXPORT)
    vcenter.expire_leases()
    second.open_disk(vm, vm.disks[0], EXPORT).close()
    second.close()
