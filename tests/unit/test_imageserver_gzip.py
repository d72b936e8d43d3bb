from __future__ import annotations

import gzip
import http.client
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from controller.imageserver import ImageServer
from controller.imageserver.representation import accepts_gzip
from controller.imageserver.sparse_gzip import PIECE_BYTES, SparseGzip
from controller.scratch import Scratch
from tests.unit.fakes import eventually
from tests.unit.image_client import (
    LARGE,
    MEBIBYTE,
    UID,
    Answer,
    add_image,
    begin_reading,
    make_scratch,
    noise,
    read_to_end,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

THIN, LARGE_THIN, FULL = 5, 6, 7  # disks
GZIP = "Accept-Encoding: gzip"
DATA_BYTES = 32 * MEBIBYTE  # of the large one: more than any socket buffer takes


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    scratch = make_scratch(tmp_path)
    add_image(scratch, THIN, [(0, noise(100_000)), (3 * MEBIBYTE + 511, b"end")], 4 * MEBIBYTE)
    return scratch


@pytest.fixture
def server(scratch: Scratch) -> Iterator[ImageServer]:
    with serving(scratch) as server:
        yield server


@pytest.fixture
def content(scratch: Scratch) -> bytes:
    """What the thin image holds."""
    return scratch.path(UID, THIN).read_bytes()


@pytest.fixture
def large_path(scratch: Scratch, server: ImageServer) -> str:
    """URL path of an image whose gzip stream fills all buffers on its way."""
    add_image(scratch, LARGE_THIN, [(MEBIBYTE, noise(DATA_BYTES))], LARGE)
    return server.publish(UID, LARGE_THIN)


def test_a_thin_image_travels_as_gzip_to_a_client_that_offers_it(server: ImageServer, content: bytes) -> None:
    answer = Answer(server, server.publish(UID, THIN), Accept_Encoding="gzip")
    assert answer.status == HTTPStatus.OK
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert gzip.decompress(answer.body) == content
    assert len(answer.body) < 150_000
    assert "content-length" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"


def test_caches_are_told_that_encodings_differ(server: ImageServer) -> None:
    path = server.publish(UID, THIN)
    for answer in (
        Answer(server, path),
        Answer(server, path, Accept_Encoding="gzip"),
        Answer(server, path, "HEAD"),
    ):
        assert answer.headers["vary"].lower() == "accept-encoding"


def test_cdi_learns_from_every_answer_that_ranges_are_served(server: ImageServer) -> None:
    path = server.publish(UID, THIN)
    for encoding in ("identity", "gzip"):
        assert Answer(server, path, Accept_Encoding=encoding).headers["accept-ranges"] == "bytes"


def test_a_gzip_answer_has_nothing_by_which_its_rest_could_be_asked_for(server: ImageServer) -> None:
    path = server.publish(UID, THIN)
    assert not {"etag", "last-modified"} & Answer(server, path, Accept_Encoding="gzip").headers.keys()
    assert {"etag", "last-modified"} <= Answer(server, path).headers.keys()


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        (["gzip"], True),
        (["GZIP"], True),
        (["x-gzip"], True),
        (["deflate, gzip, br, zstd"], True),
        (["deflate", "gzip"], True),
        (["gzip;q=0.001"], True),
        (["gzip ; q=0.5"], True),
        (["gzip;q=1.0, identity;q=0.5, *;q=0"], True),
        (["identity;q=0, gzip;q=0.1"], True),
        (["gzip, identity"], True),
        (["gzip;q=0.5, *;q=0.5"], True),
        ([], False),
        ([""], False),
        (["identity"], False),
        (["*"], False),
        (["br"], False),
        (["gzipped"], False),
        (["not-gzip"], False),
        (["gzip;q=0"], False),
        (["gzip;q=0.000"], False),
        (["gzip;q=0, *"], False),
        (["gzip;q=0.5, identity"], False),
        (["gzip;q=0.5, *;q=0.8"], False),
        (["gzip;q="], False),
        (["gzip;q=nan"], False),
        (["gzip;q=2"], False),
        (["gzip;q=-1"], False),
        (["gzip;level=9"], False),
        (["gzip;q=high"], False),
    ],
)
def test_gzip_is_taken_from_those_who_offer_and_do_not_prefer_the_plain_bytes(
    fields: list[str],
    accepted: bool,  # noqa: FBT001  # a parameter of the table above
) -> None:
    assert accepts_gzip(fields) is accepted


@pytest.mark.parametrize("offer", [None, "identity", "*", "gzip;q=0", "br"])
def test_a_client_that_offers_no_gzip_gets_the_plain_bytes(
    server: ImageServer, content: bytes, offer: str | None
) -> None:
    headers = {} if offer is None else {"Accept_Encoding": offer}
    answer = Answer(server, server.publish(UID, THIN), **headers)
    assert answer.body == content
    assert answer.headers["content-length"] == str(len(content))
    assert "content-encoding" not in answer.headers


def test_a_full_image_is_not_inflated_for_nothing(server: ImageServer, scratch: Scratch) -> None:
    full = noise(2 * MEBIBYTE)
    add_image(scratch, FULL, [(0, full)], len(full))
    answer = Answer(server, server.publish(UID, FULL), Accept_Encoding="gzip")
    assert answer.body == full
    assert answer.headers["content-length"] == str(len(full))


def test_an_image_without_a_byte_is_no_gzip_stream(server: ImageServer, scratch: Scratch) -> None:
    add_image(scratch, FULL, [], 0)
    answer = Answer(server, server.publish(UID, FULL), Accept_Encoding="gzip")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (HTTPStatus.OK, b"", "0")


def test_a_head_is_of_the_plain_bytes_whatever_is_offered(server: ImageServer, content: bytes) -> None:
    answer = Answer(server, server.publish(UID, THIN), "HEAD", Accept_Encoding="gzip")
    assert answer.headers["content-length"] == str(len(content))
    assert "content-encoding" not in answer.headers


def test_a_range_is_of_the_plain_bytes_whatever_is_offered(server: ImageServer, content: bytes) -> None:
    path = server.publish(UID, THIN)
    answer = Answer(server, path, Range="bytes=100-4099", Accept_Encoding="gzip")
    assert answer.status == HTTPStatus.PARTIAL_CONTENT
    assert answer.body == content[100:4100]
    assert "content-encoding" not in answer.headers
    assert Answer(server, path, range="bytes=100-4099", accept_encoding="gzip").body == answer.body
    answer = Answer(server, path, Range=f"bytes={len(content)}-", Accept_Encoding="gzip")
    assert answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def test_conditions_are_about_the_plain_bytes_whatever_is_offered(
    server: ImageServer, content: bytes
) -> None:
    path = server.publish(UID, THIN)
    tag = Answer(server, path).headers["etag"]
    assert Answer(server, path, If_None_Match=tag, Accept_Encoding="gzip").status == HTTPStatus.NOT_MODIFIED
    answer = Answer(server, path, If_Match=tag, Accept_Encoding="gzip")
    assert answer.body == content


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ("{tag}", HTTPStatus.PARTIAL_CONTENT),
        ('"another"', HTTPStatus.OK),
        ("W/{tag}", HTTPStatus.OK),  # RFC 9110, section 13.1.5: a weak one is never the same
        ("Fri, 01 Jan 2100 00:00:00 GMT", HTTPStatus.PARTIAL_CONTENT),
        ("Thu, 01 Jan 1970 00:00:00 GMT", HTTPStatus.OK),
    ],
)
def test_a_range_of_another_state_of_the_image_is_not_served(
    server: ImageServer, content: bytes, tag: str, status: HTTPStatus
) -> None:
    path = server.publish(UID, THIN)
    asked = tag.format(tag=Answer(server, path).headers["etag"])
    answer = Answer(server, path, Range="bytes=7-", If_Range=asked, Accept_Encoding="gzip")
    assert answer.status == status
    assert answer.body == (content[7:] if status == HTTPStatus.PARTIAL_CONTENT else content)


def test_a_client_of_http_1_0_gets_the_plain_bytes(server: ImageServer, content: bytes) -> None:
    path = server.publish(UID, THIN)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as reader:
        reader.sendall(f"GET {path} HTTP/1.0\r\n{GZIP}\r\n\r\n".encode())
        head, _, body = read_to_end(reader).partition(b"\r\n\r\n")
    assert b"content-encoding" not in head.lower()
    assert body == content


def test_a_connection_goes_on_after_a_gzip_answer(server: ImageServer, content: bytes) -> None:
    path = server.publish(UID, THIN)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    used = connection.sock
    for _ in range(3):
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(connection.getresponse().read()) == content
        connection.request("HEAD", path)
        assert connection.getresponse().read() == b""
    assert connection.sock is used
    connection.close()


def test_a_gzip_of_an_image_that_is_gone_is_the_404_of_others(server: ImageServer, scratch: Scratch) -> None:
    path = server.publish(UID, THIN)
    scratch.path(UID, THIN).unlink()
    answer = Answer(server, path, Accept_Encoding="gzip")
    assert answer.status == HTTPStatus.NOT_FOUND
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("header", [GZIP, "X: y"])
def test_an_image_that_is_cut_short_never_ends_well(
    server: ImageServer, scratch: Scratch, large_path: str, header: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with begin_reading(server, large_path, header) as reader:
        os.truncate(scratch.path(UID, LARGE_THIN), 2 * MEBIBYTE)
        received = read_to_end(reader)  # ends, where it would wait for the rest of the promised length
    assert len(received) < DATA_BYTES
    assert not received.endswith(b"\r\n0\r\n\r\n")
    logged = ""

    def is_told() -> bool:
        nonlocal logged
        logged += capfd.readouterr().out
        return "cannot be read to its end" in logged

    eventually(is_told)
    assert str(scratch.path(UID, LARGE_THIN)) in logged
    assert large_path.split("/")[1] not in logged


@pytest.mark.parametrize("header", [GZIP, "X: y"])
def test_an_image_that_is_removed_is_still_sent_to_its_end(
    server: ImageServer, scratch: Scratch, large_path: str, header: str
) -> None:
    with begin_reading(server, large_path, header, "Connection: close") as reader:
        server.withdraw(UID, LARGE_THIN)
        scratch.remove(UID)
        received = read_to_end(reader)
    assert len(received) > DATA_BYTES
    assert received.endswith(b"\r\n0\r\n\r\n") or len(received) > LARGE


def test_many_readers_get_the_same_bytes_at_once(server: ImageServer, content: bytes) -> None:
    path = server.publish(UID, THIN)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: Answer(server, path, Accept_Encoding="gzip"), range(40)))
    assert {gzip.decompress(answer.body) for answer in answers} == {content}


def open_images() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return [target for target in found if target.endswith(".raw")]


def test_an_image_is_closed_when_its_reader_goes_away(server: ImageServer, large_path: str) -> None:
    with begin_reading(server, large_path, GZIP):
        assert open_images()
    eventually(lambda: not open_images())


def test_a_reader_that_goes_away_is_no_error(
    server: ImageServer,
    large_path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    gone, noticed, read = threading.Event(), threading.Event(), SparseGzip.read

    def read_when_it_is_gone(stream: SparseGzip) -> bytes | bytearray:
        gone.wait(60)
        noticed.wait(0.2)
        return read(stream)

    caplog.set_level(logging.WARNING)
    with begin_reading(server, large_path, GZIP):
        monkeypatch.setattr(SparseGzip, "read", read_when_it_is_gone)
    gone.set()
    eventually(lambda: not open_images())
    assert caplog.text == ""
    assert "error" not in capfd.readouterr().out


def test_readers_that_do_not_read_cost_little_memory(
    server: ImageServer, large_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 20
    pause, reads, read = threading.Event(), 0, SparseGzip.read

    def counted(stream: SparseGzip) -> bytes | bytearray:
        nonlocal reads
        reads += 1
        return read(stream)

    def standing() -> bool:
        before = reads
        pause.wait(0.5)
        return reads == before

    monkeypatch.setattr(SparseGzip, "read", counted)

    before = resident()
    readers = [begin_reading(server, large_path, GZIP) for _ in range(count)]
    eventually(standing)
    held = resident() - before
    for reader in readers:
        reader.close()
    assert held < count * 4 * PIECE_BYTES + 16 * MEBIBYTE  # of the 640 MiB that they asked for


def resident() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_stop_ends_a_gzip_answer_that_is_not_read_without_a_good_end(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.imageserver.server.STOP_SECONDS", 0.1)
    add_image(scratch, LARGE_THIN, [(MEBIBYTE, noise(DATA_BYTES))], LARGE)
    with serving(scratch) as server:
        with begin_reading(server, server.publish(UID, LARGE_THIN), GZIP) as reader:
            server.stop()
            received = read_to_end(reader)
        assert len(received) < DATA_BYTES
        assert not received.endswith(b"\r\n0\r\n\r\n")
    assert not open_images()


def test_a_stop_lets_a_gzip_answer_that_is_read_come_to_its_end(server: ImageServer, large_path: str) -> None:
    with begin_reading(server, large_path, GZIP) as reader, ThreadPoolExecutor(1) as pool:
        received = pool.submit(read_to_end, reader)
        server.stop()
        assert received.result().endswith(b"\r\n0\r\n\r\n")


def test_no_token_is_logged_with_a_gzip_answer(
    server: ImageServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = server.publish(UID, THIN)
    Answer(server, path, Accept_Encoding="gzip")
    out, err = capfd.readouterr()
    assert "image requested" in out, "the log is seen here at all"
    assert path.split("/")[1] not in caplog.text + out + err
