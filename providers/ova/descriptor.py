"""What the virtual systems of an OVF descriptor share: files, disks, networks; and which systems there are.

Pure. Sources: DSP0243 1.1.1 and 2.1.1 (the OVF specifications), and what products write beside them; each
such deviation is named where it is read.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from providers.errors import DescriptorInvalid, SourceVMNotFound, SourceVMNotUnique
from providers.ova import units, xmltree
from providers.ova.xmltree import attribute, child, children, kind, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

_PROPERTY = re.compile(r"\$\{(.+)\}")
_GIB = "byte * 2^30"
MAX_ENTRIES = 4096  # of files, of disks, of systems in a package
MAX_LISTED = 20  # names in a message
MAX_SHOWN = 100  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class File:
    """An entry of `References`.

    Attributes:
        href: Name of the file, relative to the descriptor.
        size: Bytes, when told.
        compression: `gzip`, or empty.
        chunk_bytes: Size of the pieces in which it is stored, 0 for one piece.
    """

    id: str
    href: str
    size: int | None = None
    compression: str = ""
    chunk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """An entry of `DiskSection`.

    Attributes:
        file: Its content; `None` for a disk that is empty at first.
        capacity_bytes: Virtual size.
        format: URI of the format, as written.
        populated_bytes: What it holds, about, when told.
        interface: oVirt only: `VirtIO`, `VirtIO_SCSI`, `IDE`, `SATA`.
        boots: oVirt only: whether it is marked as the one to boot from.
        parent: Identifier of the disk of which this one holds the differences.
    """

    id: str
    file: File | None
    capacity_bytes: int
    format: str = ""
    populated_bytes: int | None = None
    interface: str = ""
    boots: bool = False
    parent: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """A virtual system.

    Attributes:
        id: Unique in the package.
        name: For people; the identifier where there is no other.
    """

    id: str
    name: str
    element: Element


@dataclass(frozen=True, slots=True)
class Package:
    """A whole descriptor.

    Attributes:
        root: The element `Envelope`.
        configuration: Identifier of the default deployment configuration; empty: there is none.
        encrypted: Whether a section says that files are encrypted.
    """

    root: Element
    files: Mapping[str, File]
    disks: Mapping[str, Disk]
    networks: tuple[str, ...]
    systems: tuple[System, ...]
    configuration: str = ""
    encrypted: bool = False

    def system(self, name: str) -> System:
        """Return the system that a user means; the only one whatever the name is.

        Raises:
            SourceVMNotFound, SourceVMNotUnique: none or several of a collection; the message lists them.
        """
        if len(self.systems) == 1:
            return self.systems[0]
        by_id = [system for system in self.systems if system.id == name]
        found = by_id or [system for system in self.systems if name and system.name == name]
        if len(found) == 1:
            return found[0]
        candidates = found or self.systems
        listed = ", ".join(
            f"{system.id[:MAX_SHOWN]!r}"
            + (f" ({system.name[:MAX_SHOWN]})" if system.name != system.id else "")
            for system in candidates[:MAX_LISTED]
        )
        if found:
            raise SourceVMNotUnique(
                f"several virtual systems are called {name!r}; name one by its id: {listed}"
            )
        names = [system.id for system in self.systems if len(system.id) <= MAX_SHOWN]
        near = difflib.get_close_matches(name[:MAX_SHOWN], names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SourceVMNotFound(f"the package has no virtual system {name!r}; it has {listed}{hint}")


def parse(data: bytes) -> Package:
    """Read a descriptor.

    Raises:
        DescriptorInvalid: it is none, or contradicts itself; the message names the place.
    """
    root = xmltree.parse(data)
    if xmltree.local(root.tag) != "Envelope":
        raise DescriptorInvalid(f"the descriptor is no OVF: its root is {xmltree.local(root.tag)!r}")
    files = _files(root)
    systems = tuple(_systems(root))
    if not systems:
        raise DescriptorInvalid("the OVF descriptor has no virtual system")
    if max(map(len, (files, systems))) > MAX_ENTRIES:
        raise DescriptorInvalid(f"the OVF descriptor has more than {MAX_ENTRIES} files or systems")
    identifiers = [system.id for system in systems]
    if len(set(identifiers)) != len(identifiers):
        twice = next(each for each in identifiers if identifiers.count(each) > 1)
        raise DescriptorInvalid(f"two virtual systems have the id {twice!r}")
    return Package(
        root=root,
        files=files,
        disks=_disks(root, files),
        networks=tuple(
            name
            for section in children(root, "NetworkSection")
            for network in children(section, "Network")
            if (name := attribute(network, "name"))
        ),
        systems=systems,
        configuration=_default_configuration(root),
        encrypted=any(kind(element) == "EncryptionSection" for element in root),
    )


def _files(root: Element) -> dict[str, File]:
    files: dict[str, File] = {}
    for references in children(root, "References"):
        for number, element in enumerate(children(references, "File"), start=1):
            identifier, href = attribute(element, "id"), attribute(element, "href")
            what = f"file {identifier or number}"
            if not identifier or not href:
                raise DescriptorInvalid(f"{what} in References has no {'href' if identifier else 'id'}")
            if identifier in files:
                raise DescriptorInvalid(f"two files in References have the id {identifier!r}")
            compression = attribute(element, "compression").lower()
            if compression not in ("", "identity", "gzip"):
                raise DescriptorInvalid(f"{what} is compressed with {compression!r}, which cannot be read")
            size, chunk = attribute(element, "size"), attribute(element, "chunkSize")
            files[identifier] = File(
                id=identifier,
                href=unquote(href).removeprefix("./"),
                size=units.whole_number(size, f"size of {what}", units.MAX_BYTES) if size else None,
                compression="" if compression == "identity" else compression,
                chunk_bytes=units.whole_number(chunk, f"chunk size of {what}", units.MAX_BYTES)
                if chunk
                else 0,
            )
    return files


def _disks(root: Element, files: Mapping[str, File]) -> dict[str, Disk]:
    disks: dict[str, Disk] = {}
    properties = _properties(root)
    hrefs = {file.href: file for file in files.values()}
    for section in children(root, "DiskSection"):
        for number, element in enumerate(children(section, "Disk"), start=1):
            identifier = attribute(element, "diskId")
            if number > MAX_ENTRIES:
                raise DescriptorInvalid(f"the OVF descriptor has more than {MAX_ENTRIES} disks")
            if not identifier:
                raise DescriptorInvalid(f"disk {number} in DiskSection has no diskId")
            if identifier in disks:
                raise DescriptorInvalid(f"two disks have the diskId {identifier!r}")
            populated = attribute(element, "populatedSize")
            disks[identifier] = Disk(
                id=identifier,
                file=_file_of(element, identifier, files, hrefs),
                capacity_bytes=_capacity(properties, element, identifier),
                format=attribute(element, "format"),
                populated_bytes=(
                    units.whole_number(populated, f"populatedSize of disk {identifier}", units.MAX_BYTES)
                    if populated
                    else None
                ),
                interface=attribute(element, "disk-interface"),
                boots=attribute(element, "boot").lower() == "true",
                parent=attribute(element, "parentRef"),
            )
    return disks


def _file_of(
    element: Element, disk: str, files: Mapping[str, File], hrefs: Mapping[str, File]
) -> File | None:
    reference = attribute(element, "fileRef")
    if not reference:
        return None
    named = files.get(reference) or hrefs.get(reference)  # oVirt refers to the file by its href
    if named is None:
        raise DescriptorInvalid(f"disk {disk} refers to file {reference!r}, which References does not have")
    return named


def _capacity(properties: Mapping[str, str], element: Element, disk: str) -> int:
    what = f"capacity of disk {disk}"
    capacity, unit = attribute(element, "capacity"), attribute(element, "capacityAllocationUnits")
    if not capacity and (size := attribute(element, "size")):  # oVirt, in GiB
        capacity, unit = size, _GIB
    if not capacity:
        raise DescriptorInvalid(f"disk {disk} has no capacity")
    match = _PROPERTY.fullmatch(capacity)
    size_bytes = units.size_bytes(properties.get(match[1], "") if match else capacity, unit, what)
    if not size_bytes or size_bytes % 512:
        raise DescriptorInvalid(f"{what} is {size_bytes} bytes, which no disk has")
    return size_bytes


def _properties(root: Element) -> dict[str, str]:
    """Return the defaults of properties, by key and by class and key (DSP0243, "Property Elements")."""
    found: dict[str, str] = {}
    for section in root.iter():
        if kind(section) == "ProductSection":
            prefix = attribute(section, "class")
            for element in children(section, "Property"):
                key, value = attribute(element, "key"), attribute(element, "value")
                found.setdefault(key, value)
                found.setdefault(f"{prefix}.{key}", value)
    return found


def _systems(parent: Element) -> Iterator[System]:
    """Yield the systems of an envelope or a collection; the depth of the tree is limited."""
    for element in parent:
        match kind(element):
            case "VirtualSystem":
                identifier = attribute(element, "id")
                name = text(element, "Name") or identifier or _hardware_name(element)
                if not name:
                    raise DescriptorInvalid("a virtual system has neither an id nor a name")
                yield System(identifier or name, name, element)
            case "VirtualSystemCollection":
                yield from _systems(element)


def _hardware_name(system: Element) -> str:
    hardware = child(system, "VirtualHardwareSection")
    described = child(hardware, "System") if hardware is not None else None
    return text(described, "VirtualSystemIdentifier") if described is not None else ""


def _default_configuration(root: Element) -> str:
    configurations = [
        element
        for section in children(root, "DeploymentOptionSection")
        for element in children(section, "Configuration")
    ]
    chosen = next(
        (element for element in configurations if attribute(element, "default").lower() in ("true", "1")),
        configurations[0] if configurations else None,
    )
    return attribute(chosen, "id") if chosen is not None else ""
