from __future__ import annotations

import errno
import json
import os
import re
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from controller.scratch import DiskRecord, Scratch, ScratchError, ScratchFull

if TYPE_CHECKING:
    from pathlib import Path

UID = "8c7ce0fd-93b5-4b5e-a3b5-6f5b7a1f2a11"
DIGEST = "sparse-sha256-64k:00"
RECORD = DiskRecord(4, DIGEST)


def complete(scratch: Scratch, uid: str = UID, index: int = 0, data: bytes = b"data") -> None:
    scratch.prepare(uid, index).write_bytes(data)
    scratch.commit(uid, index, DiskRecord(len(data), DIGEST))


def test_names_are_made_of_uid_and_index(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    assert scratch.path(UID, 3) == tmp_path / UID / "disk-3.raw"
    assert scratch.partial_path(UID, 3).parent == tmp_path / UID
    assert re.fullmatch(r"disk-3\.raw\.partial-[0-9a-f]{8}", scratch.partial_path(UID, 3).name)


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "a/b", "-a", "a b", "x" * 64, "a\n", "a.b"])
def test_what_is_no_uid_never_becomes_a_path(tmp_path: Path, uid: str) -> None:
    scratch = Scratch(tmp_path / "scratch")
    for call in (
        lambda: scratch.path(uid, 0),
        lambda: scratch.prepare(uid, 0),
        lambda: scratch.record(uid, 0),
        lambda: scratch.discard(uid, 0),
        lambda: scratch.remove(uid),
    ):
        with pytest.raises(ValueError, match="UID"):
            call()


def test_a_complete_image_has_its_record_again_after_a_restart(tmp_path: Path) -> None:
    complete(Scratch(tmp_path))
    assert Scratch(tmp_path).record(UID, 0) == RECORD
    assert list(Scratch(tmp_path).disks()) == [(UID, 0, RECORD)]
    assert not Scratch(tmp_path).partial_path(UID, 0).exists()


def test_everything_is_for_its_owner_alone(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch")
    complete(scratch)
    assert (tmp_path / "scratch").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "scratch" / UID).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "scratch" / UID / "disk-0.json").stat().st_mode & 0o777 == 0o600


def test_no_crash_leaves_something_that_looks_complete(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.prepare(UID, 0).write_bytes(b"data")
    assert scratch.record(UID, 0) is None, "a partial"
    scratch.partial_path(UID, 0).rename(scratch.path(UID, 0))
    assert scratch.record(UID, 0) is None, "a final name without its sidecar"
    (tmp_path / UID / "disk-0.json").write_text('{"size_bytes": 4, "dig')
    assert scratch.record(UID, 0) is None, "half a sidecar"
    (tmp_path / UID / "disk-0.json").write_text("[]")
    assert scratch.record(UID, 0) is None, "a sidecar of somebody else"
    assert list(scratch.disks()) == []
    complete(scratch, data=b"data")
    scratch.path(UID, 0).write_bytes(b"dat")
    assert scratch.record(UID, 0) is None, "a file of another size"
    scratch.path(UID, 0).unlink()
    assert scratch.record(UID, 0) is None, "a sidecar without its file"


def test_to_prepare_is_to_remove_all_that_was_there_of_this_disk(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch)
    complete(scratch, index=10)
    for leftover in ("disk-0.raw.partial-1", "disk-0.raw.partial-1.source", "disk-0.json.partial"):
        (tmp_path / UID / leftover).write_text("")
    assert scratch.prepare(UID, 0) == scratch.partial_path(UID, 0)
    left = {path.name: path.read_bytes() for path in (tmp_path / UID).iterdir()}
    assert left.keys() == {"disk-10.raw", "disk-10.json", "disk-0.json.partial"}
    assert not any(left["disk-0.json.partial"]), "room for the sidecar"


def test_a_process_that_lost_its_place_cannot_put_half_an_image_in_the_place_of_its_successors(
    tmp_path: Path,
) -> None:
    before, after = Scratch(tmp_path), Scratch(tmp_path)
    before.prepare(UID, 0).write_bytes(b"half")
    after.prepare(UID, 0).write_bytes(b"other")
    assert before.partial_path(UID, 0) != after.partial_path(UID, 0)
    with pytest.raises(ScratchError):
        before.commit(UID, 0, RECORD)
    after.commit(UID, 0, DiskRecord(5, DIGEST))
    assert after.path(UID, 0).read_bytes() == b"other"


def test_who_may_not_act_changes_no_image(tmp_path: Path) -> None:
    complete(Scratch(tmp_path))
    Scratch(tmp_path).prepare(UID, 1)

    def refuse() -> None:
        raise PermissionError("another leads")

    fenced = Scratch(tmp_path, guard=refuse)
    for call in (
        lambda: fenced.prepare(UID, 0),
        lambda: fenced.commit(UID, 0, RECORD),
        lambda: fenced.discard(UID, 0),
        lambda: fenced.remove(UID),
    ):
        with pytest.raises(PermissionError):
            call()
    assert fenced.record(UID, 0) == RECORD


def test_a_record_is_changed_durably_and_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    record = scratch.update(UID, 0, token="secret", published=True)  # noqa: S106  # it is none
    assert record == Scratch(tmp_path).record(UID, 0) == DiskRecord(4, DIGEST, "secret", published=True)
    assert len(synced) == 2, "file and directory"
    assert scratch.update(UID, 0, published=True) == record
    assert len(synced) == 2, "nothing changed, nothing to write"
    assert scratch.update(UID, 1, published=True) is None


def test_a_record_does_not_show_its_token() -> None:
    assert "secret" not in repr(DiskRecord(4, DIGEST, "secret"))


def test_a_sidecar_of_a_newer_version_is_understood(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch)
    sidecar = tmp_path / UID / "disk-0.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"colour": "blue"}))
    assert scratch.record(UID, 0) == RECORD


def test_imports_are_listed_and_removed_one_by_one(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch, "one")
    complete(scratch, "two")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "file").write_text("")
    assert scratch.uids() == {"one", "two"}
    scratch.remove("one")
    scratch.remove("one")
    assert scratch.uids() == {"two"}
    assert [uid for uid, _, _ in scratch.disks()] == ["two"]
    scratch.discard("two", 0)
    scratch.discard("two", 0)
    assert list(scratch.disks()) == []


def test_free_space_is_that_of_the_volume(tmp_path: Path) -> None:
    free = Scratch(tmp_path).free_bytes()
    stat = os.statvfs(tmp_path)
    assert abs(free - stat.f_bavail * stat.f_frsize) < 1024**3


def test_a_refusal_is_typed_and_a_full_volume_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch)

    def refuse(code: int) -> object:
        def fsync(_fd: int) -> None:
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(ScratchFull, match="No space"):
        scratch.update(UID, 0, published=True)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(ScratchError, match="disk 0"):
        scratch.update(UID, 0, published=True)
    monkeypatch.undo()
    assert scratch.record(UID, 0) == RECORD, "the old record was not touched"
    (tmp_path / "in the way").write_text("")
    with pytest.raises(ScratchError):
        Scratch(tmp_path / "in the way")


def test_what_imports_have_here_counts_as_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch(tmp_path / "scratch")
    # Others write to the volume of the tests, too, between two looks at it.
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=5 << 20))
    assert scratch.usable_bytes() < 6 << 20
    complete(scratch, data=b"x" * (1 << 20))
    assert 6 << 20 <= scratch.usable_bytes() < 7 << 20


def test_room_that_is_given_back_meanwhile_counts_as_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in neither place it would make an import Invalid for good."""
    scratch = Scratch(tmp_path)
    complete(scratch, data=bytes(100 * 4096))

    def usage(_path: object) -> object:
        scratch.remove(UID)
        return SimpleNamespace(free=100 * 4096)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert scratch.usable_bytes() >= 200 * 4096


def test_what_goes_while_the_volume_is_looked_through_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch(tmp_path)
    complete(scratch)
    real = os.scandir

    def scandir(path: Path) -> object:
        if str(path).endswith(UID):
            scratch.remove(UID)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert scratch.usable_bytes() > 0
    assert not (tmp_path / UID).exists(), "it did go meanwhile"


def test_an_import_that_has_nothing_here_is_not_listed(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.prepare(UID, 0)
    scratch.prepare(UID, 1)
    scratch.discard(UID, 0)
    assert scratch.uids() == {UID}
    scratch.discard(UID, 1)
    assert scratch.uids() == set()
    scratch.discard(UID, 1)


def test_a_new_process_keeps_what_is_complete_of_known_imports_and_nothing_else(tmp_path: Path) -> None:
    before = Scratch(tmp_path)
    for uid in ("known", "gone"):
        complete(before, uid)
        before.prepare(uid, 1).write_bytes(b"half")
    before.prepare("begun", 0).write_bytes(b"half")
    before.note_open("VmwareSource/default/vc", "a session")
    assert Scratch(tmp_path).sweep({"known", "begun"}) == {"gone"}
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("disk*")}
    assert left == {"known/disk-0.raw", "known/disk-0.json"}
    assert before.uids() == {"known"}
    assert Scratch(tmp_path).left_open("VmwareSource/default/vc") == ["a session"]
