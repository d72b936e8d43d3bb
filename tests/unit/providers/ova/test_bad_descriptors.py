"""Descriptors that are none: each ends in `DescriptorInvalid`, which says what is wrong and where."""

from __future__ import annotations

import re

import pytest

from providers.errors import DescriptorInvalid
from providers.model import SourceVM
from providers.ova import xmltree
from providers.ova.descriptor import parse
from providers.ova.machine import describe
from tests.unit.providers.ova.descriptors import read

GOOD = read("blank_disks").decode()


def swapped(old: str, new: str) -> bytes:
    """Return the good descriptor with one thing changed."""
    assert old in GOOD
    return GOOD.replace(old, new, 1).encode()


def without(element: str) -> bytes:
    """Return the good descriptor without the elements of that name."""
    return re.sub(rf"<{element}[ >].*?</{element}>", "", GOOD, flags=re.DOTALL).encode()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE Envelope [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]><Envelope>&j;</Envelope>"
)
HARDWARE = "<Item><rasd:ResourceType>1</rasd:ResourceType></Item>"
DISKS = "".join(f'<Disk ovf:diskId="more{number}" ovf:capacity="512"/>' for number in range(5000))
SYSTEMS = "".join(f'<VirtualSystem ovf:id="more{number}"/>' for number in range(5000))
BAD = {
    "nothing": (b"", "not XML, line 1"),
    "zeros": (bytes(512), "not XML, line 1"),
    "a disk": (b"KDMV\3\0\0\0" + bytes(504), "not XML, line 1"),
    "cut in the middle": (GOOD[: len(GOOD) // 2].encode(), "not XML, line"),
    "an unclosed element": (swapped("</VirtualSystem>", ""), "not XML, line"),
    "a prefix without a namespace": (swapped("<Info>", "<nowhere:Info>"), "not XML, line"),
    "bytes that are no UTF-8": (swapped("Settings", "X").replace(b"X", b"\xff\xfe"), "not XML, line"),
    "an encoding that nobody knows": (swapped("UTF-8", "klingon"), "encoding that cannot be read"),
    "an entity bomb": (BOMB.encode(), "declares a document type"),
    "an external entity": (
        b'<!DOCTYPE Envelope [<!ENTITY x SYSTEM "file:///etc/passwd">]><Envelope>&x;</Envelope>',
        "declares a document type",
    ),
    "an external document type": (
        b'<!DOCTYPE Envelope SYSTEM "http://192.0.2.1/x.dtd"><Envelope/>',
        "declares a document type",
    ),
    "an undeclared entity": (swapped("Settings", "&more;"), "not XML, line"),
    "more bytes than the limit": (
        GOOD.encode() + b" " * xmltree.MAX_BYTES,
        f"bytes, more than {xmltree.MAX_BYTES}",
    ),
    "more depth than the limit": (b"<Envelope>" + b"<a>" * 100_000, "nested more than 64 deep"),
    "more elements than the limit": (
        b"<Envelope>" + b"<a/>" * xmltree.MAX_ELEMENTS + b"</Envelope>",
        "more than 100000 elements",
    ),
    "more hardware than a machine has": (
        swapped("</VirtualHardwareSection>", HARDWARE * 2000 + "</VirtualHardwareSection>"),
        "more than 1024 hardware items",
    ),
    "more disks than a package has": (
        swapped("</DiskSection>", DISKS + "</DiskSection>"),
        "more than 4096 disks",
    ),
    "more systems than a package has": (
        swapped("</VirtualSystem>", "</VirtualSystem>" + SYSTEMS),
        "more than 4096 files or systems",
    ),
    "an id as long as a book": (
        swapped('ovf:diskId="vmdisk1"', f'ovf:diskId="{"d" * 70_000}"'),
        "disk 1 in DiskSection has no diskId",
    ),
    "another kind of document": (b"<html><body>404</body></html>", "no OVF: its root is 'html'"),
    "no system": (without("VirtualSystem"), "no virtual system"),
    "a system without id and name": (
        swapped(' ovf:id="fresh"', "").replace(
            b"<vssd:VirtualSystemIdentifier>vm<", b"<vssd:VirtualSystemIdentifier><"
        ),
        "neither an id nor a name",
    ),
    "two systems of one id": (
        swapped("</VirtualSystem>", '</VirtualSystem><VirtualSystem ovf:id="fresh"/>'),
        "two virtual systems have the id 'fresh'",
    ),
    "no hardware": (without("VirtualHardwareSection"), "'fresh' has no hardware section"),
    "a file without an id": (swapped(' ovf:id="file1"', ""), "file 1 in References has no id"),
    "a file without a name": (swapped(' ovf:href="a.vmdk"', ""), "file file1 in References has no href"),
    "two files of one id": (
        swapped("</References>", '<File ovf:id="file1" ovf:href="b"/></References>'),
        "two files in References have the id 'file1'",
    ),
    "a compression that nobody knows": (
        swapped('ovf:href="a.vmdk"', 'ovf:href="a.vmdk" ovf:compression="bzip2"'),
        "compressed with 'bzip2'",
    ),
    "a file size that is no number": (
        swapped('ovf:href="a.vmdk"', 'ovf:href="a.vmdk" ovf:size="-1"'),
        "size of file file1 is '-1'",
    ),
    "a disk without an id": (swapped(' ovf:diskId="vmdisk1"', ""), "disk 1 in DiskSection has no diskId"),
    "two disks of one id": (
        swapped('ovf:diskId="vmdisk2"', 'ovf:diskId="vmdisk1"'),
        "two disks have the diskId",
    ),
    "a disk of a file that is not there": (
        swapped('ovf:fileRef="file1"', 'ovf:fileRef="file9"'),
        "disk vmdisk1 refers to file 'file9'",
    ),
    "a disk without a capacity": (swapped('ovf:capacity="10"', ""), "disk vmdisk1 has no capacity"),
    "a capacity that is a word": (
        swapped('ovf:capacity="10"', 'ovf:capacity="ten"'),
        "'ten', which is no number",
    ),
    "a capacity below zero": (
        swapped('ovf:capacity="10"', 'ovf:capacity="-10"'),
        "'-10', which is no number",
    ),
    "a capacity of nothing": (swapped('ovf:capacity="10"', 'ovf:capacity="0"'), "0 bytes, which no disk has"),
    "a capacity of half a sector": (
        swapped('"10" ovf:capacityAllocationUnits="byte * 2^30"', '"256"'),
        "256 bytes, which no disk has",
    ),
    "a capacity beyond all disks": (
        swapped('ovf:capacity="10"', f'ovf:capacity="{10**19}"'),
        "out of range",
    ),
    "a unit that nobody knows": (
        swapped('capacityAllocationUnits="byte * 2^30"', 'capacityAllocationUnits="furlong"'),
        "units of 'furlong', which are not known",
    ),
    "a unit that takes for ever to compute": (
        swapped('capacityAllocationUnits="byte * 2^30"', 'capacityAllocationUnits="byte * 999999999^99"'),
        "out of range",
    ),
    "a property without a value": (swapped('ovf:value="7"', ""), "capacity of disk vmdisk3 is ''"),
    "a hardware item without a type": (
        swapped("<rasd:ResourceType>3</rasd:ResourceType>", ""),
        "the ResourceType of hardware item 1 is ''",
    ),
    "two hardware items of one id": (
        swapped("<rasd:InstanceID>5</rasd:InstanceID>", "<rasd:InstanceID>4</rasd:InstanceID>"),
        "two hardware items have the InstanceID '4'",
    ),
    "a drive with a disk that is not there": (
        swapped("ovf:/disk/vmdisk1", "ovf:/disk/vmdisk7"),
        "refers to disk 'ovf:/disk/vmdisk7'",
    ),
    "two disks at one place": (
        swapped("<rasd:AddressOnParent>1<", "<rasd:AddressOnParent>0<"),
        "two disks are at scsi0:0",
    ),
    "no memory": (
        swapped("<rasd:ResourceType>4</rasd:ResourceType>", "<rasd:ResourceType>1</rasd:ResourceType>"),
        "does not say how much memory",
    ),
    "memory of nothing": (
        swapped("<rasd:VirtualQuantity>1024<", "<rasd:VirtualQuantity>0<"),
        "less than a mebibyte",
    ),
    "memory without an amount": (
        swapped("<rasd:VirtualQuantity>1024</rasd:VirtualQuantity>", ""),
        "the memory is ''",
    ),
    "no CPU": (swapped("<rasd:VirtualQuantity>1<", "<rasd:VirtualQuantity>0<"), "the number of CPUs is 0"),
    "more CPUs than there are": (
        swapped("<rasd:VirtualQuantity>1<", "<rasd:VirtualQuantity>99999999999<"),
        "the number of CPUs is '99999999999'",
    ),
}


def first_machine(data: bytes) -> SourceVM:
    package = parse(data)
    return describe(package, package.systems[0]).vm


@pytest.mark.parametrize("name", BAD)
def test_a_bad_descriptor_is_refused_with_what_is_wrong(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(DescriptorInvalid, match=re.escape(words)):
        first_machine(data)


def test_the_descriptor_that_the_bad_ones_are_made_of_is_good() -> None:
    assert len(first_machine(GOOD.encode()).disks) == 3
