"""`OvaProvider`: the source protocol spoken to a package on a web server."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import takewhile
from typing import TYPE_CHECKING

from providers.base import Verified
from providers.errors import DigestMismatch, DiskNotReady, InvalidEndpoint, SecretIncomplete, SourceCorrupt
from providers.model import PowerState
from providers.ova import catalog
from providers.ova.descriptor import parse
from providers.ova.handle import Handle
from providers.ova.location import Location
from providers.ova.machine import describe
from providers.ova.placing import place
from providers.ova.reading import Passage, PassingReader, PlainReader, RangedReader, Reader
from providers.ova.stream import PackageDiskStream
from providers.ova.turns import Turns
from providers.ova.web import OK, PARTIAL, Web

if TYPE_CHECKING:
    from providers.base import SourceConfig
    from providers.model import SourceDisk, SourceVM
    from providers.ova.handle import Part
    from providers.ova.manifest import Digest
    from providers.ova.web import Answer

DEFAULT_SILENCE = 600.0  # seconds; the old controller's default for a whole download
_TURN_SECONDS = 1.0  # how soon to look whether the disk before has been read
_LONGEST_SILENCE = 2e6  # 23 days; a socket's time-out is at most 2^31 ms
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class OvaProvider:
    """Implements `providers.base.Provider` for an OVA archive, or an OVF descriptor with its files beside it.

    Where the server offers ranges, each disk is a download of its own, which goes on where it was cut. Where
    it does not, an archive whose manifest was seen is read once, disk after disk; without, each disk's
    download reads on to the end, where the manifest may be: no disk ends before it is verified.
    """

    cuts_power = False  # there is none to cut

    def __init__(self, config: SourceConfig) -> None:
        username, password = config.secret.get("username", ""), config.secret.get("password", "")
        if bool(username) != bool(password):
            missing = "password" if username else "username"
            raise SecretIncomplete(f"key {missing!r} is missing")
        silence = _silence(config.options.get("httpTimeoutSeconds", ""))
        credentials = (username, password) if username else None
        self._web = Web(Location.parse(config.endpoint), credentials, config.tls, silence)
        self._lock = threading.Lock()
        self._streams: set[PackageDiskStream] = set()
        self._passages: dict[str, Passage | None] = {}  # by export; `None` while a disk is read out of it
        self._turns: dict[str, Turns] = {}  # by export: which disk goes on with its passage
        self._wrong: dict[tuple[str, str], str] = {}  # digests of files that were not as they should be

    def verify(self) -> Verified:
        """Ask for the file's headers, or for its first bytes where that is refused.

        Raises:
            AuthenticationFailed, PermissionDenied, SourceFileNotFound, Unreachable: as the server answers.
            CertificateNotTrusted, CertificateChanged: see `providers.tls`.
            RedirectRefused: it sends us where we do not go.
        """
        web = self._web
        with closing(web.head(web.origin)) as answer:
            # Whether HEAD is forbidden, unknown or not signed for: what counts is whether a GET is answered.
            good = answer.status in (OK, PARTIAL)
            if good or answer.status == 401:  # noqa: PLR2004  # the password would be refused twice
                web.check(answer, web.origin)
        if not good:
            with closing(web.get(web.origin, 0, 0)) as answer:
                return self._verified(answer)
        return self._verified(answer)

    def inspect(self, name: str, folder: str = "") -> SourceVM:
        """Describe the virtual system that `name` means; with a single one, it is meant by any name.

        `folder` is for sources that have folders.

        Raises:
            SourceVMNotFound, SourceVMNotUnique: list the systems of the package.
            ArchiveInvalid, DescriptorInvalid, ManifestInvalid, SourceCorrupt: what is wrong with it.
        """
        del folder
        found = catalog.look(self._web)
        package = parse(found.descriptor)
        return place(describe(package, package.system(name), name), found, self._web)

    def power_state(self, vm: SourceVM) -> PowerState:
        """Return `OFF`: nothing runs in a file."""
        del vm
        return PowerState.OFF

    def request_shutdown(self, vm: SourceVM) -> None:
        """Do nothing: it is off."""

    def power_off(self, vm: SourceVM) -> None:
        """Do nothing: it is off."""

    def power_on(self, vm: SourceVM) -> None:
        """Do nothing: there is nothing to be put back, for nothing was switched off."""

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> PackageDiskStream:
        """Start reading one disk; nothing is asked before its first chunk.

        Raises:
            DiskNotReady: the archive can only be read in one go, and another disk is being read.
            SourceChanged: the disk's handle is none.
        """
        handle = Handle.decode(disk.handle)
        reader, passing = self._reader(handle, vm, disk, export_id)

        def on_close() -> None:
            with self._lock:
                self._streams.discard(stream)
                if passing is not None:
                    passage = passing.take_passage()
                    self._passages.pop(export_id, None)
                    if passage is not None:
                        self._passages[export_id] = passage
                    turns = self._turns.get(export_id)
                    if turns is None:  # the export was discarded
                        return
                    if passing.cut:
                        turns.want(disk.key, time.monotonic())
                    else:
                        turns.done(disk.key)

        stream = PackageDiskStream(handle, disk.size_bytes, reader, self._verify, on_close)
        with self._lock:
            self._streams.add(stream)
        return stream

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:
        """Drop the connection that waits for the export's next disk; idempotent."""
        del vm, complete
        with self._lock:
            self._turns.pop(export_id, None)
            passage = self._passages.get(export_id)
            if passage is not None:
                del self._passages[export_id]
        if passage is not None:
            passage.close()

    def close(self) -> None:
        """End all streams and drop the connections. Idempotent."""
        with self._lock:
            streams = list(self._streams)
            passages = [passage for passage in self._passages.values() if passage is not None]
            self._passages.clear()
        for stream in streams:
            stream.close()
        for passage in passages:
            passage.close()

    def _reader(
        self, handle: Handle, vm: SourceVM, disk: SourceDisk, export_id: str
    ) -> tuple[Reader, PassingReader | None]:
        if handle.ranges:
            return RangedReader(self._web, beside=handle.beside), None
        if handle.beside:
            return PlainReader(self._web), None
        if handle.digests_follow:
            return PassingReader(self._web, None), None
        with self._lock:
            turns, now = self._turns.setdefault(export_id, Turns()), time.monotonic()
            taken = export_id in self._passages and self._passages[export_id] is None
            before = takewhile(lambda key: key != disk.key, (other.key for other in vm.disks))
            turns.want(disk.key, now)
            if taken or not turns.may_begin(before, now):
                raise DiskNotReady("the archive is read in one go; another disk has its turn", _TURN_SECONDS)
            passing = PassingReader(self._web, self._passages.get(export_id))
            self._passages[export_id] = None
        return passing, passing

    def _verify(self, part: Part, expected: Digest, found: str) -> None:
        """Raise if a file's digest is wrong; twice wrong in the same way, it is wrong at the source."""
        if found == expected[1]:
            return
        key = f"{part.version}", part.name
        with self._lock:
            again = self._wrong.get(key) == found
            self._wrong[key] = found
        message = f"{part.name} does not have the {expected[0]} digest of the manifest"
        if again:
            raise SourceCorrupt(f"{message}, and was read twice: it is damaged at the source")
        raise DigestMismatch(message)

    def _verified(self, answer: Answer) -> Verified:
        size = answer.version.size
        what = f"a file of {_in_words(size)}" if size is not None else "a file"
        return Verified(self._web.first_use, f"{what} at {self._web.origin.host}")


def _silence(text: str) -> float | None:
    """Return the limit that `httpTimeoutSeconds` sets; 0 is none."""
    if not text:
        return DEFAULT_SILENCE
    try:
        seconds = float(text)
    except ValueError as exc:
        raise InvalidEndpoint(f"httpTimeoutSeconds is {text!r}, which is no number") from exc
    return min(seconds, _LONGEST_SILENCE) or None


def _in_words(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
