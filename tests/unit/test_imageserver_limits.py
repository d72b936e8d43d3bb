from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from controller.imageserver import ImageServer
from controller.imageserver import server as limits
from controller.scratch import Scratch
from tests.unit.fakes import eventually
from tests.unit.image_client import (
    DATA,
    LARGE,
    UID,
    Answer,
    add_image,
    begin_reading,
    make_scratch,
    read_to_end,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return make_scratch(tmp_path)


@pytest.fixture
def server(scratch: Scratch) -> Iterator[ImageServer]:
    with serving(scratch) as server:
        yield server


def add_large_image(scratch: Scratch) -> None:
    add_image(scratch, 2, [], LARGE)


def test_a_reader_under_way_is_not_cut_by_withdrawing(server: ImageServer, scratch: Scratch) -> None:
    add_large_image(scratch)
    path = server.publish(UID, 2)
    reader = begin_reading(server, path, "Connection: close")
    server.withdraw(UID, 2)
    scratch.remove(UID)
    assert len(read_to_end(reader)) > LARGE
    reader.close()


def test_a_stop_does_not_wait_for_a_reader_that_does_not_read(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STOP_SECONDS", 0.1)
    add_large_image(scratch)
    with serving(scratch) as server:
        reader = begin_reading(server, server.publish(UID, 2))
        server.stop()
        assert len(read_to_end(reader)) < LARGE
        reader.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)
    assert not [thread for thread in threading.enumerate() if thread.name == "imageserver"]


def test_a_stop_lets_a_reader_that_reads_come_to_its_end(scratch: Scratch) -> None:
    add_large_image(scratch)
    with serving(scratch) as server:
        reader = begin_reading(server, server.publish(UID, 2))
        received: list[int] = []
        thread = threading.Thread(target=lambda: received.append(len(read_to_end(reader))))
        thread.start()
        server.stop()
        thread.join(60)
        assert received[0] > LARGE
        reader.close()


def test_a_header_that_does_not_end_costs_the_connection(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1)
    with serving(scratch) as server:
        path = server.publish(UID, 0)
        for request in (b"", b"GET / HT", f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode()):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
                slow.sendall(request)
                with contextlib.suppress(ConnectionResetError):  # what was sent came too late even for that
                    assert slow.recv(100) == b"", "closed without an answer"


def test_a_header_that_comes_byte_by_byte_costs_the_connection_too(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.2)

    def is_cut(slow: socket.socket) -> bool:
        try:
            slow.sendall(b"x")
        except OSError:
            return True
        return False

    with (
        serving(scratch) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        eventually(lambda: is_cut(slow))


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"rubbish\r\n\r\n",
    ],
)
def test_a_header_beyond_the_limits_is_refused(server: ImageServer, request_head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request_head)
        with contextlib.suppress(ConnectionError):
            assert client.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"")


def test_connections_beyond_the_limit_are_ended(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 2)
    with serving(scratch) as server, contextlib.ExitStack() as opened:
        path = server.publish(UID, 0)
        readers = []
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            opened.callback(connection.close)
            connection.request("HEAD", path)
            assert connection.getresponse().read() == b""
            readers.append(connection)
        with pytest.raises(ConnectionError):
            Answer(server, path)
        readers[0].close()

        def is_served() -> bool:
            try:
                return Answer(server, path).body == DATA
            except ConnectionError:
                return False

        eventually(is_served)
