"""One subject for each provider. A further one is a fixture here and an entry in `subject`."""

from __future__ import annotations

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

NAME = "guest"
STALL_AFTER = 300_000  # bytes; less than either disk has


@pytest.fixture(params=["vmware", "ova"])
def subject(request: pytest.FixtureRequest, vmware: Subject, ova: Subject) -> Iterator[Subject]:
    """Each provider's lab, without trouble."""
    chosen = {"vmware": vmware, "ova": ova}[request.param]
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


def _with_another_system(descriptor: Content) -> bytes:
    """Return the descriptor of a collection, in which a name can be wrong."""
    assert isinstance(descriptor, bytes)
    begin, end = b'<VirtualSystemCollection ovf:id="all">', b"</VirtualSystemCollection>"
    other = b'<VirtualSystem ovf:id="unrelated"><Info/></VirtualSystem>'
    return descriptor.replace(b"<VirtualSystem ", begin + b"<VirtualSystem ").replace(
        b"</VirtualSystem>", b"</VirtualSystem>" + other + end
    )
