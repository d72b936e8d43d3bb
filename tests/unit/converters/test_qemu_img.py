from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import converters
from converters import qemu_img
from converters.digest import sparse_sha256
from converters.errors import (
    Cancelled,
    ConverterFailed,
    CorruptImage,
    DiskFull,
    SizeMismatch,
    TruncatedImage,
    UnsupportedFormat,
)
from converters.formats import DiskFormat
from converters.raw import SparseRawFile
from tests.unit.converters.images import decode, in_pieces, mixed_disk, qemu_encode, reference_digest
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 8 * 1024 * 1024  # all formats can have it exactly
FORMATS = [
    ("qcow2", ""),
    ("vhdx", ""),
    ("vdi", ""),
    ("vpc", "force_size=on"),
    ("vpc", "force_size=on,subformat=fixed"),
    ("vmdk", "subformat=monolithicSparse"),
]


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_formats_that_cannot_be_streamed_are_converted(
    tmp_path: Path, image_format: str, options: str
) -> None:
    disk = mixed_disk(SIZE, seed=1, density=0.2)
    image = qemu_encode(disk, tmp_path, image_format, options)
    raw, digest, reports = decode(image_format, in_pieces(image, 100_000), tmp_path / "disk", SIZE)
    assert raw == disk
    assert digest == reference_digest(disk)
    assert reports == sorted(reports)
    assert reports[-1] == SIZE
    assert (tmp_path / "disk").stat().st_blocks * 512 < SIZE


@pytest.mark.parametrize("length_known", [True, False])
def test_progress_counts_the_storing_where_its_end_is_known(tmp_path: Path, *, length_known: bool) -> None:
    """A download of hours that stands at 0 % looks dead."""
    image = qemu_encode(mixed_disk(SIZE, seed=1, density=0.2), tmp_path, "qcow2")
    reports: list[int] = []
    stored: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield from in_pieces(image, len(image) // 10)
        stored.extend(reports)

    with SparseRawFile(tmp_path / "disk", SIZE) as sink:
        converters.decode(
            "qcow2",
            chunks(),
            sink,
            expected_size=SIZE,
            on_progress=reports.append,
            stop=threading.Event(),
            length=len(image) if length_known else None,
        )
    assert bool(stored) is length_known
    assert all(0 < done <= SIZE // 2 for done in stored)
    assert reports == sorted(reports)
    assert reports[-1] == SIZE


def test_nothing_but_the_image_is_left(tmp_path: Path) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    before = set(tmp_path.iterdir())
    decode("qcow2", [image], tmp_path / "disk", SIZE)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "disk"}
    with pytest.raises(SizeMismatch):
        decode("qcow2", [image], tmp_path / "other", SIZE // 2)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "disk", tmp_path / "other"}


@pytest.mark.parametrize("wrong", [SIZE - 512, SIZE + 512, SIZE * 2])
def test_another_virtual_size_is_refused(tmp_path: Path, wrong: int) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    with pytest.raises(SizeMismatch, match=str(SIZE)):
        decode("qcow2", [image], tmp_path / "disk", wrong)


def test_the_format_is_never_guessed(tmp_path: Path) -> None:
    inner = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2").ljust(SIZE, b"\0")
    with pytest.raises(UnsupportedFormat, match="declared as vmdk"):
        decode("vmdk", [inner], tmp_path / "other", len(inner))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="'floppy'"):
        decode("floppy", [b""], tmp_path / "disk", SIZE)


def with_backing_file(folder: Path) -> bytes:
    (folder / "secret").write_bytes(b"secret" * 1000)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(folder / "secret"), "-F", "raw"]
    subprocess.run([*command, str(folder / "backed"), str(SIZE)], check=True)
    return (folder / "backed").read_bytes()


def with_data_file(folder: Path) -> bytes:
    options = f"data_file={folder}/outside,data_file_raw=on"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, folder / "q", str(SIZE)], check=True
    )
    return (folder / "q").read_bytes()


def vmdk_descriptor(folder: Path) -> bytes:
    del folder
    text = '# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/passwd" 0\n'
    return text.encode().ljust(2048, b"\n")


def vmdk_without_capacity(folder: Path) -> bytes:
    """Qemu takes the descriptor of such a file for the list of extents to open."""
    image = bytearray(qemu_encode(bytes(SIZE), folder, "vmdk"))
    struct.pack_into("<Q", image, 12, 0)
    return bytes(image)


def vmdk_with_parent(folder: Path) -> bytes:
    image = qemu_encode(bytes(SIZE), folder, "vmdk")
    assert b"parentCID=ffffffff" in image
    return image.replace(b"parentCID=ffffffff", b"parentCID=12345678")


def vmdk_with_parent_by_name(folder: Path) -> bytes:
    """Its identifier says that it has no parent; QEMU goes by the name, from there to an extent of ours."""
    secret, parent = folder / "secret", folder / "parent"
    secret.write_bytes(b"of another tenant".ljust(SIZE, b"."))
    extent = f'RW {SIZE // 512} FLAT "{secret}" 0\n'
    head = "# Disk DescriptorFile\nversion=1\nCID=ffffffff\nparentCID=ffffffff\n"
    parent.write_text(f'{head}createType="monolithicFlat"\n{extent}')
    image = bytearray(qemu_encode(bytes(SIZE), folder, "vmdk"))
    descriptor = f'{head}parentFileNameHint="{parent}"\ncreateType="monolithicSparse"\n'
    image[512 : 512 + 20 * 512] = descriptor.encode().ljust(20 * 512, b"\0")
    return bytes(image)


def vmdk_with_two_descriptors(folder: Path) -> bytes:
    """Its header points to a harmless descriptor; QEMU reads the one behind the header."""
    image = bytearray(vmdk_with_parent_by_name(folder))
    harmless = b"# Disk DescriptorFile\nversion=1\nCID=ffffffff\nparentCID=ffffffff\n"
    struct.pack_into("<QQ", image, 28, len(image) // 512, 1)
    return bytes(image) + harmless.ljust(512, b"\0")


def differencing_vhd(folder: Path) -> bytes:
    """QEMU takes what is in its parent for zeros."""
    image = bytearray(qemu_encode(mixed_disk(SIZE), folder, "vpc", "force_size=on"))
    for at in (0, len(image) - 512):
        struct.pack_into(">II", image, at + 60, 4, 0)
        struct.pack_into(">I", image, at + 64, ~sum(image[at : at + 512]) & 0xFFFF_FFFF)
    return bytes(image)


HOSTILE_PARENTS = [vmdk_with_parent_by_name, vmdk_with_two_descriptors]


@pytest.mark.parametrize("make", HOSTILE_PARENTS)
def test_qemu_opens_no_parent_even_if_the_check_were_outwitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], bytes]
) -> None:
    monkeypatch.setattr(qemu_img, "refuse_references", lambda *_: None)
    raw, _, _ = decode("vmdk", [make(tmp_path)], tmp_path / "disk", SIZE)
    assert raw == bytes(SIZE)


@pytest.mark.parametrize(
    ("image_format", "make"),
    [
        ("qcow2", with_backing_file),
        ("qcow2", with_data_file),
        ("vmdk", vmdk_descriptor),
        ("vmdk", vmdk_without_capacity),
        ("vmdk", vmdk_with_parent),
        *(("vmdk", make) for make in HOSTILE_PARENTS),
        ("vpc", differencing_vhd),
    ],
)
def test_an_image_that_refers_to_another_file_is_refused(
    tmp_path: Path, image_format: str, make: Callable[[Path], bytes]
) -> None:
    with pytest.raises(UnsupportedFormat):
        decode(image_format, [make(tmp_path)], tmp_path / "disk", SIZE)
    assert (tmp_path / "disk").stat().st_blocks == 0


@pytest.mark.parametrize("length", [0, 3, 40, 511])
def test_a_header_cut_short_is_truncation(tmp_path: Path, length: int) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    with pytest.raises(TruncatedImage):
        decode("qcow2", [image[:length]], tmp_path / "disk", SIZE)


def test_an_image_that_qemu_img_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    image = bytearray(qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2"))
    struct.pack_into(">I", image, 20, 63)  # cluster_bits
    with pytest.raises(ConverterFailed, match=r"info failed.*cluster"):
        decode("qcow2", [bytes(image)], tmp_path / "disk", SIZE)


def test_a_file_that_is_no_vmdk_header_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    with pytest.raises(CorruptImage):
        qemu_img.convert(
            tmp_path / "short",
            DiskFormat.QCOW2,
            tmp_path / "disk",
            size_bytes=SIZE,
            on_progress=lambda _: None,
            stop=threading.Event(),
        )


def test_a_missing_program_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConverterFailed, match="qemu-img"):
        decode("qcow2", [image], tmp_path / "disk", SIZE)


def slow_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A qemu-img that tells the size, writes down its process, and then never ends by itself."""
    program = folder / "bin" / "qemu-img"
    program.parent.mkdir()
    answer = json.dumps({"virtual-size": SIZE})
    program.write_text(
        f"#!{sys.executable}\nimport os, signal, sys\n"
        f"if sys.argv[1] == 'info':\n    print('''{answer}''')\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('    (12.50/100%)', end='\\r', flush=True)\n"
        f"open('{folder}/new', 'w').write(f'{{os.getpid()}} {{os.getpgid(0)}}')\n"
        f"os.rename('{folder}/new', '{folder}/pid')\n"
        "signal.pause()\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_stop_kills_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    (tmp_path / "image").write_bytes(image)
    slow_program(tmp_path, monkeypatch)
    stop = threading.Event()
    reports: list[int] = []
    errors: list[Cancelled] = []

    def run() -> None:
        try:
            qemu_img.convert(
                tmp_path / "image",
                DiskFormat.QCOW2,
                tmp_path / "disk",
                size_bytes=SIZE,
                on_progress=reports.append,
                stop=stop,
            )
        except Cancelled as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    eventually((tmp_path / "pid").exists)
    pid, group = map(int, (tmp_path / "pid").read_text().split())
    assert group == pid != os.getpgid(0), "not a process group of its own"
    eventually(lambda: reports)
    stop.set()
    thread.join(60)
    assert errors
    assert reports == [SIZE // 8]
    assert not is_running(pid)


def test_the_program_dies_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    (tmp_path / "image").write_bytes(image)
    slow_program(tmp_path, monkeypatch)
    code = (
        "import pathlib, threading\n"
        "from converters import qemu_img\n"
        "from converters.formats import DiskFormat\n"
        f"folder = pathlib.Path('{tmp_path}')\n"
        "qemu_img.convert(folder / 'image', DiskFormat.QCOW2, folder / 'disk',"
        f" size_bytes={SIZE}, on_progress=lambda _: None, stop=threading.Event())"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(qemu_img.__file__).parent.parent) as parent:
        eventually((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text().split()[0])
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not is_running(pid))


def test_no_room_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\ncase $1 in info) echo '{{\"virtual-size\": {SIZE}}}';; *)\n"
        "echo 'qemu-img: error while writing at byte 0: No space left on device' >&2; exit 1;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(DiskFull, match="No space left"):
        decode("qcow2", [image], tmp_path / "disk", SIZE)


def test_a_stop_ends_the_reading_of_what_was_converted(tmp_path: Path) -> None:
    image = qemu_encode(mixed_disk(SIZE), tmp_path, "qcow2")
    stop = threading.Event()
    with SparseRawFile(tmp_path / "disk", SIZE) as sink, pytest.raises(Cancelled):
        converters.decode(
            "qcow2",
            [image],
            sink,
            expected_size=SIZE,
            on_progress=lambda done: stop.set() if done == SIZE else None,
            stop=stop,
        )


def test_the_largest_disks_are_within_the_limits_of_the_program(tmp_path: Path) -> None:
    size = 15 * 2**40  # ext4 has no larger files; the limits are made for 16 TiB
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "large", str(size)], check=True)
    with SparseRawFile(tmp_path / "disk", size) as sink:
        converters.decode(
            "qcow2",
            [(tmp_path / "large").read_bytes()],
            sink,
            expected_size=size,
            on_progress=lambda _: None,
            stop=threading.Event(),
        )
        assert sink.finish() == sparse_sha256(tmp_path / "disk")
    assert (tmp_path / "disk").stat().st_blocks == 0
