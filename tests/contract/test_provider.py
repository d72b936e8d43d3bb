"""The promises of `providers.base.Provider`, for each kind of source alike."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import converters
from converters.digest import sparse_sha256
from converters.formats import DiskFormat
from converters.raw import SparseRawFile
from converters.stream import checked
from providers.errors import (
    AuthenticationFailed,
    ProviderError,
    SourceVMNotFound,
    TransferInterrupted,
    Unreachable,
)
from providers.model import PowerState, SourceDisk, SourceVM
from tests.integration.vmware import persistently

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from providers.base import DiskStream, Provider
    from tests.contract.subject import Subject

pytestmark = pytest.mark.integration

EXPORT = "7f3c1f0e-1111-4222-8333-444455556666-abc123"


@pytest.fixture
def provider(subject: Subject) -> Iterator[Provider]:
    with closing(subject.connect()) as connected:
        yield connected


@pytest.fixture
def vm(provider: Provider, subject: Subject) -> Iterator[SourceVM]:
    found = provider.inspect(subject.vm_name)
    yield found
    subject.mend()
    with closing(subject.connect()) as another:  # for the test may have closed its own
        persistently(lambda: another.discard_export(found, EXPORT, complete=False))


def decoded(stream: DiskStream, size: int, path: Path) -> str:
    """Bring a stream to its end as the transfer pool does; return the digest of the raw image."""
    with closing(stream), SparseRawFile(path, size) as sink:
        converters.decode(
            stream.format,
            checked(stream.chunks(), stream.length, stream.checksum),
            sink,
            expected_size=size,
            on_progress=lambda done: stream.report(done / size),
            stop=threading.Event(),
        )
        return sink.finish()


def opened(provider: Provider, vm: SourceVM, disk: SourceDisk) -> DiskStream:
    """Begin to read a disk, however often its source has to be asked."""
    return persistently(lambda: provider.open_disk(vm, disk, EXPORT))


def test_a_source_is_verified_with_a_word_about_it(provider: Provider) -> None:
    verified = provider.verify()

    assert verified.message
    assert verified.tls_fingerprint is None  # the CA has vouched for it


def test_a_wrong_password_is_told_and_not_repeated(subject: Subject) -> None:
    with closing(subject.connect_with_password("wrong-horse")) as provider:
        with pytest.raises(AuthenticationFailed) as raised:
            provider.verify()
        assert "wrong-horse" not in str(raised.value)


def test_where_nobody_listens_nothing_is_reached(subject: Subject) -> None:
    with closing(subject.connect_nowhere()) as provider, pytest.raises(Unreachable):
        provider.verify()


def test_a_description_is_possible_and_survives_the_status(subject: Subject, vm: SourceVM) -> None:
    assert SourceVM.from_dict(vm.to_dict()) == vm
    assert vm.name == subject.vm_name
    assert vm.cpu_count > 0
    assert vm.memory_mib > 0
    assert [disk.size_bytes for disk in vm.disks] == [raw.stat().st_size for raw in subject.contents]
    assert all(disk.handle and not disk.unsupported for disk in vm.disks)
    assert len({disk.key for disk in vm.disks}) == len(vm.disks)


def test_looking_twice_gives_the_same(provider: Provider, subject: Subject, vm: SourceVM) -> None:
    assert provider.inspect(subject.vm_name) == vm


def test_a_name_that_nobody_has_is_answered_for_good(provider: Provider) -> None:
    with pytest.raises(SourceVMNotFound, match="no-such-machine") as raised:
        provider.inspect("no-such-machine")
    assert not raised.value.retryable


def test_switching_off_what_is_off_is_success(provider: Provider, vm: SourceVM) -> None:
    assert provider.power_state(vm) is PowerState.OFF
    provider.power_off(vm)
    provider.request_shutdown(vm)
    assert provider.power_state(vm) is PowerState.OFF


def test_each_disk_comes_to_the_byte(
    subject: Subject, provider: Provider, vm: SourceVM, tmp_path: Path
) -> None:
    for number, (disk, raw) in enumerate(zip(vm.disks, subject.contents, strict=True)):
        stream = opened(provider, vm, disk)
        assert stream.format in set(DiskFormat)
        assert decoded(stream, disk.size_bytes, tmp_path / str(number)) == sparse_sha256(raw)
    persistently(lambda: provider.discard_export(vm, EXPORT, complete=True))


def test_another_process_goes_on_with_what_the_status_says(
    subject: Subject, provider: Provider, vm: SourceVM, tmp_path: Path
) -> None:
    provider.close()
    kept = SourceVM.from_dict(vm.to_dict())
    disk = min(kept.disks, key=lambda disk: disk.size_bytes)  # any will do, and OpenStack's volumes are large
    with closing(subject.connect()) as another:
        digest = decoded(opened(another, kept, disk), disk.size_bytes, tmp_path / "raw")
        persistently(lambda: another.discard_export(kept, EXPORT, complete=False))
    assert digest == sparse_sha256(subject.contents[kept.disks.index(disk)])


def test_a_disk_that_was_given_up_can_be_read_again(
    subject: Subject, provider: Provider, vm: SourceVM, tmp_path: Path
) -> None:
    disk = vm.disks[0]
    stream = opened(provider, vm, disk)
    next(iter(stream.chunks()))
    stream.close()
    stream.close()

    assert decoded(opened(provider, vm, disk), disk.size_bytes, tmp_path / "raw") == sparse_sha256(
        subject.contents[0]
    )


def test_disks_may_be_read_at_the_same_time(
    subject: Subject, provider: Provider, vm: SourceVM, tmp_path: Path
) -> None:
    digests: dict[int, str] = {}

    def read(number: int) -> None:
        disk = vm.disks[number]
        digests[number] = decoded(opened(provider, vm, disk), disk.size_bytes, tmp_path / str(number))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(vm.disks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == {number: sparse_sha256(raw) for number, raw in enumerate(subject.contents)}


def test_closing_a_stream_wakes_its_reader(subject: Subject, provider: Provider, vm: SourceVM) -> None:
    subject.stall()
    stream = opened(provider, vm, vm.disks[0])
    begun = threading.Event()
    raised: list[BaseException] = []

    def read() -> None:
        try:
            for _ in stream.chunks():
                begun.set()
        except ProviderError as exc:
            raised.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    stream.close()
    reader.join(30)
    assert not reader.is_alive()
    assert [type(exc) for exc in raised] == [TransferInterrupted]


def test_an_export_can_be_discarded_at_any_time_and_again(provider: Provider, vm: SourceVM) -> None:
    persistently(lambda: provider.discard_export(vm, EXPORT, complete=False))
    opened(provider, vm, vm.disks[0]).close()
    for complete in (False, True):
        persistently(lambda complete=complete: provider.discard_export(vm, EXPORT, complete=complete))  # type: ignore[misc]


def test_closing_twice_is_closing(subject: Subject) -> None:
    provider = subject.connect()
    provider.verify()
    provider.close()
    provider.close()
