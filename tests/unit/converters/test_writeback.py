from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from converters import writeback
from converters.errors import DiskFull, ScratchFailed
from converters.raw import SparseRawFile
from converters.writeback import MAX_DIRTY_BYTES, WINDOW_BYTES, Writeback
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 65536


def test_a_writer_waits_while_the_volume_is_far_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, syncs = threading.Event(), []

    def slow(fd: int) -> None:
        syncs.append(fd)
        assert volume.wait(60)

    monkeypatch.setattr(os, "fdatasync", slow)
    written = []
    with (tmp_path / "disk").open("wb") as file:
        back = Writeback(file.fileno())

        def write() -> None:
            for _ in range(2 * MAX_DIRTY_BYTES // WINDOW_BYTES):
                back.wrote(WINDOW_BYTES)
                written.append(WINDOW_BYTES)

        writer = threading.Thread(target=write)
        writer.start()
        eventually(lambda: sum(written) == MAX_DIRTY_BYTES - WINDOW_BYTES and syncs)
        assert writer.is_alive()
        volume.set()
        writer.join(30)
        assert sum(written) == 2 * MAX_DIRTY_BYTES
        back.finish()


def test_what_is_written_leaves_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: dropped.append(os.POSIX_FADV_DONTNEED))
    monkeypatch.setattr(writeback, "WINDOW_BYTES", 4 * BLOCK)
    with SparseRawFile(tmp_path / "disk", 64 * BLOCK) as image:
        image.pwritev(0, [b"x" * BLOCK] * 3)
        assert not dropped
        image.pwritev(3 * BLOCK, [b"x" * BLOCK])
        eventually(lambda: dropped)
        image.finish()


@pytest.mark.parametrize(("code", "expected"), [(errno.ENOSPC, DiskFull), (errno.EIO, ScratchFailed)])
def test_what_a_sync_met_is_an_error_though_the_kernel_tells_it_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    def fails(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(writeback, "WINDOW_BYTES", BLOCK)
    before = threading.active_count()
    with SparseRawFile(tmp_path / "disk", 64 * BLOCK) as image:
        image.pwritev(0, [b"x" * BLOCK])
        eventually(lambda: threading.active_count() == before)
        with pytest.raises(expected):
            image.finish()


def test_a_writer_that_waits_is_told_of_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    with (tmp_path / "disk").open("wb") as file:
        back = Writeback(file.fileno())
        with pytest.raises(OSError, match="Input/output error"):
            back.wrote(MAX_DIRTY_BYTES)
        back.close()
        back.close()
