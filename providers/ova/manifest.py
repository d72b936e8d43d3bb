"""The manifest of an OVF package: one digest for each of its files. Pure.

Source: DSP0243 1.1 and 2.1, "Distribution": lines such as `SHA256(disk1.vmdk)= 9f86d0...`, in any case and
with any spacing, as ovftool, VirtualBox, `openssl dgst` and hand-written scripts write them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from providers.errors import ManifestInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 2 * 1024 * 1024  # for as many lines as an archive may have members
MAX_LINES = 10_000
_LENGTHS = {"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}  # of the digest in hex
_ALGORITHM = re.compile(r"sha\d{1,3}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_SHOWN = 80

Digest = tuple[str, str]
"""Algorithm as hashlib calls it, and hex digits in lower case."""


def parse(data: bytes) -> Mapping[str, Digest]:
    """Return the digest of each file by its name.

    Raises:
        ManifestInvalid: a line is none, of an unknown algorithm, or a file has two different digests.
    """
    if len(data) > MAX_BYTES:
        raise ManifestInvalid(f"the manifest has {len(data)} bytes, more than {MAX_BYTES}")
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ManifestInvalid("the manifest is not text in UTF-8") from exc
    lines = content.rstrip("\0").splitlines()
    if len(lines) > MAX_LINES:
        raise ManifestInvalid(f"the manifest has more than {MAX_LINES} lines")
    digests: dict[str, Digest] = {}
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        # Taken apart by hand: no pattern with a free name in it is safe from lines made to take for ever.
        head, equals, found = (part.strip() for part in stripped.rpartition("="))
        word, bracket, name = (part.strip() for part in head.partition("("))
        algorithm = word.lower().replace("-", "")
        name = name.removesuffix(")").rstrip() if name.endswith(")") else ""
        if (
            not (equals and bracket and name)
            or not _ALGORITHM.fullmatch(algorithm)
            or not _HEX.fullmatch(found)
        ):
            raise ManifestInvalid(f"line {number} of the manifest is no digest: {stripped[:_SHOWN]!r}")
        if _LENGTHS.get(algorithm) != len(found):
            raise ManifestInvalid(f"line {number} of the manifest is no {word} digest")
        digest = algorithm, found.lower()
        if digests.setdefault(name, digest) != digest:
            raise ManifestInvalid(f"line {number} of the manifest gives {name[:_SHOWN]!r} another digest")
    return digests
