"""A client of the image server, and images for it to read."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
from typing import TYPE_CHECKING

from controller.imageserver import ImageServer
from controller.scratch import DiskRecord, Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

UID, OTHER = "import-1", "import-2"
DATA = bytes(range(256)) * 4096  # 1 MiB
MEBIBYTE = 1024 * 1024
LARGE = 64 * MEBIBYTE  # more than any socket buffer takes


def make_scratch(root: Path) -> Scratch:
    """A scratch volume with two disks of one import and one of another."""
    scratch = Scratch(root)
    for uid, index, data in ((UID, 0, DATA), (UID, 1, b"second disk"), (OTHER, 0, b"of another import")):
        add_image(scratch, index, [(0, data)], len(data), uid=uid)
    return scratch


def add_image(
    scratch: Scratch, index: int, runs: Sequence[tuple[int, bytes]], size: int, *, uid: str = UID
) -> Path:
    """Add an image with data at the given places, and holes elsewhere."""
    write_sparse(scratch.prepare(uid, index), runs, size)
    return scratch.commit(uid, index, DiskRecord(size, "sparse-sha256-64k:00"))


def write_sparse(path: Path, runs: Sequence[tuple[int, bytes]], size: int) -> None:
    """Write a file with data at the given places, and holes elsewhere as far as the file system can."""
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in runs:
            os.pwrite(file.fileno(), data, at)


def noise(count: int, seed: int = 0) -> bytes:
    """Return bytes that no compression makes shorter."""
    return random.Random(seed).randbytes(count)  # noqa: S311  # the same in every run


@contextlib.contextmanager
def serving(scratch: Scratch) -> Iterator[ImageServer]:
    server = ImageServer(scratch, "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Answer:
    """Everything that came back for one request on a connection of its own."""

    def __init__(self, server: ImageServer, path: str, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        response = connection.getresponse()
        self.status = response.status
        self.body = response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        connection.close()


def begin_reading(server: ImageServer, path: str, *headers: str) -> socket.socket:
    """Ask for an image and read no more than its beginning."""
    reader = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]
    reader.sendall("\r\n".join(lines).encode())
    assert reader.recv(12) == b"HTTP/1.1 200"
    return reader


def read_to_end(reader: socket.socket) -> bytes:
    """Read what still comes, until the server ends the connection."""
    pieces = []
    while True:
        try:
            data = reader.recv(MEBIBYTE)
        except ConnectionResetError:
            break
        if not data:
            break
        pieces.append(data)
    return b"".join(pieces)
