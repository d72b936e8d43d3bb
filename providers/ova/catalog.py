"""What a package holds, as far as a look at it can tell: descriptor, manifest, and where its files are."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from providers.errors import ArchiveInvalid, SourceCorrupt, SourceFileNotFound
from providers.ova import images, manifest, sources, tar, xmltree
from providers.ova.handle import Part
from providers.ova.sources import RangedSource, StreamSource
from providers.ova.web import PARTIAL, UNKNOWN, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.ova.location import Location
    from providers.ova.tar import Member
    from providers.ova.web import Answer, Web

SEARCH_BYTES = 64 * 1024 * 1024  # what is read in search of a descriptor where one cannot jump
_APPLE_DOUBLE = "._"  # what macOS's tar puts beside each file, under its name (RFC 1740)
_BOM_AND_SPACE = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the package that was seen: where it is, and how it begins (empty: not read)."""

    part: Part
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Catalog:
    """A package.

    Attributes:
        descriptor: The OVF document.
        name: Its name, with the folder it lies in.
        digests: The manifest's; `None` while no manifest was seen.
        complete: Whether all of the package was seen, so that what was not found is not there.
        files: Files by name.
        version: Of the archive.
        signed: Whether there is a certificate.
        beside: Whether the files lie beside the descriptor, and not in an archive.
        ranges: Whether the server offers ranges.
    """

    descriptor: bytes
    name: str
    digests: Mapping[str, manifest.Digest] | None = None
    complete: bool = True
    files: Mapping[str, Stored] = field(default_factory=dict)
    version: Version = UNKNOWN
    signed: bool = False
    beside: bool = False
    ranges: bool = True

    @property
    def folder(self) -> str:
        """Folder of the descriptor in the archive, with a slash at its end; empty for none."""
        folder, slash, _ = self.name.rpartition("/")
        return folder + slash

    def digest(self, name: str) -> manifest.Digest | None:
        """Return what the manifest says of a file; `name` as the descriptor has it."""
        digests = self.digests or {}
        spellings = (name, self.folder + name, quote(name))
        return next((digests[spelling] for spelling in spellings if spelling in digests), None)

    def stored(self, name: str) -> Stored | None:
        """Return a file by its name in the descriptor; the archive may have it quoted, as URIs are."""
        spellings = (self.folder + name, self.folder + quote(name))
        return next((self.files[spelling] for spelling in spellings if spelling in self.files), None)

    def verify_descriptor(self) -> None:
        """Compare the descriptor with the manifest.

        Raises:
            SourceCorrupt: it is another one.
        """
        base = self.name.removeprefix(self.folder)
        known = self.digest(base)
        if known and hashlib.new(known[0], self.descriptor, usedforsecurity=False).hexdigest() != known[1]:
            raise SourceCorrupt(f"the descriptor {base} does not have the {known[0]} digest of the manifest")


def look(web: Web) -> Catalog:
    """Look at the package at the source's URL: an archive, or a descriptor with its files beside it.

    Raises:
        ArchiveInvalid, ManifestInvalid, SourceCorrupt: what is wrong with it.
        ProviderError: as `Web.get` raises, and `TransferInterrupted`.
    """
    answer = web.get(web.origin, 0, sources.WINDOW_BYTES - 1)
    with closing(answer):
        if answer.status == PARTIAL and not answer.ranged:
            answer.close()
            answer = web.get(web.origin)
        source = RangedSource(web, web.origin, answer) if answer.ranged else StreamSource(answer)
        try:
            start = source.peek(tar.BLOCK)
            if web.origin.path.lower().endswith(".ovf") or start.lstrip(_BOM_AND_SPACE).startswith(b"<"):
                descriptor = source.read(xmltree.MAX_BYTES + 1)
                catalog = _beside(web, descriptor)
            elif start.startswith(b"\x1f\x8b"):
                raise ArchiveInvalid(
                    "the archive is compressed as a whole; OVF compresses only files inside it"
                )
            elif isinstance(source, RangedSource):
                catalog = _archive(source, answer.version)
            else:
                catalog = _beginning_of_archive(source, answer.version)
        finally:
            if isinstance(source, StreamSource):
                source.close()
    catalog.verify_descriptor()
    return catalog


@dataclass(slots=True)
class _Finds:
    """What a walk through an archive has come across."""

    version: Version
    descriptor: bytes | None = None
    name: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    certificates: list[str] = field(default_factory=list)
    files: dict[str, Stored] = field(default_factory=dict)

    def take(self, member: Member, source: RangedSource | StreamSource) -> bool:
        """Look at a member; return whether it is done with: a paper of the package, or nothing of it."""
        if member.name.rpartition("/")[2].startswith(_APPLE_DOUBLE):
            return True
        kind = member.name.lower().rpartition(".")[2]
        if kind == "ovf" and self.descriptor is None:
            self.descriptor = _paper(source, member, xmltree.MAX_BYTES, "descriptor")
            self.name = member.name
            return True
        if kind == "mf":
            self.manifests[member.name] = _paper(source, member, manifest.MAX_BYTES, "manifest")
            return True
        if kind == "cert":
            self.certificates.append(member.name)
            return True
        return False

    def catalog(self, *, complete: bool, ranges: bool) -> Catalog:
        if self.descriptor is None:
            raise ArchiveInvalid("the archive holds no descriptor (a file whose name ends in .ovf)")
        own = self.name[: -len("ovf")] + "mf"
        chosen = own if own in self.manifests else next(iter(self.manifests), None)
        return Catalog(
            descriptor=self.descriptor,
            name=self.name,
            digests=manifest.parse(self.manifests[chosen]) if chosen is not None else None,
            complete=complete,
            files=self.files,
            version=self.version,
            signed=bool(self.certificates),
            ranges=ranges,
        )


def _archive(source: RangedSource, version: Version) -> Catalog:
    """Walk through a whole archive by jumps."""
    finds = _Finds(version)
    for member in tar.members(source):
        if member.offset + member.size > source.size:
            missing = member.offset + member.size - source.size
            raise ArchiveInvalid(f"the archive ends inside {member.name}, {missing} bytes too early")
        head = source.peek(min(images.HEAD_BYTES, member.size))
        if not finds.take(member, source):
            if member.name in finds.files:
                raise ArchiveInvalid(f"the archive holds two files called {member.name!r}")
            part = Part(member.name, member.offset, member.size, version=version)
            finds.files[member.name] = Stored(part, head)
    return finds.catalog(complete=True, ranges=True)


def _beginning_of_archive(source: StreamSource, version: Version) -> Catalog:
    """Read up to the first file that is no paper of the package, behind its descriptor."""
    finds = _Finds(version)
    for member in tar.members(source):
        if finds.take(member, source):
            continue
        if finds.descriptor is not None:
            return finds.catalog(complete=False, ranges=False)
        if member.offset + member.size > SEARCH_BYTES:
            raise ArchiveInvalid(
                "the descriptor is not at the beginning of the archive, and the server offers no ranges by "
                "which to find it"
            )
    return finds.catalog(complete=True, ranges=False)


def _paper(source: RangedSource | StreamSource, member: Member, limit: int, what: str) -> bytes:
    if member.size > limit:
        raise ArchiveInvalid(f"the {what} {member.name} has {member.size} bytes, more than {limit}")
    content = source.read(member.size)
    if len(content) < member.size:
        raise ArchiveInvalid(f"the archive ends inside {member.name}")
    return content


def _beside(web: Web, descriptor: bytes) -> Catalog:
    origin = web.origin
    name = origin.path.rpartition("/")[2]
    catalog = Catalog(descriptor, name, beside=True)
    stem = origin.path.rpartition(".")[0]
    try:
        answer = web.get(replace(origin, path=f"{stem}.mf"))
    except SourceFileNotFound:
        return catalog
    return replace(catalog, digests=manifest.parse(sources.whole(answer, manifest.MAX_BYTES, "manifest")))


def stat(web: Web, location: Location) -> tuple[Answer, bytes]:
    """Return the closed answer to a request for a file's first bytes, and these.

    Raises:
        ProviderError: as `Web.get` raises, and `TransferInterrupted`.
    """
    answer = web.get(location, 0, images.HEAD_BYTES - 1)
    with closing(answer):
        head = b""
        for chunk in answer.chunks():
            head += chunk
            if len(head) >= images.HEAD_BYTES:
                break
    return answer, head[: images.HEAD_BYTES]
