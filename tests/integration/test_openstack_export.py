"""The OpenStack provider against the lab's cloud: describing, stopping, exporting, removing.

A volume is a GiB at least, and goes through Cinder and Glance as a whole: one test reads one. The others look
at what happens before, or at the root disk, which is small.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from providers.errors import (
    DiscardNotDone,
    DiskNotReady,
    ExportFailed,
    InvalidPowerState,
    QuotaExceeded,
    SourceVMNotFound,
    TransferInterrupted,
    Unreachable,
)
from providers.model import PowerState
from tests.integration import openstack as lab
from tests.integration.openstack import EXPORT, provider_for, secret_of
from tests.lab.guest import MIB, Guest, build_guest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.model import SourceDisk, SourceVM
    from providers.openstack.provider import OpenstackProvider
    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.site import Service
    from tests.lab.openstack.tenant import Server, Tenant

pytestmark = pytest.mark.integration

OTHER = EXPORT.replace("0c5e", "ffff")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return build_guest(tmp_path_factory.mktemp("guest"), boot_size=4 * MIB, data_size=MIB)


@pytest.fixture(scope="module")
def shop(cloud: OpenStackCloud, guest: Guest) -> Iterator[tuple[Tenant, Server]]:
    """A project with one server: its root made of an image, and a volume."""
    with closing(cloud.new_tenant("shop")) as tenant:
        yield tenant, tenant.boot_from_image("shop", guest.boot_raw, data=[guest.data_raw])


@pytest.fixture
def tenant(shop: tuple[Tenant, Server]) -> Tenant:
    return shop[0]


@pytest.fixture
def provider(cloud: OpenStackCloud, tenant: Tenant) -> Iterator[OpenstackProvider]:
    with closing(provider_for(cloud, secret_of(tenant))) as provider:
        yield provider


@pytest.fixture(scope="module")
def stopped(cloud: OpenStackCloud, shop: tuple[Tenant, Server]) -> tuple[SourceVM, dict[str, dict[str, str]]]:
    """The server, off; and what the project holds then."""
    with closing(provider_for(cloud, secret_of(shop[0]))) as provider:
        return lab.stopped(provider, "shop"), shop[0].inventory()


@pytest.fixture
def vm(
    provider: OpenstackProvider, tenant: Tenant, stopped: tuple[SourceVM, dict[str, dict[str, str]]]
) -> Iterator[SourceVM]:
    """The server, off; after the test the project is as it was before."""
    vm, before = stopped
    provider.request_shutdown(vm)
    lab.wait_for_power(provider, vm, PowerState.OFF)
    yield vm
    lab.discard(provider, vm)
    assert tenant.inventory() == before
    tenant.wait_for_server(vm.id, "SHUTOFF")


def made(tenant: Tenant, kind: str, export: str = EXPORT) -> list[str]:
    """Return the ids of what an export has made."""
    return [key for key, name in tenant.inventory()[kind].items() if export in name]


def step(provider: OpenstackProvider, vm: SourceVM, disk: SourceDisk) -> bool:
    """Do one step; tell whether the disk can be read."""
    try:
        provider.open_disk(vm, disk, EXPORT).close()
    except DiskNotReady:
        return False
    return True


def prepare(
    provider: OpenstackProvider, tenant: Tenant, vm: SourceVM, kind: str = "volumes"
) -> tuple[SourceDisk, str]:
    """Prepare the volume until there is a copy of a kind; return the disk and the copy's id."""
    disk = vm.disks[1]
    lab.until(lambda: step(provider, vm, disk) or made(tenant, kind))
    (copy,) = made(tenant, kind)
    return disk, copy


def test_a_volume_is_read_byte_by_byte_though_every_step_is_another_process(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM, guest: Guest
) -> None:
    disk = vm.disks[1]
    assert (disk.size_bytes, disk.boot_order) == (lab.GIB, None)

    def another_step() -> bool:
        with closing(provider_for(cloud, secret_of(tenant))) as another:
            return step(another, vm, disk)

    lab.until(another_step)
    assert [len(made(tenant, kind)) for kind in ("snapshots", "volumes", "images")] == [1, 1, 1]
    assert lab.holds(provider, vm, disk, guest.data_raw.read_bytes())


def test_the_root_disk_is_read_byte_by_byte_and_the_server_starts_again(
    provider: OpenstackProvider, vm: SourceVM, guest: Guest
) -> None:
    assert (vm.disks[0].size_bytes, vm.disks[0].boot_order) == (guest.boot_size, 1)
    assert lab.holds(provider, vm, vm.disks[0], guest.boot_raw.read_bytes())
    lab.discard(provider, vm)
    provider.power_on(vm)
    provider.power_on(vm)
    lab.wait_for_power(provider, vm, PowerState.ON)
    with pytest.raises(InvalidPowerState):
        provider.open_disk(vm, vm.disks[0], EXPORT)
    provider.power_off(vm)
    lab.wait_for_power(provider, vm, PowerState.OFF)


def test_an_export_touches_nothing_of_another_export(
    tenant: Tenant, provider: OpenstackProvider, vm: SourceVM
) -> None:
    for export in (EXPORT, OTHER):
        with pytest.raises(DiskNotReady):
            provider.open_disk(vm, vm.disks[1], export)
    lab.discard(provider, vm)
    assert len(made(tenant, "snapshots", OTHER)) == 1
    lab.discard(provider, vm, OTHER)


def test_an_image_that_is_lost_is_told_and_made_again(
    tenant: Tenant, provider: OpenstackProvider, vm: SourceVM, guest: Guest
) -> None:
    """Nova and Cinder delete the image of an upload that has failed."""
    assert not step(provider, vm, vm.disks[0])
    (image,) = made(tenant, "images")
    tenant.wait_for_image(image)
    tenant.api.delete("image", f"/v2/images/{image}")
    with pytest.raises(ExportFailed, match="root disk 'shop-root' is gone"):
        provider.open_disk(vm, vm.disks[0], EXPORT)
    tenant.wait_for_server(vm.id, "SHUTOFF")
    assert lab.holds(provider, vm, vm.disks[0], guest.boot_raw.read_bytes())


def test_a_copy_in_error_is_told_removed_and_made_again(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM
) -> None:
    disk, copy = prepare(provider, tenant, vm)
    tenant.wait_for_volume(copy)
    cloud.set_volume_status(copy, "error")
    with pytest.raises(ExportFailed, match="copy of volume 'shop-1' is in status 'error'"):
        provider.open_disk(vm, disk, EXPORT)
    lab.until(lambda: step(provider, vm, disk) or made(tenant, "volumes") not in ([], [copy]))


def test_a_quota_that_is_used_up_is_found_before_and_told_when_met(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM
) -> None:
    cloud.set_volume_quota(tenant, snapshots=0)
    try:
        (finding,) = provider.inspect("shop").findings
        assert (finding.id, finding.prediction) == ("CinderQuotaExceeded", True)
        assert finding.message.startswith("Cinder quota 'snapshots': 1 needed")
        with pytest.raises(QuotaExceeded, match=r"[Ss]napshot"):
            provider.open_disk(vm, vm.disks[1], EXPORT)
    finally:
        cloud.set_volume_quota(tenant, snapshots=-1)


def test_the_removal_says_what_is_left(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM
) -> None:
    _, copy = prepare(provider, tenant, vm)
    with cloud.frozen("cinder-volume"), pytest.raises(DiscardNotDone, match=f"volume {copy} is "):
        provider.discard_export(vm, EXPORT, complete=True)


def test_a_copy_that_is_being_uploaded_is_removed_too(
    tenant: Tenant, provider: OpenstackProvider, vm: SourceVM
) -> None:
    prepare(provider, tenant, vm, "images")
    lab.discard(provider, vm)


@pytest.mark.parametrize(("kind", "path"), [("snapshots", "/snapshots$"), ("volumes", "/volumes$")])
def test_what_was_made_although_its_answer_was_lost_is_not_made_twice(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM, kind: str, path: str
) -> None:
    lost = cloud.gateways["volumev3"].order("lose", verb="POST", path=path)

    def met() -> bool:
        with suppress(Unreachable):
            step(provider, vm, vm.disks[1])
        return bool(lost.fired)

    lab.until(met)
    prepare(provider, tenant, vm)
    assert len(made(tenant, kind)) == 1


@pytest.mark.parametrize("service", ["identity", "compute", "volumev3", "image"])
def test_a_service_that_is_away_is_waited_for(
    cloud: OpenStackCloud, tenant: Tenant, provider: OpenstackProvider, vm: SourceVM, service: Service
) -> None:
    """Keystone is away when the token ends, else nobody would notice."""
    disk = vm.disks[1]
    step(provider, vm, disk)
    gateway = cloud.gateways[service]
    if service == "identity":
        cloud.gateways["compute"].order("answer", path=f"/servers/{vm.id}$", status=401)
    with gateway.away():
        for _ in range(2):
            with pytest.raises(Unreachable, match=f":{gateway.port}"):
                step(provider, vm, disk)
        if service != "compute":
            with pytest.raises(Unreachable, match=f":{gateway.port}"):
                provider.discard_export(vm, EXPORT, complete=False)
    prepare(provider, tenant, vm)


def test_an_export_does_not_need_the_network_service(
    cloud: OpenStackCloud, provider: OpenstackProvider, vm: SourceVM, guest: Guest
) -> None:
    gateway = cloud.gateways["network"]
    with gateway.away():
        with pytest.raises(Unreachable, match=f":{gateway.port}"):
            provider.inspect("shop")
        assert lab.holds(provider, vm, vm.disks[0], guest.boot_raw.read_bytes())


def test_a_download_that_is_cut_when_the_token_ends_goes_on_where_it_was(
    cloud: OpenStackCloud, provider: OpenstackProvider, vm: SourceVM, guest: Guest
) -> None:
    images = cloud.gateways["image"]
    cut = images.order("cut", verb="GET", path="/file$", after_bytes=1_000_000)
    refused = images.order("answer", verb="GET", path="/file$", status=401)
    with closing(lab.opened(provider, vm, vm.disks[0])) as stream:
        content = b"".join(stream.chunks())
    assert content == guest.boot_raw.read_bytes()
    assert (cut.fired, refused.fired) == (1, 1)


def test_a_download_that_is_closed_ends(provider: OpenstackProvider, vm: SourceVM) -> None:
    stream = lab.opened(provider, vm, vm.disks[0])
    stream.close()
    with pytest.raises(TransferInterrupted, match="closed"):
        list(stream.chunks())


def test_a_server_is_found_by_its_uuid_and_its_exact_name(
    provider: OpenstackProvider, shop: tuple[Tenant, Server]
) -> None:
    assert provider.inspect(shop[1].id.upper()).id == provider.inspect("shop").id == shop[1].id
    for wrong in ("sho", "shop.*", "Shop "):
        with pytest.raises(SourceVMNotFound, match="'shop'"):
            provider.inspect(wrong)
