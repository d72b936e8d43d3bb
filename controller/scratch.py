"""The scratch volume: where raw images lie, under which names, and what is known of them.

Layout, below the root: `<import UID>/disk-<index>.raw` with its sidecar `disk-<index>.json`; while it is
written, `disk-<index>.raw.partial-<writer>` (and files of the converter that begin with that name), whose
writer is one process: two replicas that share a volume never write into one file. A final name with its
sidecar means that the image is complete and durable. `.open/` holds one file for each thing that is open
at a source (sessions, leases), until it is closed, and for moments what a probe writes. Nothing else of the
controller makes up a path here, and no name in a path comes from a source. Directories are 0700, files 0600.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
_SIDECAR = re.compile(r"disk-(\d{1,5})\.json")
_OPEN = ".open"
_RESERVED_BYTES = 4096  # a block of most file systems; a sidecar has 200 bytes
_STAT_BLOCK_BYTES = 512  # unit of st_blocks, stat(2)


class ScratchError(Exception):
    """Surfaces when the scratch volume refuses an operation; retried, since volumes come back."""

    reason: ClassVar[str] = "ScratchFailed"
    retryable: ClassVar[bool] = True


class ScratchFull(ScratchError):
    """Surfaces when the scratch volume has no room even for a small file."""

    reason = "DiskFull"


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """What the sidecar says of a complete image.

    Attributes:
        size_bytes: Virtual size, and size of the file.
        digest: `sparse-sha256-64k:<hex>`.
        token: 128-bit secret of its URL, once it was published.
        published: Whether the image server serves it.
    """

    size_bytes: int
    digest: str
    token: str | None = None
    published: bool = False

    def __repr__(self) -> str:
        """Leave the token out: a record must be safe to log."""
        return f"DiskRecord({self.size_bytes} bytes, {self.digest}, published={self.published})"


class Scratch:
    """Names, sidecars and removal of everything on the scratch volume. Thread-safe.

    Args:
        root: Directory of our own; made if absent.
        guard: Called before images are made way for, put in place or removed; raises if this replica may not.

    Raises:
        ScratchError: from any method, when the operating system refuses.
        ValueError: from any method, for an import UID that is none; no path is made of it.
    """

    def __init__(self, root: Path, *, guard: Callable[[], None] | None = None) -> None:
        self._root = root
        self._guard = guard or (lambda: None)
        self._writer = secrets.token_hex(4)
        self._lock = threading.Lock()  # of sidecars: reading, changing and writing one is one step
        self._noted: set[str] = set()
        with _refusals("the scratch volume cannot be used"):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, import_uid: str, disk_index: int) -> Path:
        """Return the path of the complete image; it need not exist."""
        return self._directory(import_uid) / f"disk-{disk_index:d}.raw"

    def partial_path(self, import_uid: str, disk_index: int) -> Path:
        """Return the path of the image while it is written."""
        return self._directory(import_uid) / f"disk-{disk_index:d}.raw.partial-{self._writer}"

    def prepare(self, import_uid: str, disk_index: int) -> Path:
        """Clear the way for a new image; return `partial_path`, which does not exist then.

        Room for the sidecar is set aside: an image that took hours is not to fail for want of its last block.
        """
        self._guard()
        with self._lock, _refusals(f"scratch of disk {disk_index} cannot be prepared"):
            self._directory(import_uid).mkdir(mode=0o700, exist_ok=True)
            _fsync_directory(self._root)
            self._remove_disk(import_uid, disk_index)
            _reserve(self._sidecar(import_uid, disk_index))
        return self.partial_path(import_uid, disk_index)

    def commit(self, import_uid: str, disk_index: int, record: DiskRecord) -> Path:
        """Give a finished partial, already synced, its final name and its sidecar; return the final path."""
        self._guard()
        final = self.path(import_uid, disk_index)
        with self._lock, _refusals(f"disk {disk_index} cannot be put in place"):
            self.partial_path(import_uid, disk_index).rename(final)
            self._write_sidecar(import_uid, disk_index, record)
        return final

    def record(self, import_uid: str, disk_index: int) -> DiskRecord | None:
        """Return what is known of a complete image, `None` when there is no complete image."""
        with _refusals(f"the record of disk {disk_index} cannot be read"):
            try:
                size = self.path(import_uid, disk_index).stat().st_size
                record = _parse_record(self._sidecar(import_uid, disk_index).read_bytes())
            except FileNotFoundError:
                return None
        return record if record is not None and record.size_bytes == size else None

    def update(self, import_uid: str, disk_index: int, **changes: Any) -> DiskRecord | None:
        """Change fields of a record durably; return the new one, `None` when there is no complete image."""
        with self._lock:
            record = self.record(import_uid, disk_index)
            if record is None:
                return None
            changed = replace(record, **changes)
            if changed != record:
                with _refusals(f"the record of disk {disk_index} cannot be written"):
                    self._write_sidecar(import_uid, disk_index, changed)
            return changed

    def discard(self, import_uid: str, disk_index: int) -> None:
        """Remove one disk, finished or not, with all that belongs to it. Idempotent."""
        self._guard()
        with self._lock, _refusals(f"disk {disk_index} cannot be removed"):
            self._remove_disk(import_uid, disk_index)
            _remove_if_empty(self._directory(import_uid))

    def remove(self, import_uid: str) -> None:
        """Remove everything of an import. Idempotent. May take seconds, as large files do."""
        self._guard()
        with _refusals("the scratch of the import cannot be removed"), suppress(FileNotFoundError):
            shutil.rmtree(self._directory(import_uid))

    def sweep(self, known: AbstractSet[str]) -> set[str]:
        """Remove what earlier processes have left that nobody goes on with; before anything is written here.

        That is all of imports that are not `known`, and of the others what was not finished: it would take
        room for which they wait, each for the other's.

        Returns:
            The UIDs of those that are not known.
        """
        vanished = self.uids() - known
        for uid in vanished:
            self.remove(uid)
        self._guard()
        with self._lock, _refusals("what was not finished cannot be removed"):
            for leftover in list(self._root.glob("*/disk-*.*partial*")):
                leftover.unlink(missing_ok=True)
                _remove_if_empty(leftover.parent)
        return vanished

    def uids(self) -> set[str]:
        """Return the UIDs of the imports that have anything here."""
        with _refusals("the scratch volume cannot be listed"):
            return {
                entry.name for entry in self._root.iterdir() if _UID.fullmatch(entry.name) and entry.is_dir()
            }

    def disks(self) -> Iterator[tuple[str, int, DiskRecord]]:
        """Yield every complete image: import UID, disk index, record."""
        for uid in sorted(self.uids()):
            with _refusals("the scratch volume cannot be listed"):
                names = sorted(entry.name for entry in self._root.glob(f"{uid}/*.json"))
            for name in names:
                match = _SIDECAR.fullmatch(name)
                if match and (record := self.record(uid, int(match[1]))) is not None:
                    yield uid, int(match[1]), record

    def note_open(self, source_key: str, entry: str) -> None:
        """Note durably that something, in a provider's words (secret), is open at a source."""
        path = self._open_path(source_key, entry)
        self._noted.add(path.name)
        with _refusals("what is open at a source cannot be noted"):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_at_once(path, {"source": source_key, "entry": entry})

    def note_closed(self, source_key: str, entry: str) -> None:
        """Drop a note of `note_open`. Idempotent."""
        path = self._open_path(source_key, entry)
        with _refusals("what was open at a source cannot be dropped"):
            path.unlink(missing_ok=True)

    def left_open(self, source_key: str) -> list[str]:
        """Return what earlier processes noted as open at a source and did not close."""
        found = []
        with _refusals("what is open at sources cannot be listed"):
            for path in sorted((self._root / _OPEN).glob("*.json")):
                with suppress(FileNotFoundError):
                    note = _parse_note(path.read_bytes())
                    if note and note[0] == source_key and path.name not in self._noted:
                        found.append(note[1])
        return found

    def try_out(self) -> None:
        """Write a small file and remove it.

        Its name is gone before anything is written, and is the same every time: what a process that is killed
        in between leaves, the next one removes.
        """
        path = self._root / _OPEN / ".probe"
        with _refusals("the scratch volume cannot be written to"):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                path.unlink(missing_ok=True)
                os.write(fd, b"probe")
            finally:
                os.close(fd)

    def allocated_bytes(self, import_uid: str, disk_index: int) -> int:
        """Return what one disk takes on the volume, with all that belongs to it."""
        total = 0
        with _refusals(f"scratch of disk {disk_index} cannot be examined"):
            for path in self._directory(import_uid).glob(f"disk-{disk_index:d}.*"):
                with suppress(FileNotFoundError):
                    total += path.stat().st_blocks * _STAT_BLOCK_BYTES
        return total

    def usable_bytes(self) -> int:
        """Return the bytes that could be written if no import had anything here."""
        total = 0
        with _refusals("the scratch volume cannot be examined"):
            for folder, _, names in os.walk(self._root):  # goes on when a folder is gone
                for name in names:
                    with suppress(FileNotFoundError):
                        total += os.lstat(f"{folder}/{name}").st_blocks * _STAT_BLOCK_BYTES
        # Only now: what is given back meanwhile is counted twice rather than not at all.
        return total + self.free_bytes()

    def free_bytes(self) -> int:
        """Return the bytes that can still be written."""
        with _refusals("the scratch volume cannot be examined"):
            return shutil.disk_usage(self._root).free

    def size_bytes(self) -> int:
        """Return the size of the volume."""
        with _refusals("the scratch volume cannot be examined"):
            return shutil.disk_usage(self._root).total

    def _directory(self, import_uid: str) -> Path:
        if not _UID.fullmatch(import_uid):
            raise ValueError(f"{import_uid!r} is no UID")
        return self._root / import_uid

    def _sidecar(self, import_uid: str, disk_index: int) -> Path:
        return self._directory(import_uid) / f"disk-{disk_index:d}.json"

    def _open_path(self, source_key: str, entry: str) -> Path:
        name = hashlib.sha256(f"{source_key}\0{entry}".encode()).hexdigest()[:32]
        return self._root / _OPEN / f"{name}.json"

    def _write_sidecar(self, import_uid: str, disk_index: int, record: DiskRecord) -> None:
        _write_durably(self._sidecar(import_uid, disk_index), asdict(record))

    def _remove_disk(self, import_uid: str, disk_index: int) -> None:
        # The sidecar first: what is left by a crash in between is not taken for a complete image.
        self._sidecar(import_uid, disk_index).unlink(missing_ok=True)
        self.path(import_uid, disk_index).unlink(missing_ok=True)
        for leftover in self._directory(import_uid).glob(f"disk-{disk_index:d}.*partial*"):
            leftover.unlink(missing_ok=True)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _parse_record(data: bytes) -> DiskRecord | None:
    try:
        fields = json.loads(data)
    except ValueError:
        return None  # not of our writing, or of a file system that lost it in a crash: the disk is read again
    match fields:
        case {"size_bytes": int(size), "digest": str(digest), "token": str() | None as token}:
            return DiskRecord(size, digest, token, fields.get("published") is True)
    return None


def _parse_note(data: bytes) -> tuple[str, str] | None:
    try:
        fields = json.loads(data)
    except ValueError:
        return None
    match fields:
        case {"source": str(source), "entry": str(entry)}:
            return source, entry
    return None


def _partial(final: Path) -> Path:
    return final.with_name(f"{final.name}.partial")


def _reserve(final: Path) -> None:
    """Take the block that `_write_durably` will need for a file."""
    fd = os.open(_partial(final), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, bytes(_RESERVED_BYTES))
        os.fsync(fd)  # some file systems find a block only now
    finally:
        os.close(fd)


def _write_durably(final: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a crash at any moment leaves the old file or the new one; into what was reserved."""
    data = json.dumps(content).encode()
    fd = os.open(_partial(final), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb", buffering=0) as file:
        file.write(data)
        file.truncate()
        os.fsync(fd)
    _partial(final).rename(final)
    _fsync_directory(final.parent)


def _write_at_once(final: Path, content: dict[str, Any]) -> None:
    """Write JSON so that the next process finds it even if this one is killed before it is durable.

    A sync may take a second on a busy volume, and a process that is killed loses nothing that was written.
    What a crash of the machine in that second leaves may be an empty file.
    """
    partial = final.with_name(f"{final.name}.partial")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
        file.flush()
        partial.rename(final)
        os.fsync(fd)
    _fsync_directory(final.parent)


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `ScratchError` that begins with `what`."""
    try:
        yield
    except OSError as exc:
        kind = ScratchFull if exc.errno in {errno.ENOSPC, errno.EDQUOT} else ScratchError
        raise kind(f"{what}: {exc.strerror or exc}") from exc
