from __future__ import annotations

import tarfile
from typing import Literal

import pytest

from providers.errors import ArchiveInvalid
from providers.ova import tar
from providers.ova.tar import Member, members
from tests.unit.providers.ova.archives import BytesSource, archive, header, with_field

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
FILES = {"a.ovf": b"<x/>", "a.mf": b"", "deep/er/disk one.vmdk": b"d" * 1500, "b": b"e" * 512}
END = bytes(1024)


def found(data: bytes) -> dict[str, bytes]:
    """Return what an archive holds, read by places."""
    return {m.name: data[m.offset : m.offset + m.size] for m in members(BytesSource(data))}


def pax(*records: bytes) -> bytes:
    body = b"".join(records)
    return header("PaxHeader", len(body), b"x") + body.ljust(-(-len(body) // 512) * 512, b"\0")


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_each_format_is_read_whole(form: int) -> None:
    assert found(archive(FILES, form)) == FILES


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_come_whole(form: int) -> None:
    files = {"größe/" + "x" * 300: b"1", "y" * 101: b"22"}

    assert found(archive(files, form)) == files


def test_a_long_name_in_two_parts_is_put_together() -> None:
    name = f"{'p' * 120}/{'n' * 90}"

    assert found(archive({name: b"x"})) == {name: b"x"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_beyond_eight_gibibytes_have_their_size(form: Literal[1, 2]) -> None:
    size = 3 << 40
    data = header("big.vmdk", size, form=form)
    first = next(members(BytesSource(data)))

    assert (first.name, first.offset, first.size) == ("big.vmdk", len(data), size)


def test_a_caller_may_read_as_much_of_a_member_as_it_likes() -> None:
    data = archive(FILES)
    source = BytesSource(data)

    assert [source.read(min(m.size, 700))[:1] for m in members(source)] == [b"<", b"", b"d", b"e"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x", "..", "nul\u0001l"]
)
def test_hostile_names_are_names_and_nothing_else(name: str) -> None:
    assert found(header(name, 1) + b"x".ljust(512, b"\0") + END) == {name: b"x"}


def test_the_folder_that_one_stands_in_is_no_part_of_a_name() -> None:
    assert found(archive({"././/a.ovf": b"x"})) == {"a.ovf": b"x"}


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_what_is_no_file_is_passed_over(kind: bytes) -> None:
    assert found(header("link", 0, kind) + archive({"a.ovf": b"x"})) == {"a.ovf": b"x"}


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240), bytes(512) + b"rubbish"])
def test_an_archive_ends_at_zeros_or_where_it_ends(end: bytes) -> None:
    assert found(header("a", 3) + b"abc".ljust(512, b"\0") + end) == {"a": b"abc"}


def test_a_checksum_of_signed_characters_counts() -> None:
    block = header("ä", 0)
    blanked = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blanked)

    assert found(block[:148] + b"%06o\0 " % signed + block[156:] + END) == {"ä": b""}


ONE = header("a", 5)
BAD = {
    "nothing": (b"", "the archive is empty"),
    "zeros": (bytes(2048), "the archive is empty"),
    "text": (b"<html>" * 100, "no tar archive"),
    "a gzip file": (b"\x1f\x8b\x08" + bytes(600), "no tar archive"),
    "a wrong checksum": (ONE[:148] + b"0000000\0" + ONE[156:], "no tar archive"),
    "half a header": (ONE[:300], "ends inside a header, at byte 300"),
    "half a second header": (archive({"a": b"x"})[:1024] + ONE[:10], "ends inside a header, at byte 1034"),
    "no header behind a member": (ONE + b"abcde".ljust(512, b"\0") + b"junk" * 128, "no header at byte 1024"),
    "a size that is no number": (with_field(ONE, 124, b"9" * 11), "whose size is no number"),
    "a size below zero": (with_field(ONE, 124, b"\xff" * 12), "whose size is no number"),
    "a size beyond everything": (with_field(ONE, 124, b"\x80" + b"\x7f" * 11), "impossible size"),
    "a pax size that is no number": (pax(b"13 size=huge\n") + ONE, "impossible size"),
    "a pax size beyond everything": (pax(b"29 size=99999999999999999999\n") + ONE, "impossible size"),
    "a pax record with a wrong length": (pax(b"99 path=x\n") + ONE, "damaged extended header"),
    "a pax record without a length": (pax(b"path=x\n") + ONE, "damaged extended header"),
    "a pax record of length 0": (pax(b"0 path=x\n") + ONE, "damaged extended header"),
    "a pax record without a value": (pax(b"7 path\n") + ONE, "damaged extended header"),
    "a huge extended header": (header("x", 1 << 40, b"x"), "extended header of 1099511627776 bytes"),
    "an extended header that is cut": (
        header("x", 1000, b"L") + b"a" * 100,
        "ends inside an extended header",
    ),
    "a sparse member": (header("a", 0, b"S") + END, "sparse member"),
    "a sparse member, pax": (pax(b"22 GNU.sparse.major=1\n") + ONE, "sparse member"),
    "a name beyond all names": (
        header("long", 5000, b"L") + b"n" * 5000 + bytes(120) + ONE,
        "a name of 5000 bytes",
    ),
    "more members than the limit": (header("a") * (tar.MAX_MEMBERS + 1), "more than 4096 members"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_archive_is_refused_with_what_is_wrong(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(ArchiveInvalid, match=words):
        list(members(BytesSource(data)))


def test_members_of_a_damaged_archive_come_up_to_the_damage() -> None:
    data = archive({"a": b"x"})[:1024] + b"junk" * 128
    walk = members(BytesSource(data))

    assert next(walk) == Member("a", 512, 1)
    with pytest.raises(ArchiveInvalid):
        next(walk)
