"""The OVA provider against the lab's web server: packages of every shape, on servers of every kind."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing

import pytest

from providers.errors import (
    ArchiveInvalid,
    DigestMismatch,
    DiskNotReady,
    SourceChanged,
    SourceCorrupt,
    TransferInterrupted,
)
from providers.model import PowerState, SourceVM
from providers.ova.handle import Handle
from tests.integration.ova import EXPORT, MIB, only_disks, provider_for, read, read_all, vmdk
from tests.lab.ova import Content, OvfDisk, Zeros, archive, descriptor, manifest, package
from tests.lab.ova_server import Manners, OvaServer
from tests.unit.fakes import eventually

pytestmark = pytest.mark.integration

DISKS: dict[str, Content] = {"one.vmdk": vmdk(seed=1), "two.vmdk": vmdk(seed=2), "three.vmdk": vmdk(seed=3)}
SIZES = [3 * MIB] * len(DISKS)


@pytest.fixture(scope="module")
def server() -> Iterator[OvaServer]:
    with OvaServer(username="reader", password="p:ss wörd") as running:  # noqa: S106
        yield running


every_server = pytest.mark.parametrize("ranges", ["ranges", ""], ids=["ranges", "no-ranges"])


@every_server
@pytest.mark.parametrize("manifest_at", ["second", "last", "nowhere"])
def test_every_disk_comes_as_it_lies_in_the_archive(server: OvaServer, ranges: str, manifest_at: str) -> None:
    server.put(
        "web.ova", archive(package(DISKS, SIZES, manifest_at=manifest_at)), Manners(ranges=bool(ranges))
    )
    with closing(provider_for(server)) as provider:
        vm = provider.inspect("shop")
        assert {disk.name: read(provider, vm, disk) for disk in vm.disks} == DISKS
        assert [disk.size_bytes for disk in vm.disks] == SIZES
    assert (vm.name, vm.power_state) == ("shop", PowerState.OFF)
    missing = [finding.id for finding in vm.findings]
    assert missing == (
        [] if manifest_at == "second" or (ranges and manifest_at == "last") else ["ManifestMissing"]
    )


def test_a_server_without_ranges_is_asked_once_for_all_disks(server: OvaServer) -> None:
    server.put("once.ova", archive(package(DISKS, SIZES)), Manners(ranges=False))
    with closing(provider_for(server, "once.ova")) as provider:
        vm = provider.inspect("")
        server.requests.clear()
        for disk in vm.disks:
            read(provider, vm, disk)
        provider.discard_export(vm, EXPORT, complete=True)
    assert len(server.gets("once.ova")) == 1


def test_a_disk_waits_while_another_is_read_from_a_server_without_ranges(server: OvaServer) -> None:
    server.put("turns.ova", archive(package(DISKS, SIZES)), Manners(ranges=False))
    with closing(provider_for(server, "turns.ova")) as provider:
        vm = provider.inspect("")
        with closing(provider.open_disk(vm, vm.disks[0], EXPORT)) as first:
            next(iter(first.chunks()))
            with pytest.raises(DiskNotReady):
                provider.open_disk(vm, vm.disks[1], EXPORT)
            with closing(provider.open_disk(vm, vm.disks[1], "another-export")) as other:
                assert b"".join(other.chunks()) == DISKS["two.vmdk"]
        assert read(provider, vm, vm.disks[1]) == DISKS["two.vmdk"]


def test_a_disk_that_was_cut_goes_on_before_those_behind_it(server: OvaServer) -> None:
    manners = Manners(ranges=False, cuts=[MIB])
    server.put("first.ova", archive(package(DISKS, SIZES)), manners)
    with closing(provider_for(server, "first.ova")) as provider:
        vm = provider.inspect("")
        with (
            closing(provider.open_disk(vm, vm.disks[0], EXPORT)) as cut,
            pytest.raises(TransferInterrupted),
        ):
            list(cut.chunks())
        with pytest.raises(DiskNotReady):
            provider.open_disk(vm, vm.disks[1], EXPORT)
        assert {disk.name: read(provider, vm, disk) for disk in vm.disks} == DISKS
    assert len([request for request in server.gets("first.ova") if not request.range]) == 2


def test_disks_in_the_wrong_order_are_read_from_a_server_without_ranges(server: OvaServer) -> None:
    server.put("back.ova", archive(package(DISKS, SIZES)), Manners(ranges=False))
    with closing(provider_for(server, "back.ova")) as provider:
        vm = provider.inspect("")
        found = {disk.name: read(provider, vm, disk) for disk in reversed(vm.disks)}
    assert found == DISKS


def test_an_archive_without_a_length_is_read_to_its_end(server: OvaServer) -> None:
    manners = Manners(ranges=False, without_length=True, etag="")
    server.put("endless.ova", archive(package(DISKS, SIZES)), manners)
    with closing(provider_for(server, "endless.ova")) as provider:
        assert read_all(provider) == DISKS


@every_server
def test_members_may_come_in_any_order_and_beside_others(server: OvaServer, ranges: str) -> None:
    members = package(DISKS, SIZES)
    shuffled = {"README.txt": b"hello", **{name: members[name] for name in ("web.mf", "web.ovf", *DISKS)}}
    server.put("any.ova", archive({**shuffled, "web.cert": b"---"}), Manners(ranges=bool(ranges)))
    with closing(provider_for(server, "any.ova")) as provider:
        assert read_all(provider) == DISKS
        found = {finding.id for finding in provider.inspect("").findings}
    assert found == ({"CertificateNotChecked"} if ranges else set())


def test_a_descriptor_behind_the_disks_is_found_by_jumps(server: OvaServer) -> None:
    members = package(DISKS, SIZES, manifest_at="last")
    server.put(
        "late.ova",
        archive({**only_disks(members), "web.ovf": members["web.ovf"], "web.mf": members["web.mf"]}),
    )
    with closing(provider_for(server, "late.ova")) as provider:
        assert read_all(provider) == DISKS


def test_a_disk_behind_eight_gibibytes_is_reached_by_a_jump(server: OvaServer) -> None:
    disks: dict[str, Content] = {"huge.raw": Zeros(9 << 30), "one.vmdk": DISKS["one.vmdk"]}
    server.put("huge.ova", archive(package(disks, [9 << 30, 3 * MIB], manifest_at="nowhere")))
    with closing(provider_for(server, "huge.ova")) as provider:
        vm = provider.inspect("")
        assert read(provider, vm, vm.disks[1]) == DISKS["one.vmdk"]
        assert vm.disks[0].size_bytes == 9 << 30


def test_what_macs_put_beside_each_file_is_none_of_the_package(server: OvaServer) -> None:
    members = package(DISKS, SIZES)
    doubled = {
        each: content for name in members for each, content in ((f"._{name}", b"\0\5"), (name, members[name]))
    }
    server.put("mac.ova", archive(doubled))
    with closing(provider_for(server, "mac.ova")) as provider:
        assert read_all(provider) == DISKS


@pytest.mark.parametrize("stored", ["my disk.vmdk", "my%20disk.vmdk"])
def test_a_name_is_quoted_in_the_descriptor_and_perhaps_elsewhere(server: OvaServer, stored: str) -> None:
    papers: dict[str, Content] = {"web.ovf": descriptor([OvfDisk("./my%20disk.vmdk", 3 * MIB)])}
    disks: dict[str, Content] = {stored: DISKS["one.vmdk"]}
    members = {**papers, "web.mf": manifest({**papers, **disks}), **disks}
    server.put("quoted.ova", archive(members))
    with closing(provider_for(server, "quoted.ova")) as provider:
        vm = provider.inspect("")
        assert (vm.findings, read(provider, vm, vm.disks[0])) == ((), DISKS["one.vmdk"])


def test_names_in_folders_and_in_unicode_are_found(server: OvaServer) -> None:
    disks: dict[str, Content] = {"größe/one.vmdk": DISKS["one.vmdk"]}
    members = {f"./My VM/{name}": content for name, content in package(disks, SIZES[:1]).items()}
    server.put("My VM.ova", archive(members))
    with closing(provider_for(server, "My VM.ova")) as provider:
        assert read_all(provider) == disks


@every_server
def test_a_descriptor_with_its_files_beside_it_is_a_package_too(server: OvaServer, ranges: str) -> None:
    for name, content in package(DISKS, SIZES).items():
        server.put(f"folder/{name}", [content], Manners(ranges=bool(ranges)))
    with closing(provider_for(server, "folder/web.ovf")) as provider:
        assert read_all(provider) == DISKS
        assert provider.inspect("").findings == ()


@every_server
@pytest.mark.parametrize("beside", ["", "beside"], ids=["archive", "beside"])
def test_compressed_disks_in_chunks_come_whole(server: OvaServer, ranges: str, beside: str) -> None:
    raw = bytes(range(256)) * 4096
    packed = gzip.compress(raw[: MIB // 2]) + gzip.compress(raw[MIB // 2 :])
    size = 700
    chunks: dict[str, Content] = {
        f"disk.raw.gz.{number:09d}": packed[at : at + size]
        for number, at in enumerate(range(0, len(packed), size))
    }
    assert len(chunks) > 2
    told = f'ovf:compression="gzip" ovf:chunkSize="{size}"'
    disk = OvfDisk("disk.raw.gz", len(raw), len(packed), "http://en.wikipedia.org/wiki/Byte", told)
    papers: dict[str, Content] = {"web.ovf": descriptor([disk])}
    members = {**papers, "web.mf": manifest({**papers, **chunks}, "sha512"), **chunks}
    if beside:
        for name, content in members.items():
            server.put(f"chunked-{ranges}/{name}", [content], Manners(ranges=bool(ranges)))
    else:
        server.put(f"chunked-{ranges}/web.ova", archive(members), Manners(ranges=bool(ranges)))
    with closing(provider_for(server, f"chunked-{ranges}/web.{'ovf' if beside else 'ova'}")) as provider:
        assert read_all(provider) == {"disk.raw.gz": raw}


def test_a_blank_disk_has_a_format_and_no_bytes(server: OvaServer) -> None:
    disks = [OvfDisk("one.vmdk", 3 * MIB), OvfDisk("", 5 << 30)]
    server.put("blank.ova", archive({"web.ovf": descriptor(disks), "one.vmdk": DISKS["one.vmdk"]}))
    with closing(provider_for(server, "blank.ova")) as provider:
        vm = provider.inspect("")
        with closing(provider.open_disk(vm, vm.disks[1], EXPORT)) as stream:
            assert (stream.format, stream.length, list(stream.chunks())) == ("blank", 0, [])
        assert vm.disks[1].size_bytes == 5 << 30


def test_a_package_within_its_first_window_takes_one_request_to_look_at(server: OvaServer) -> None:
    server.put("small.ova", archive(package({"d.raw": b"x" * 512}, [512])))
    server.requests.clear()
    with closing(provider_for(server, "small.ova")) as provider:
        provider.inspect("")
    assert len(server.requests) == 1


def test_the_size_of_the_image_counts_and_the_difference_is_told(server: OvaServer) -> None:
    server.put("rounded.ova", archive(package(DISKS, [4 * MIB, 3 * MIB, 3 * MIB])))
    with closing(provider_for(server, "rounded.ova")) as provider:
        vm = provider.inspect("")
    assert [disk.size_bytes for disk in vm.disks] == SIZES
    assert [finding.id for finding in vm.findings] == ["CapacityDiffers"]


@pytest.mark.parametrize(
    "href", ["../one.vmdk", "/etc/passwd", "http://192.0.2.1/one.vmdk", "a/../../one.vmdk"]
)
def test_a_file_that_lies_elsewhere_is_no_file_of_the_package(server: OvaServer, href: str) -> None:
    server.put("out/web.ovf", [descriptor([OvfDisk(href, 3 * MIB)])])
    server.requests.clear()
    with closing(provider_for(server, "out/web.ovf")) as provider:
        vm = provider.inspect("")
    assert "does not lie beside it" in (vm.disks[0].unsupported or "")
    assert {request.path for request in server.requests} == {"/out/web.ovf", "/out/web.mf"}


def test_a_file_that_is_not_there_is_told_before_anything_is_read(server: OvaServer) -> None:
    members = package(DISKS, SIZES, manifest_at="nowhere")
    del members["two.vmdk"]
    server.put("gap.ova", archive(members))
    for name, content in members.items():
        server.put(f"gap/{name}", [content])
    for name, words in (
        ("gap.ova", "not in the archive"),
        ("gap/web.ovf", "does not lie beside the descriptor"),
    ):
        with closing(provider_for(server, name)) as provider:
            vm = provider.inspect("")
        assert [words in (disk.unsupported or "") for disk in vm.disks] == [False, True, False]


def test_a_cut_connection_goes_on_where_it_was_cut(server: OvaServer) -> None:
    manners = server.put("cut.ova", archive(package(DISKS, SIZES)))
    with closing(provider_for(server, "cut.ova")) as provider:
        vm = provider.inspect("")
        server.requests.clear()
        manners.cuts += [300_000, 0, 200_000]
        assert read(provider, vm, vm.disks[0]) == DISKS["one.vmdk"]
    length = Handle.decode(vm.disks[0].handle).parts[0].length
    eventually(lambda: sum(request.sent for request in server.gets("cut.ova")) == length)
    assert len(server.gets("cut.ova")) == 4


@every_server
def test_another_file_in_its_place_is_noticed(server: OvaServer, ranges: str) -> None:
    manners = server.put(f"new-{ranges}.ova", archive(package(DISKS, SIZES)), Manners(ranges=bool(ranges)))
    with closing(provider_for(server, f"new-{ranges}.ova")) as provider:
        vm = provider.inspect("")
        manners.etag = '"2"'
        with pytest.raises(SourceChanged):
            read(provider, vm, vm.disks[0])


def damaged(members: dict[str, Content], name: str) -> dict[str, Content]:
    content = members[name]
    assert isinstance(content, bytes)
    return {**members, name: content[:-1] + bytes([content[-1] ^ 1])}


@every_server
@pytest.mark.parametrize("manifest_at", ["second", "last"])
def test_a_wrong_digest_is_read_again_and_then_final(
    server: OvaServer, ranges: str, manifest_at: str
) -> None:
    members = damaged(package(DISKS, SIZES, manifest_at=manifest_at), "two.vmdk")
    name = f"wrong-{ranges}-{manifest_at}.ova"
    server.put(name, archive(members), Manners(ranges=bool(ranges)))
    with closing(provider_for(server, name)) as provider:
        vm = provider.inspect("")
        assert read(provider, vm, vm.disks[0]) == DISKS["one.vmdk"]
        with pytest.raises(DigestMismatch, match=r"two\.vmdk does not have the sha256 digest"):
            read(provider, vm, vm.disks[1])
        with pytest.raises(SourceCorrupt, match="damaged at the source"):
            read(provider, vm, vm.disks[1])
        assert read(provider, vm, vm.disks[2]) == DISKS["three.vmdk"]


def test_a_descriptor_with_a_wrong_digest_is_refused(server: OvaServer) -> None:
    server.put("forged.ova", archive(damaged(package(DISKS, SIZES), "web.ovf")))
    with (
        closing(provider_for(server, "forged.ova")) as provider,
        pytest.raises(SourceCorrupt, match=r"web\.ovf"),
    ):
        provider.inspect("")


def test_a_truncated_archive_is_told_at_the_first_look(server: OvaServer) -> None:
    whole = b"".join(part for part in archive(package(DISKS, SIZES)) if isinstance(part, bytes))
    server.put("short.ova", [whole[:-500_000]])
    with (
        closing(provider_for(server, "short.ova")) as provider,
        pytest.raises(ArchiveInvalid, match="ends inside"),
    ):
        provider.inspect("")


def test_a_truncated_archive_on_a_server_without_ranges_ends_the_disk_that_is_cut(server: OvaServer) -> None:
    whole = b"".join(part for part in archive(package(DISKS, SIZES)) if isinstance(part, bytes))
    server.put("stump.ova", [whole[:-500_000]], Manners(ranges=False))
    with closing(provider_for(server, "stump.ova")) as provider:
        vm = provider.inspect("")
        assert read(provider, vm, vm.disks[1]) == DISKS["two.vmdk"]
        with pytest.raises(ArchiveInvalid, match="ends inside"):
            read(provider, vm, vm.disks[2])


def test_a_gzip_bomb_is_refused_before_it_fills_a_volume(server: OvaServer) -> None:
    bomb = gzip.compress(bytes(80 * MIB), 1)
    disk = OvfDisk("bomb.qcow2.gz", 2 * MIB, len(bomb), attributes='ovf:compression="gzip"')
    server.put("bomb.ova", archive({"web.ovf": descriptor([disk]), "bomb.qcow2.gz": bomb}))
    with closing(provider_for(server, "bomb.ova")) as provider:
        vm = provider.inspect("")
        with pytest.raises(ArchiveInvalid, match="inflates to more"):
            read(provider, vm, vm.disks[0])


@every_server
def test_closing_a_stream_ends_its_reader_at_once(server: OvaServer, ranges: str) -> None:
    name = f"stall-{ranges}.ova"
    manners = server.put(name, archive(package(DISKS, SIZES)), Manners(ranges=bool(ranges)))
    with closing(provider_for(server, name)) as provider:
        vm: SourceVM = provider.inspect("")
        manners.stall_after = 256 * 1024
        stream = provider.open_disk(vm, vm.disks[0], EXPORT)
        chunks = stream.chunks()
        next(chunks)
        stream.close()
        with pytest.raises(TransferInterrupted, match="closed by the reader"):
            list(chunks)


def test_silence_ends_a_download_and_zero_is_no_limit(server: OvaServer) -> None:
    manners = server.put("silent.ova", archive(package(DISKS, SIZES)), Manners(ranges=False))
    with closing(provider_for(server, "silent.ova", httpTimeoutSeconds="5")) as provider:
        vm = provider.inspect("")
        manners.stall_after = 256 * 1024
        with pytest.raises(TransferInterrupted, match="no byte for 5 s"):
            read(provider, vm, vm.disks[0])
    manners.stall_after = None
    for unlimited in ("0", "9223372036854775807"):  # more than a socket can wait
        with closing(provider_for(server, "silent.ova", httpTimeoutSeconds=unlimited)) as provider:
            assert read(provider, vm, vm.disks[0]) == DISKS["one.vmdk"]


def test_a_handle_outlives_the_provider_that_made_it(server: OvaServer) -> None:
    server.put("again.ova", archive(package(DISKS, SIZES)))
    with closing(provider_for(server, "again.ova")) as provider:
        vm = SourceVM.from_dict(provider.inspect("").to_dict())
    with closing(provider_for(server, "again.ova")) as another:
        assert read(another, vm, vm.disks[2]) == DISKS["three.vmdk"]
