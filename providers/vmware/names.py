"""vSphere's inventory names: how they are stored, how people write them, and paths made of them."""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# vSphere API reference, ManagedEntity.name: "%", "/" and "\" are stored as %25, %2f and %5c.
_STORED = {"%": "%25", "/": "%2f", "\\": "%5c"}
_ESCAPES = re.compile("%(25|2f|5c)", re.IGNORECASE)


def shown(stored: str) -> str:
    """Return a stored name as people see it: `a%2fb` is `a/b`."""
    return _ESCAPES.sub(lambda match: chr(int(match.group(1), 16)), stored)


def stored(text: str) -> str:
    """Return the stored form of a name as people see it: inverse of `shown`."""
    return "".join(_STORED.get(character, character) for character in text)


def spellings(text: str) -> tuple[str, ...]:
    """Return the stored names that `text` may mean, most literal first: it may be written either way."""
    return tuple(name for name in dict.fromkeys((text, stored(text))) if "/" not in name)


def same(stored_name: str, text: str) -> bool:
    """Whether `text`, written either way and in any Unicode normal form, means the stored name."""
    wanted = _normal(text)
    return wanted in {_normal(stored_name), _normal(shown(stored_name))}


def parts(path: str) -> tuple[str, ...]:
    """Split an inventory path; slashes at its ends and doubled ones do not count."""
    return tuple(part for part in path.split("/") if part)


def join(names: Iterable[str]) -> str:
    """Return the inventory path made of stored names."""
    return "/" + "/".join(names)


def close_to(text: str, candidates: Iterable[str], limit: int = 5) -> list[str]:
    """Return the candidates (stored names) that a person may have meant by `text`, best first."""
    by_key = {_normal(shown(name)).casefold(): name for name in candidates}
    matches = difflib.get_close_matches(_normal(shown(text)).casefold(), by_key, n=limit, cutoff=0.6)
    return [by_key[match] for match in matches]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
