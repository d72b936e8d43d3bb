"""Damaged and hostile OVF descriptors, manifests and tar archives against what reads them.

Case `n` of seed `s` is always the same: a good one, changed in one to six places, in ways that know the form.
"""

from __future__ import annotations

import functools
import random
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from providers.errors import ProviderError
from providers.model import SourceVM
from providers.ova import descriptor, machine, manifest, tar
from tests.fuzz.report import Report, campaign
from tests.unit.providers.ova.archives import BytesSource, archive, header

MAX_MESSAGE = 16_000  # characters; a condition may have 32,768
CORPUS = Path(__file__).parents[1] / "unit" / "providers" / "ova" / "ovf"
NUMBERS = (
    "0",
    "-1",
    "1",
    "511",
    "2147483648",
    "18446744073709551616",
    "9" * 400,
    "1e9",
    "0x10",
    "٣",
    "NaN",
    "",
)
WORDS = (
    "../../etc/passwd",
    "&",
    "&lt;",
    "<!-- -->",
    "]]>",
    "<![CDATA[x",
    "\0",
    "\ufffe",
    "${a}",
    "${data.size}",
    "ovf:/disk/vmdisk1",
    "byte * 2^30",
    "byte * 9^99",
    "byte" + "*2" * 40,
    "MegaBytes",
    "true",
    "vmdisk1",
    "file1",
    "http://192.0.2.1/",
    "a" * 70_000,
    "' or 1",
    '"',
    "%00%2e%2e",
    "3",
    "17",
)
DOCTYPES = (
    b'<!DOCTYPE a [<!ENTITY x "y">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://192.0.2.1/"> %x;]>',
)
_NUMBER = re.compile(rb"(?<![\w.])\d+(?![\w.])")
_VALUE = re.compile(rb'"[^"<>]*"|>[^<>]+<')
_ELEMENT = re.compile(
    rb"<(\w+:)?(Item|Disk|File|VirtualSystem|System|Network|Section)\b.*?(/>|</(\w+:)?\2>)", re.DOTALL
)
_TAG = re.compile(rb"</?[\w:]+[^<>]*>")

Change: TypeAlias = Callable[[bytearray, random.Random], None]
Check: TypeAlias = Callable[[bytes], None]


class WrongResult(Exception):
    """What was read breaks a promise."""


def run(kind: str, cases: int, seed: int, on_progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Run so many cases of `ovf`, `manifest` or `tar`; tell `on_progress` now and then."""
    return campaign(cases, lambda number, report: _run_case(kind, seed, number, report), on_progress)


def make_case(kind: str, seed: int, number: int) -> bytes:
    """Return the bytes of a case."""
    rng = random.Random(f"{kind}/{seed}/{number}")  # noqa: S311  # reproducible on purpose
    corpus, changes, _ = KINDS[kind]
    data = bytearray(rng.choice(corpus()))
    for _ in range(rng.randint(1, 6)):
        rng.choice(changes)(data, rng)
    return bytes(data)


def _run_case(kind: str, seed: int, number: int, report: Report) -> None:
    seconds, outcome, defect = _judge(KINDS[kind][2], make_case(kind, seed, number))
    report.enter(f"{kind} case {number} of seed {seed}", seconds, outcome, defect)


def _judge(check: Check, data: bytes) -> tuple[float, str, str]:
    """Read one case; return the processor's seconds, how it ended, and what is wrong, if anything."""
    started = time.thread_time()  # nothing here waits for anything
    outcome, defect = "ok", ""
    try:
        check(data)
    except ProviderError as exc:
        outcome = type(exc).__name__
        if not 0 < len(str(exc)) <= MAX_MESSAGE:
            defect = f"a message of {len(str(exc))} characters"
    except Exception as exc:  # noqa: BLE001  # what is not typed is what is looked for
        outcome, defect = type(exc).__name__, f"untyped {exc!r}"[:300]
    return time.thread_time() - started, outcome, defect


def check_ovf(data: bytes) -> None:
    """Describe every system; what comes out must be what a status can keep, and possible."""
    package = descriptor.parse(data)
    for system in package.systems:
        vm = machine.describe(package, system).vm
        if SourceVM.from_dict(vm.to_dict()) != vm:
            raise WrongResult("the description does not survive the status")
        if (
            vm.cpu_count < 1
            or vm.memory_mib < 1
            or any(d.size_bytes < 512 or d.size_bytes % 512 for d in vm.disks)
        ):
            raise WrongResult("no machine can be so")
        if len({disk.key for disk in vm.disks}) != len(vm.disks):
            raise WrongResult("two disks have one key")


def check_manifest(data: bytes) -> None:
    """Read it; digests must be hex of the right length."""
    lengths = {"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
    for name, (algorithm, digest) in manifest.parse(data).items():
        if not name or lengths[algorithm] != len(digest) or digest.strip("0123456789abcdef"):
            raise WrongResult("no digest of a file")


def check_tar(data: bytes) -> None:
    """Walk through it; places must go forward, and no more is read than asked for."""
    source = BytesSource(data)
    end = 0
    for member in tar.members(source):
        if member.offset < end or member.size < 0 or source.position != member.offset:
            raise WrongResult("a member lies inside another")
        end = member.offset + member.size
        source.read(min(member.size, 600))


def flip_bit(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_end(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def remove_some(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 10, 512, 700))]


def repeat_some(data: bytearray, rng: random.Random) -> None:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 10, 512, 700))
    data[start:start] = data[start : start + length]


def insert_noise(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.choice((1, 3, 20)))


def _replace(
    pattern: re.Pattern[bytes], data: bytearray, rng: random.Random, new: Callable[[bytes], bytes]
) -> None:
    found = list(pattern.finditer(data))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = new(match[0])


def change_number(data: bytearray, rng: random.Random) -> None:
    _replace(_NUMBER, data, rng, lambda _: rng.choice(NUMBERS).encode())


def change_value(data: bytearray, rng: random.Random) -> None:
    word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    _replace(_VALUE, data, rng, lambda old: old[:1] + word + old[-1:])


def swap_values(data: bytearray, rng: random.Random) -> None:
    found = [match[0] for match in _VALUE.finditer(data)]
    if found:
        word = rng.choice(found)[1:-1]
        _replace(_VALUE, data, rng, lambda old: old[:1] + word + old[-1:])


def remove_element(data: bytearray, rng: random.Random) -> None:
    _replace(_ELEMENT, data, rng, lambda _: b"")


def repeat_element(data: bytearray, rng: random.Random) -> None:
    times = 60 if rng.random() < 0.05 else 2
    _replace(_ELEMENT, data, rng, lambda old: old * times)


def remove_tag(data: bytearray, rng: random.Random) -> None:
    _replace(_TAG, data, rng, lambda _: b"")


def nest(data: bytearray, rng: random.Random) -> None:
    depth = rng.choice((3, 70, 500))
    _replace(_ELEMENT, data, rng, lambda old: b"<a>" * depth + old + b"</a>" * depth)


def declare(data: bytearray, rng: random.Random) -> None:
    at = data.find(b"?>") + 2 if data.startswith(b"<?xml") else 0
    data[at:at] = rng.choice(DOCTYPES)


def recode(data: bytearray, rng: random.Random) -> None:
    text = bytes(data).decode("utf-8", "replace")
    data[:] = text.encode(rng.choice(("utf-16", "utf-16-le", "utf-7", "cp037", "iso-8859-15")), "replace")


def splice(data: bytearray, rng: random.Random) -> None:
    other = rng.choice(_descriptors())
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other)) :]


def change_field(data: bytearray, rng: random.Random) -> None:
    """Change a field of a header, and mostly make its checksum fit."""
    blocks = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"] or [0]
    at = rng.choice(blocks)
    start, length = rng.choice(((0, 100), (124, 12), (156, 1), (257, 8), (345, 155)))
    word = rng.choice(
        (
            b"\0" * length,
            b"\x80" + rng.randbytes(11),
            b"\xff" * 12,
            b"7" * 11,
            b"00000001000",
            b"../../x",
            b"x",
            b"g",
            b"L",
            b"K",
            b"S",
            b"0",
            b"5",
            b"a.ovf",
            rng.randbytes(length),
        )
    )[:length]
    data[at + start : at + start + len(word)] = word
    if rng.random() < 0.8 and len(data) >= at + 512:
        block = data[at : at + 148] + b" " * 8 + data[at + 156 : at + 512]
        data[at + 148 : at + 156] = b"%06o\0 " % sum(block)


def insert_header(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((0, 1, 600, 1 << 34, 1 << 60))
    at = rng.randrange(len(data) // 512 + 1) * 512
    data[at:at] = header(
        rng.choice(("a.ovf", "x" * 99, "é")), size, rng.choice((b"0", b"x", b"g", b"L", b"K", b"5", b"S"))
    )


def insert_records(data: bytearray, rng: random.Random) -> None:
    record = rng.choice(
        (
            b"12 path=ab\n\n",
            b"19 size=1234567890\n",
            b"9 size=x\n",
            b"99999999 size=1\n",
            b"-1 path=x\n",
            b"5 a=\n",
            b"0 x=y\n",
            b"21 GNU.sparse.size=9\n",
            rng.randbytes(30),
            b"30 mtime=1350244992.0239600\n",
        )
    )
    at = rng.randrange(len(data) // 512 + 1) * 512
    data[at:at] = header("pax", len(record), b"x") + record.ljust(512, b"\0")


def change_line(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    lines[rng.randrange(len(lines))] = rng.choice(
        (
            b"",
            b" ",
            b"SHA1()= ",
            b"SHA256(a)= " + b"0" * 64,
            b"sha512 (b) =" + b"A" * 128,
            b"MD5(a)= 0",
            b"(" * 5000,
            b"SHA256(" + b"(" * 3000,
            b"SHA1(a)" + b" " * 5000 + b"= 0",
            b"\xff\xfe",
            b"\0",
            rng.randbytes(40),
            "SHA256(größe)= ".encode() + b"f" * 64,
        )
    )
    data[:] = b"\n".join(lines)


@functools.cache
def _descriptors() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(CORPUS.glob("*.ovf")))


@functools.cache
def _manifests() -> tuple[bytes, ...]:
    names = ("a.ovf", "disk (1).vmdk", "größe.vmdk")
    texts = (
        "".join(f"{word}({name})= {'0a' * half}\n" for name in names)
        for word, half in (("SHA1", 20), ("SHA256", 32), ("sha512 ", 64))
    )
    return tuple(text.encode() for text in texts)


@functools.cache
def _archives() -> tuple[bytes, ...]:
    files = {"a.ovf": b"<x/>", "a.mf": b"m" * 600, "x" * 150 + ".vmdk": b"d" * 3000, "é.cert": b"c"}
    short = {name[-90:]: content for name, content in files.items()}
    return (
        archive(short, tarfile.USTAR_FORMAT),
        archive(files, tarfile.GNU_FORMAT),
        archive(files, tarfile.PAX_FORMAT),
    )


MEANT: tuple[Change, ...] = 5 * (
    change_number,
    change_value,
    swap_values,
    remove_element,
    repeat_element,
)
ANY: tuple[Change, ...] = (flip_bit, cut_end, remove_some, repeat_some, insert_noise)
KINDS: dict[str, tuple[Callable[[], tuple[bytes, ...]], tuple[Change, ...], Check]] = {
    "ovf": (
        _descriptors,
        (*ANY, declare, recode, splice, nest, remove_tag, *MEANT),
        check_ovf,
    ),
    "manifest": (_manifests, (*ANY, change_number, change_line, change_line), check_manifest),
    "tar": (_archives, (*ANY, change_field, change_field, insert_header, insert_records), check_tar),
}
