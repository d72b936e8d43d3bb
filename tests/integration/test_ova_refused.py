"""What the OVA provider finds wrong with a package before any of its disks is read."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing

import pytest

from providers.errors import ManifestInvalid, ProviderError
from tests.integration.ova import MIB, provider_for, vmdk
from tests.lab.ova import Content, OvfDisk, Zeros, archive, descriptor, manifest, package
from tests.lab.ova_server import OvaServer

pytestmark = pytest.mark.integration

DISKS: dict[str, Content] = {"one.vmdk": vmdk(seed=1), "two.vmdk": vmdk(seed=2)}
SIZES = [3 * MIB] * len(DISKS)


@pytest.fixture(scope="module")
def server() -> Iterator[OvaServer]:
    with OvaServer() as running:
        yield running


TWIN = archive({"a.vmdk": b"2"})
BAD: dict[str, tuple[list[Content], str]] = {
    "a web page": ([b"<html>sign in</html>"], "descriptor is no OVF"),
    "no descriptor": (archive({"disk.vmdk": b"x"}), "holds no descriptor"),
    "compressed": ([gzip.compress(b"x" * 5000)], "compressed as a whole"),
    "no archive": ([b"MZ" + bytes(5000)], "no tar archive"),
    "nothing": ([b""], "416|empty"),
    "two files of one name": (
        [*archive({"web.ovf": descriptor([OvfDisk("a.vmdk", 512)]), "a.vmdk": b"1"})[:-1], *TWIN],
        "two files called",
    ),
    "a huge descriptor": (archive({"web.ovf": Zeros(1 << 33)}), "descriptor web.ovf has 8589934592 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_package_is_refused_with_what_is_wrong(server: OvaServer, name: str) -> None:
    parts, words = BAD[name]
    server.put(f"{name}.ova", parts)
    with closing(provider_for(server, f"{name}.ova")) as provider, pytest.raises(ProviderError, match=words):
        provider.inspect("")


def test_a_disk_that_the_manifest_leaves_out_is_told(server: OvaServer) -> None:
    members = package(DISKS, SIZES)
    members["web.mf"] = manifest({name: content for name, content in members.items() if name != "two.vmdk"})
    server.put("partly.ova", archive(members))
    with closing(provider_for(server, "partly.ova")) as provider:
        (finding,) = provider.inspect("").findings
    assert (finding.id, "two.vmdk" in finding.message) == ("ManifestIncomplete", True)


def test_a_manifest_that_is_none_is_refused(server: OvaServer) -> None:
    server.put("scribble.ova", archive({**package(DISKS, SIZES), "web.mf": b"scribble"}))
    with (
        closing(provider_for(server, "scribble.ova")) as provider,
        pytest.raises(ManifestInvalid, match="line 1"),
    ):
        provider.inspect("")
