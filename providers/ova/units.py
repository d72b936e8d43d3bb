"""Numbers and units as OVF descriptors write them. Pure.

Source: DSP0004 annex C.1 (programmatic units: `byte * 2^20`), and the words that OVF 0.9 and many writers
since use in their place (`MegaBytes`, `GB`), which all of them mean by powers of two.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from providers.errors import DescriptorInvalid

MAX_BYTES = 2**63 - 1
_WORDS = {
    "kilobyte": 2**10,
    "kb": 2**10,
    "kib": 2**10,
    "megabyte": 2**20,
    "mb": 2**20,
    "mib": 2**20,
    "gigabyte": 2**30,
    "gb": 2**30,
    "gib": 2**30,
    "terabyte": 2**40,
    "tb": 2**40,
    "tib": 2**40,
}
_FACTOR = re.compile(r"(\d{1,9})(?:\^(\d{1,2}))?")
_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,9})?")
_LONGEST = 64  # characters of a unit


def size_bytes(number: str, unit: str, what: str) -> int:
    """Return `number` of `unit`s in bytes.

    Args:
        number: A decimal number, not negative.
        unit: Empty for bytes.
        what: What it is, for the message.

    Raises:
        DescriptorInvalid: it is none, no whole number of bytes, or beyond 63 bits.
    """
    if not _NUMBER.fullmatch(number):
        raise DescriptorInvalid(f"{what} is {number!r}, which is no number")
    try:
        size = Decimal(number) * multiplier(unit, what)
        whole = int(size)
    except (InvalidOperation, OverflowError) as exc:
        raise DescriptorInvalid(f"{what} is {number!r} {unit!r}, which is out of range") from exc
    if size != whole or whole > MAX_BYTES:
        raise DescriptorInvalid(f"{what} is {number!r} {unit!r}, which is out of range")
    return whole


def multiplier(unit: str, what: str) -> int:
    """Return the bytes of one unit.

    Raises:
        DescriptorInvalid: nobody knows the unit; `what` begins the message.
    """
    plain = "".join(unit.lower().split())
    word = plain if plain.endswith(("kb", "mb", "gb", "tb")) else plain.removesuffix("s")
    if word in _WORDS:
        return _WORDS[word]
    base, *factors = plain.split("*") if len(plain) <= _LONGEST else ["too long"]
    if base not in ("", "byte", "bytes", "b"):
        raise DescriptorInvalid(f"{what} is in units of {unit[:_LONGEST]!r}, which are not known")
    product = 1
    for factor in factors:
        match = _FACTOR.fullmatch(factor)
        if match is None:
            raise DescriptorInvalid(f"{what} is in units of {unit!r}, which are not known")
        product *= int(match[1]) ** int(match[2] or 1)
    if not 0 < product <= MAX_BYTES:
        raise DescriptorInvalid(f"{what} is in units of {unit!r}, which are out of range")
    return product


def whole_number(number: str, what: str, limit: int = 2**31 - 1) -> int:
    """Return a number of things.

    Raises:
        DescriptorInvalid: it is none, or beyond `limit`.
    """
    if not re.fullmatch(r"\d{1,20}", number) or int(number) > limit:
        raise DescriptorInvalid(f"{what} is {number!r}, which is no number up to {limit}")
    return int(number)
