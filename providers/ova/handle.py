"""Where the bytes of a disk are, in the words that `SourceDisk.handle` keeps. Pure.

A handle is all that is needed to read a disk again after a restart, without another look at the package.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from providers.errors import SourceChanged
from providers.ova.manifest import Digest
from providers.ova.web import UNKNOWN, Version


@dataclass(frozen=True, slots=True)
class Part:
    """A stored file: a disk, or a chunk of one.

    Attributes:
        name: Of the member in the archive, or of the file beside the descriptor.
        offset: Place of its first byte in the archive; `None` where that was not seen.
        length: Bytes, where that was seen.
        digest: As the manifest says, if it does.
        version: Of the file on the server that holds it.
    """

    name: str
    offset: int | None = None
    length: int | None = None
    digest: Digest | None = None
    version: Version = UNKNOWN


@dataclass(frozen=True, slots=True)
class Handle:
    """How to read a disk.

    Attributes:
        format: A word of `converters.formats.DiskFormat`.
        parts: To be read one behind the other; none: the disk is blank.
        gzip: Whether they hold a gzip stream.
        beside: Whether they lie beside the descriptor, and not in an archive.
        ranges: Whether the server offers ranges.
        digests_follow: Whether the manifest, if there is one, comes only later in the archive.
    """

    format: str
    parts: tuple[Part, ...] = ()
    gzip: bool = False
    beside: bool = False
    ranges: bool = True
    digests_follow: bool = False

    def encode(self) -> str:
        """Return it as text, without what is unset."""
        return json.dumps(_lean(asdict(self)), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Inverse of `encode`.

        Raises:
            SourceChanged: the text is none: somebody edited the import's status.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            parts = tuple(_part(entry) for entry in fields.pop("parts", ()))
            return cls(**{"ranges": False, **fields}, parts=parts)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise SourceChanged("the import's status does not say where the disk is any more") from exc


def _part(entry: dict[str, Any]) -> Part:
    digest = entry.pop("digest", None)
    return Part(
        **{key: value for key, value in entry.items() if key != "version"},
        digest=(str(digest[0]), str(digest[1])) if digest else None,
        version=Version(**entry.get("version", {})),
    )


def _lean(value: Any) -> Any:
    """Leave out what is false, empty or `None`; numbers stay."""
    if isinstance(value, dict):
        kept = {key: _lean(entry) for key, entry in value.items()}
        return {
            key: entry
            for key, entry in kept.items()
            if entry not in (None, "", {}, [], ()) and entry is not False
        }
    if isinstance(value, list | tuple):
        return [_lean(entry) for entry in value]
    return value
