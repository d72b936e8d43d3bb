"""The Go program `reader`: a client that reads an image as Longhorn does."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import toolchain

if TYPE_CHECKING:
    from pathlib import Path


class ReadingFailed(Exception):
    """The reader gave up; with its words."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader saw.

    Attributes:
        length: What HEAD promised, in bytes.
        bytes: What the GET gave, inflated.
        received: What came over the wire for the GET, with headers.
        inflated: Whether it came as gzip.
        seconds: From the GET to the end of its body.
        sha256: Of the bytes; empty if not asked for.
    """

    length: int
    bytes: int
    received: int
    inflated: bool
    seconds: float
    sha256: str = ""


def read(
    url: str,
    *,
    gzip: bool = True,
    sha256: bool = True,
    bytes_per_second: float = 0,
    buffer_bytes: int = 4096,
    output: Path | None = None,
) -> Reading:
    """Read an image as Longhorn does: HEAD, then one GET.

    Args:
        url: What to read; it is not in the arguments of the program.
        gzip: Whether the GET offers gzip, as Go's client does by itself.
        sha256: Whether to compute it.
        bytes_per_second: What the link carries; 0: no limit.
        buffer_bytes: Of each read.
        output: File to write, with holes for zeros.

    Raises:
        ReadingFailed: another status than 200, or a body of another length than promised.
        LabError: the program cannot be built.
    """
    arguments = [
        f"-gzip={gzip}",
        f"-sha256={sha256}",
        f"-rate={bytes_per_second}",
        f"-buffer={buffer_bytes}",
        *([f"-output={output}"] if output else []),
    ]
    done = subprocess.run(
        [toolchain.go_program("reader"), *arguments],
        input=url,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ReadingFailed(done.stderr.strip())
    return Reading(**json.loads(done.stdout))
