"""OVF descriptors as products write them, by the name of the golden file that says what they are to us."""

from __future__ import annotations

from pathlib import Path

from providers.ova.descriptor import parse
from providers.ova.machine import Described, describe

FOLDER = Path(__file__).parent / "ovf"
DESCRIPTORS = tuple(sorted(path.stem for path in FOLDER.glob("*.ovf")))
CHOSEN = {"collection_of_three": "db"}
"""Which system of a package is meant, where there are several."""


def read(name: str) -> bytes:
    return (FOLDER / f"{name}.ovf").read_bytes()


def described(name: str) -> Described:
    package = parse(read(name))
    return describe(package, package.system(CHOSEN.get(name, "")), CHOSEN.get(name, ""))
