from __future__ import annotations

import http.client
import logging
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from controller.imageserver import ImageMissing, ImageServer
from controller.scratch import Scratch
from tests.unit.image_client import DATA, OTHER, UID, Answer, make_scratch, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return make_scratch(tmp_path)


@pytest.fixture
def server(scratch: Scratch) -> Iterator[ImageServer]:
    with serving(scratch) as server:
        yield server


def test_a_published_image_is_served_whole(server: ImageServer) -> None:
    answer = Answer(server, server.publish(UID, 0))
    assert answer.status == HTTPStatus.OK
    assert answer.body == DATA
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "content-encoding" not in answer.headers


def test_a_head_tells_the_length_and_sends_nothing(server: ImageServer) -> None:
    answer = Answer(server, server.publish(UID, 0), "HEAD")
    assert (answer.status, answer.body) == (HTTPStatus.OK, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-511", 0, 511),
        ("1000-1999", 1000, 1999),
        (f"{len(DATA) - 10}-", len(DATA) - 10, len(DATA) - 1),
        ("-100", len(DATA) - 100, len(DATA) - 1),
        ("500-99999999", 500, len(DATA) - 1),
        ("0-0", 0, 0),
    ],
)
def test_a_range_is_served_as_asked(server: ImageServer, asked: str, first: int, last: int) -> None:
    answer = Answer(server, server.publish(UID, 0), Range=f"bytes={asked}")
    assert answer.status == HTTPStatus.PARTIAL_CONTENT
    assert answer.body == DATA[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.headers["content-length"] == str(last + 1 - first)


IGNORED_RANGES = {  # RFC 9110, sections 14.1.1 and 14.2
    "several at once": "bytes=0-1, 5-6",
    "another unit": "sectors=0-1",
    "the end before the beginning": "bytes=9-5",
    "nothing": "bytes=",
    "neither end": "bytes=-",
    "no number": "bytes=one-two",
    "a number without end": f"bytes=0-{'9' * 5000}",
}


@pytest.mark.parametrize("asked", IGNORED_RANGES.values(), ids=IGNORED_RANGES)
def test_what_is_no_single_range_of_bytes_is_ignored(server: ImageServer, asked: str) -> None:
    answer = Answer(server, server.publish(UID, 0), Range=asked)
    assert answer.status == HTTPStatus.OK
    assert answer.body == DATA
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=0-511", f"bytes={len(DATA)}-"])
def test_a_range_means_nothing_to_a_head(server: ImageServer, asked: str) -> None:
    answer = Answer(server, server.publish(UID, 0), "HEAD", Range=asked)
    assert (answer.status, answer.body) == (HTTPStatus.OK, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", [f"{len(DATA)}-", f"{len(DATA) + 5}-{len(DATA) + 9}", "-0"])
def test_a_range_behind_the_end_is_refused(server: ImageServer, asked: str) -> None:
    answer = Answer(server, server.publish(UID, 0), Range=f"bytes={asked}")
    assert answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.body == b""


def test_one_connection_serves_many_ranges(server: ImageServer) -> None:
    path = server.publish(UID, 0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.connect()
    used = connection.sock
    for at in range(0, len(DATA), 128 * 1024):
        connection.request("GET", path, headers={"Range": f"bytes={at}-{at + 9}"})
        assert connection.getresponse().read() == DATA[at : at + 10]
    assert connection.sock is used
    connection.close()


def test_a_client_that_offers_compression_gets_the_same_bytes(server: ImageServer) -> None:
    answer = Answer(server, server.publish(UID, 0), Accept_Encoding="gzip, br")
    assert answer.body == DATA
    assert "content-encoding" not in answer.headers


WRONG_PATHS: dict[str, Callable[[str, str], str]] = {
    "the root": lambda _own, _other: "/",
    "an unknown token": lambda _own, _other: "/" + "0" * 32 + "/disk-0.raw",
    "the token alone": lambda own, _: own.rpartition("/")[0],
    "the token's folder": lambda own, _: own.rpartition("/")[0] + "/",
    "another disk of the token": lambda own, _: own.replace("disk-0", "disk-1"),
    "a name with the token of another": lambda own, other: (
        other.rpartition("/")[0] + "/" + own.rpartition("/")[2]
    ),
    "the sidecar": lambda own, _: own.replace(".raw", ".json"),
    "the way on the volume": lambda _own, _other: f"/{UID}/disk-0.raw",
    "out and in again": lambda own, _: f"/x/..{own}",
    "out of the folder": lambda own, _: own.rpartition("/")[0] + "/../../etc/passwd",
    "escaped dots": lambda own, _: own.rpartition("/")[0] + "/%2e%2e/etc/passwd",
    "a doubled slash": lambda own, _: "/" + own,
    "a query": lambda own, _: own + "?x=1",
    "a trailing slash": lambda own, _: own + "/",
    "upper case": lambda own, _: own.upper(),
    "half a token": lambda own, _: own[:17] + own[33:],
}


@pytest.mark.parametrize("case", WRONG_PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_everything_else_is_the_same_404(server: ImageServer, case: str, method: str) -> None:
    own, other = server.publish(UID, 0), server.publish(UID, 1)
    answer = Answer(server, WRONG_PATHS[case](own, other), method)
    plain = Answer(server, "/nothing", method)
    assert answer.status == HTTPStatus.NOT_FOUND
    assert (answer.body, answer.headers.keys()) == (plain.body, plain.headers.keys())
    assert answer.body == b""
    assert "aiohttp" not in str(answer.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_find_nothing(server: ImageServer, method: str) -> None:
    assert Answer(server, server.publish(UID, 0), method).status == HTTPStatus.NOT_FOUND


def test_nothing_is_served_before_it_is_published(server: ImageServer, scratch: Scratch) -> None:
    path = server.publish(UID, 0)
    server.withdraw(UID, 0)
    assert Answer(server, path).status == HTTPStatus.NOT_FOUND
    record = scratch.record(UID, 0)
    assert record is not None
    assert not record.published


def test_a_token_is_long_unguessable_and_of_one_disk(server: ImageServer) -> None:
    paths = {server.publish(*disk) for disk in ((UID, 0), (UID, 1), (OTHER, 0))}
    tokens = {path.split("/")[1] for path in paths}
    assert len(tokens) == 3
    assert all(len(bytes.fromhex(token)) == 16 for token in tokens)


def test_publishing_again_gives_the_same_url(server: ImageServer) -> None:
    path = server.publish(UID, 0)
    assert server.publish(UID, 0) == path
    server.withdraw(UID, 0)
    assert server.publish(UID, 0) == path


def test_publishing_from_many_threads_gives_one_url(server: ImageServer) -> None:
    paths: list[str] = []
    threads = [threading.Thread(target=lambda: paths.append(server.publish(UID, 0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1


def test_urls_survive_a_restart_and_withdrawn_ones_stay_dead(scratch: Scratch) -> None:
    with serving(scratch) as server:
        path, withdrawn = server.publish(UID, 0), server.publish(OTHER, 0)
        server.withdraw(OTHER, 0)
    with serving(Scratch(scratch.path(UID, 0).parent.parent)) as server:
        assert Answer(server, path).body == DATA
        assert Answer(server, withdrawn).status == HTTPStatus.NOT_FOUND


def test_an_image_that_is_not_complete_is_not_published(server: ImageServer, scratch: Scratch) -> None:
    scratch.prepare(UID, 7).write_bytes(b"half")
    with pytest.raises(ImageMissing):
        server.publish(UID, 7)
    with pytest.raises(ImageMissing):
        server.publish("unknown", 0)


def test_an_image_is_unbroken_only_in_the_process_that_published_it(scratch: Scratch) -> None:
    with serving(scratch) as server:
        assert not server.unbroken(UID, 0)
        server.publish(UID, 0)
        assert server.unbroken(UID, 0)
    with serving(scratch) as server:
        server.publish(UID, 0)
        assert not server.unbroken(UID, 0)
        server.withdraw(UID, 0)
        server.publish(UID, 0)
        assert server.unbroken(UID, 0)


def test_withdrawing_what_was_never_published_is_no_error(server: ImageServer, scratch: Scratch) -> None:
    server.withdraw(UID, 0)
    server.withdraw("unknown", 3)
    path = server.publish(UID, 0)
    scratch.remove(UID)
    assert Answer(server, path).status == HTTPStatus.NOT_FOUND
    server.withdraw(UID, 0)


def test_many_readers_are_served_at_once(server: ImageServer) -> None:
    path = server.publish(UID, 0)
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(Answer(server, path).body)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [DATA] * 20


def test_no_token_is_ever_logged(
    server: ImageServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = server.publish(UID, 0)
    token = path.split("/")[1]
    for wrong in (path, path + "x"):
        Answer(server, wrong)
        Answer(server, wrong, "POST")
    server.withdraw(UID, 0)
    out, err = capfd.readouterr()
    assert "image requested" in out, "the log is seen here at all"
    assert token not in caplog.text + out + err


def test_an_address_in_use_is_told_to_the_caller(server: ImageServer, scratch: Scratch) -> None:
    with pytest.raises(OSError, match="in use"):
        ImageServer(scratch, "127.0.0.1", server.port).start()


def test_a_stop_may_come_twice_and_before_a_start(scratch: Scratch) -> None:
    server = ImageServer(scratch, "127.0.0.1", 0)
    server.stop()
    server.start()
    server.stop()
    server.stop()
