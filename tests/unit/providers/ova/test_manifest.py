from __future__ import annotations

import hashlib

import pytest

from providers.errors import ManifestInvalid
from providers.ova import manifest

SHA1, SHA256, SHA512 = (hashlib.new(name, b"x").hexdigest() for name in ("sha1", "sha256", "sha512"))


@pytest.mark.parametrize(
    ("text", "digests"),
    [
        (
            f"SHA256(a.ovf)= {SHA256}\nSHA256(a-1.vmdk)= {SHA256}\n",
            {"a.ovf": ("sha256", SHA256), "a-1.vmdk": ("sha256", SHA256)},
        ),
        (f"SHA1 (a.ovf) = {SHA1}\r\n\r\n", {"a.ovf": ("sha1", SHA1)}),
        (f"sha512( my disk (1).vmdk )={SHA512.upper()}", {"my disk (1).vmdk": ("sha512", SHA512)}),
        (f"\ufeffSHA-256(größe.vmdk)= {SHA256}\n\n", {"größe.vmdk": ("sha256", SHA256)}),
        (f"SHA256(twice)= {SHA256}\nSHA256(twice)= {SHA256}\n\0\0\0", {"twice": ("sha256", SHA256)}),
        ("", {}),
    ],
)
def test_a_manifest_is_read_as_products_write_it(text: str, digests: dict[str, manifest.Digest]) -> None:
    assert manifest.parse(text.encode()) == digests


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\xff", "not text in UTF-8"),
        (b"hello", "line 1 of the manifest is no digest: 'hello'"),
        (f"SHA256(a)= {SHA256}\nMD5(a)= 0cc175b9c0f1b6a831c399e269772661".encode(), "line 2 of the manifest"),
        (f"SHA256(a)= {SHA1}".encode(), "line 1 of the manifest is no SHA256 digest"),
        (f"SHA3(a)= {SHA256}".encode(), "line 1 of the manifest is no SHA3 digest"),
        (f"SHA256()= {SHA256}".encode(), "line 1 of the manifest is no digest"),
        (f"SHA1(a)= {SHA1}\nSHA256(a)= {SHA256}".encode(), "line 2 of the manifest gives 'a' another digest"),
        (b"SHA1(a" + b" " * 1_000_000 + b"= 0", "line 1 of the manifest is no digest"),
        (b"SHA1(a" + b") " * 500_000 + b"= 0", "line 1 of the manifest is no SHA1 digest"),
        (b"\n" * (manifest.MAX_LINES + 1), "more than 10000 lines"),
        (b" " * (manifest.MAX_BYTES + 1), "bytes, more than"),
    ],
)
def test_what_is_no_manifest_is_refused_by_its_line(data: bytes, words: str) -> None:
    with pytest.raises(ManifestInvalid, match=words):
        manifest.parse(data)
