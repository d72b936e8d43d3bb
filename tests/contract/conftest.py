"""One subject for each provider. A further one is a fixture here and an entry in `subject`."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from providers.base import SourceConfig, SourceKind, TLSPolicy
from tests.contract.subject import Subject
from tests.lab.guest import MIB, Guest, build_guest
from tests.lab.ova import Content, archive, manifest, package
from tests.lab.ova_server import OvaServer
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.openstack.cloud import OpenStackCloud

NAME = "guest"
GIB = 1 << 30
STALL_AFTER = 300_000  # bytes; less than either disk has


@pytest.fixture(params=["vmware", "ova", "openstack"])
def subject(
    request: pytest.FixtureRequest, vmware: Subject, ova: Subject, openstack: Subject
) -> Iterator[Subject]:
    """Each provider's lab, without trouble."""
    chosen = {"vmware": vmware, "ova": ova, "openstack": openstack}[request.param]
    yield chosen
    chosen.mend()


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return build_guest(tmp_path_factory.mktemp("guest"), boot_size=4 * MIB, data_size=3 * MIB)


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with VCenter() as running:
        yield running


@pytest.fixture(scope="module")
def vmware(vcenter: VCenter, guest: Guest) -> Subject:
    disks = [Disk(guest.boot_size, guest.boot_vmdk), Disk(guest.data_size, guest.data_vmdk)]
    vcenter.add_vm(NAME, disks=disks)
    vcenter.settings(lease_initializing_seconds=0.05)
    return Subject(
        config=SourceConfig(
            SourceKind.VMWARE,
            vcenter.sdk_url,
            {"username": vcenter.username, "password": vcenter.password},
            TLSPolicy(ca_pem=vcenter.ca_pem),
            {"dc": "DC0"},
        ),
        nowhere="https://127.0.0.1:1/sdk",
        vm_name=NAME,
        contents=(guest.boot_raw, guest.data_raw),
        stall=lambda: vcenter.fault("stall", vm=NAME, after_bytes=STALL_AFTER, count=-1),
        mend=vcenter.clear_faults,
    )


@pytest.fixture(scope="module")
def ova_server() -> Iterator[OvaServer]:
    with OvaServer(username="reader", password="good") as running:  # noqa: S106
        yield running


@pytest.fixture(scope="module")
def ova(ova_server: OvaServer, guest: Guest) -> Subject:
    disks: dict[str, Content] = {"one.vmdk": guest.boot_vmdk, "two.vmdk": guest.data_vmdk}
    members = package(disks, [guest.boot_size, guest.data_size], name=NAME, manifest_at="nowhere")
    papers: dict[str, Content] = {"web.ovf": _with_another_system(members["web.ovf"])}
    members = {**papers, "web.mf": manifest({**papers, **disks}), **disks}
    manners = ova_server.put("web.ova", archive(members))
    return Subject(
        config=SourceConfig(
            SourceKind.OVA,
            ova_server.url("web.ova"),
            {"username": ova_server.username, "password": ova_server.password},
            TLSPolicy(ca_pem=ova_server.ca_pem),
        ),
        nowhere="https://127.0.0.1:1/web.ova",
        vm_name=NAME,
        contents=(guest.boot_raw, guest.data_raw),
        stall=lambda: setattr(manners, "stall_after", STALL_AFTER),
        mend=lambda: setattr(manners, "stall_after", None),
    )


@pytest.fixture(scope="module")
def openstack(
    cloud: OpenStackCloud, guest: Guest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    """A server that was made of an image, with a volume, which is a whole GiB."""
    volume = tmp_path_factory.mktemp("volume") / "data.img"
    shutil.copy(guest.data_raw, volume)
    os.truncate(volume, GIB)
    with closing(cloud.new_tenant("contract")) as tenant:
        server = tenant.boot_from_image(NAME, guest.boot_raw, data=[guest.data_raw])
        tenant.act(server.id, "os-stop")
        tenant.wait_for_server(server.id, "SHUTOFF")
        images = cloud.gateways["image"]
        yield Subject(
            config=SourceConfig(
                SourceKind.OPENSTACK,
                cloud.tls_auth_url,
                {
                    "username": tenant.username,
                    "password": tenant.password,
                    "project_name": tenant.project,
                    "domain_name": tenant.domain,
                },
                TLSPolicy(ca_pem=cloud.ca_pem),
                {"region": cloud.tls_region},
            ),
            nowhere="https://127.0.0.1:1/v3",
            vm_name=NAME,
            contents=(guest.boot_raw, volume),
            stall=lambda: images.order("silence", verb="GET", path="/file$", after_bytes=STALL_AFTER),
            mend=images.clear,
        )


def _with_another_system(descriptor: Content) -> bytes:
    """Return the descriptor of a collection, in which a name can be wrong."""
    assert isinstance(descriptor, bytes)
    begin, end = b'<VirtualSystemCollection ovf:id="all">', b"</VirtualSystemCollection>"
    other = b'<VirtualSystem ovf:id="unrelated"><Info/></VirtualSystem>'
    return descriptor.replace(b"<VirtualSystem ", begin + b"<VirtualSystem ").replace(
        b"</VirtualSystem>", b"</VirtualSystem>" + other + end
    )
