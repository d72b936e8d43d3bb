"""Puts together what a descriptor says and what the package holds: a `SourceVM` whose disks can be read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from providers.errors import ArchiveInvalid, SourceFileNotFound
from providers.ova import catalog, images
from providers.ova.catalog import Catalog, Stored
from providers.ova.handle import Handle, Part
from providers.ova.machine import BLANK, Described, listed, warning
from providers.ova.tar import MAX_MEMBERS

if TYPE_CHECKING:
    from providers.model import Finding, SourceDisk, SourceVM
    from providers.ova.descriptor import File
    from providers.ova.web import Web

_SECTOR = 512


def place(described: Described, package: Catalog, web: Web) -> SourceVM:
    """Return the machine with the place of each disk's bytes, and what there is to be said of the package.

    Raises:
        ProviderError: as `Web.get` raises, for files beside the descriptor.
    """
    findings = _of_package(package)
    disks = []
    unlisted = []
    for disk in described.vm.disks:
        entry = described.disks[disk.key]
        placed = _place(disk, entry.file, described.formats[disk.key], package, web)
        if placed.size_bytes != disk.size_bytes:
            findings.append(
                warning(
                    "CapacityDiffers",
                    f"disk {disk.key} ({disk.name}) has {placed.size_bytes} bytes; the descriptor says "
                    f"{disk.size_bytes}",
                    "Nothing to do: the image's own size counts.",
                )
            )
        if package.digests is not None and any(not part.digest for part in _parts(placed)):
            unlisted.append(disk.name)
        disks.append(placed)
    if unlisted:
        findings.append(
            warning(
                "ManifestIncomplete",
                f"the manifest does not have {listed(unlisted)}: nothing tells whether they are intact",
                "Nothing to do, or export the VM again.",
            )
        )
    return replace(described.vm, disks=tuple(disks), findings=(*described.vm.findings, *findings))


def _parts(disk: SourceDisk) -> tuple[Part, ...]:
    return Handle.decode(disk.handle).parts if disk.handle else ()


def _place(disk: SourceDisk, file: File | None, image_format: str, package: Catalog, web: Web) -> SourceDisk:
    if file is None:
        return replace(disk, handle=Handle(BLANK).encode())
    if disk.unsupported:
        return disk
    try:
        found = _beside(file, package, web) if package.beside else _in_archive(file, package)
    except ArchiveInvalid as exc:
        return replace(disk, unsupported=str(exc))
    handle = Handle(
        format=image_format,
        parts=tuple(replace(stored.part, digest=_digest(stored.part, package)) for stored in found),
        gzip=file.compression == "gzip",
        beside=package.beside,
        ranges=package.ranges and all(stored.part.offset is not None for stored in found),
        digests_follow=package.digests is None and not package.complete,
    )
    size = _size(disk, handle, found)
    allocated = disk.allocated_bytes
    if allocated is None and handle.ranges:
        allocated = min(size, sum(stored.part.length or 0 for stored in found))
    return replace(disk, handle=handle.encode(), size_bytes=size, allocated_bytes=allocated)


def _digest(part: Part, package: Catalog) -> tuple[str, str] | None:
    return package.digest(part.name.removeprefix(package.folder) if not package.beside else part.name)


def _size(disk: SourceDisk, handle: Handle, found: list[Stored]) -> int:
    """Return the virtual size: the image's own word where its head was seen."""
    lengths = [stored.part.length for stored in found]
    if handle.gzip or any(length is None for length in lengths) or not found[0].head:
        return disk.size_bytes
    total = sum(length for length in lengths if length is not None)
    size = images.virtual_size(handle.format, found[0].head, total)
    return size if size and not size % _SECTOR else disk.size_bytes


def _in_archive(file: File, package: Catalog) -> list[Stored]:
    name = package.folder + file.href
    if not package.complete:
        if not file.chunk_bytes:
            return [Stored(Part(name, version=package.version))]
        if file.size is None:
            raise ArchiveInvalid(f"file {file.href!r} is in chunks, and nobody says how many")
        return [Stored(Part(each, version=package.version)) for each in _chunk_names(name, _count(file))]
    if (found_whole := package.stored(file.href)) is not None:
        return [found_whole]
    if file.chunk_bytes:
        names = _chunk_names(name, _count(file) if file.size is not None else MAX_MEMBERS)
        found = [package.files[each] for each in names if each in package.files]
        if found and (file.size is None or sum(stored.part.length or 0 for stored in found) == file.size):
            return found
        raise ArchiveInvalid(f"file {file.href!r} is in chunks, of which some are not in the archive")
    raise ArchiveInvalid(f"its file {file.href!r} is not in the archive")


def _beside(file: File, package: Catalog, web: Web) -> list[Stored]:
    del package
    if file.chunk_bytes and file.size is None:
        raise ArchiveInvalid(f"file {file.href!r} is in chunks, and nobody says how many")
    names = _chunk_names(file.href, _count(file)) if file.chunk_bytes else [file.href]
    found = []
    for name in names:
        try:
            answer, head = catalog.stat(web, web.origin.beside(name))
        except SourceFileNotFound as exc:
            raise ArchiveInvalid(f"its file {name!r} does not lie beside the descriptor") from exc
        offset = 0 if answer.ranged else None
        found.append(Stored(Part(name, offset, answer.version.size, version=answer.version), head))
    return found


def _count(file: File) -> int:
    count = -(-(file.size or 0) // file.chunk_bytes)
    if count > MAX_MEMBERS:
        raise ArchiveInvalid(f"file {file.href!r} is in {count} chunks, more than {MAX_MEMBERS}")
    return max(1, count)


def _chunk_names(name: str, count: int) -> list[str]:
    """Return the names of chunks: a dot and nine digits (DSP0243, "References element")."""
    return [f"{name}.{number:09d}" for number in range(count)]


def _of_package(package: Catalog) -> list[Finding]:
    found = []
    if package.digests is None:
        where = "" if package.complete else " so far; if one follows the disks, they are checked by it"
        found.append(
            warning(
                "ManifestMissing",
                f"the package has no manifest{where}: nothing tells whether its files are intact",
                "Nothing to do, or export the VM again with a manifest.",
            )
        )
    if package.signed:
        found.append(
            warning(
                "CertificateNotChecked",
                "the package is signed, and its signature is not checked",
                "Check it with a tool of your trust, if it matters who made the package.",
            )
        )
    return found
