"""Many VMDKs, decoded by us and by qemu-img: the same bytes."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

import converters
from converters.digest import sparse_sha256
from converters.raw import SparseRawFile
from tests.lab import streamvmdk
from tests.lab.streamvmdk import GRAIN, SECTOR, TABLE_ENTRIES, Style

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
TIB = 1024**4

# size, and (offset, data) of what it holds
DISKS: dict[str, tuple[int, list[tuple[int, bytes]]]] = {
    "empty": (5 * MIB, []),
    "one sector": (SECTOR, [(0, b"s" * SECTOR)]),
    "one grain": (GRAIN, [(0, b"g" * GRAIN)]),
    "full": (3 * MIB, [(0, bytes(range(256)) * (3 * MIB // 256))]),
    "odd size": (
        33 * MIB + 3 * SECTOR,
        [(7 * MIB + 512, b"odd" * 100_000), (33 * MIB + SECTOR, b"e" * 1024)],
    ),
    "one table": (TABLE_ENTRIES * GRAIN, [(0, b"a"), (TABLE_ENTRIES * GRAIN - 1, b"z")]),
    "beyond 2 TiB": (
        2 * TIB + 5 * MIB,
        [(0, b"a" * 5000), (TIB + 77 * SECTOR, b"m" * MIB), (2 * TIB, b"z" * MIB)],
    ),
}
QEMU = [
    "",
    ",zeroed_grain=on",
    ",adapter_type=lsilogic",
    ",adapter_type=buslogic,hwversion=21",
    ",adapter_type=legacyESX,toolsversion=2147483647",
    ",compat6=on",
]
STYLES = {
    "esxi": Style(),
    "no footer": Style(footer=False),
    "shuffled": Style(shuffle_seed=5),
    "zeros stored": Style(zero_grains=True),
    "short last grain": Style(short_last_grain=True),
    "unknown markers": Style(unknown_markers=3),
    "not deflated": Style(level=0),
    "best deflated": Style(level=9),
}
SMALL = [disk for disk, (size, _) in DISKS.items() if size < TIB]  # qemu-img is slow with the other


def make_raw(path: Path, disk: str) -> None:
    size, pieces = DISKS[disk]
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


def compare(tmp_path: Path, vmdk: Path, size: int) -> None:
    """Decode by both, and compare with the raw disk that it was made of."""
    with SparseRawFile(tmp_path / "ours", size) as sink, vmdk.open("rb") as file:
        converters.decode(
            "vmdk",
            iter(lambda: file.read(100_000), b""),
            sink,
            expected_size=size,
            on_progress=lambda _: None,
            stop=threading.Event(),
        )
        digest = sink.finish()
    command = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw"]
    subprocess.run([*command, vmdk, tmp_path / "theirs"], check=True)
    assert digest == sparse_sha256(tmp_path / "theirs") == sparse_sha256(tmp_path / "raw")
    assert sparse_sha256(tmp_path / "ours") == digest
    if size < TIB:
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(
    ("disk", "options"), [*((disk, options) for disk in SMALL for options in QEMU), ("beyond 2 TiB", "")]
)
def test_what_qemu_img_writes_is_read_as_qemu_img_reads_it(tmp_path: Path, disk: str, options: str) -> None:
    make_raw(tmp_path / "raw", disk)
    vmdk = tmp_path / "vmdk"
    options = f"subformat=streamOptimized{options}"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options]
    subprocess.run([*command, tmp_path / "raw", vmdk], check=True)
    compare(tmp_path, vmdk, DISKS[disk][0])


@pytest.mark.parametrize(
    ("disk", "style"), [*((disk, style) for disk in SMALL for style in STYLES), ("beyond 2 TiB", "esxi")]
)
def test_what_others_write_is_read_as_qemu_img_reads_it(tmp_path: Path, disk: str, style: str) -> None:
    make_raw(tmp_path / "raw", disk)
    vmdk = tmp_path / "vmdk"
    streamvmdk.encode(tmp_path / "raw", vmdk, style=STYLES[style])
    compare(tmp_path, vmdk, DISKS[disk][0])
