"""Downloads from a Glance that drops connections, has no ranges, or wants another token."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from providers.errors import TransferInterrupted, Unreachable
from providers.openstack.download import RESUMES, GlanceStream

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = bytes(range(256)) * 4096  # 1 MiB
IMAGE = {"id": "i1", "disk_format": "raw", "size": len(CONTENT)}


class Glance(ThreadingHTTPServer):
    """Answers `GET /v2/images/i1/file`; each answer is cut after as many bytes as `cuts` says."""

    def __init__(self, *cuts: int | None, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts = list(cuts)
        self.ranges = ranges
        self.good_token = "token-0"  # noqa: S105
        self.asked: list[tuple[str | None, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Glance

    def do_GET(self) -> None:
        glance = self.server
        token, wanted = self.headers["X-Auth-Token"], self.headers["Range"]
        glance.asked.append((token, wanted))
        if self.path != "/v2/images/i1/file" or token != glance.good_token:
            self.send_error(404 if token == glance.good_token else 401)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and glance.ranges else 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = glance.cuts.pop(0) if glance.cuts else None
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@contextlib.contextmanager
def serving(glance: Glance) -> Iterator[Any]:
    """Run it, and yield a session that knows where it is."""
    thread = threading.Thread(target=glance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    tokens = iter(["token-0", "token-1", "token-2"])
    current = [next(tokens)]

    def token(*, stale: str | None = None) -> str:
        if stale == current[0]:
            current[0] = next(tokens)
        return current[0]

    try:
        yield SimpleNamespace(url=lambda _: f"http://127.0.0.1:{glance.server_port}/v2", token=token)
    finally:
        glance.shutdown()
        glance.server_close()
        thread.join()


def download(session: Any, image: dict[str, Any] | None = None) -> bytes:
    with contextlib.closing(GlanceStream(session, image or IMAGE, "disk vda")) as stream:
        return b"".join(stream.open().chunks())


def test_a_dropped_connection_goes_on_where_it_was() -> None:
    with serving(glance := Glance(300_000, 1, 400_000)) as session:
        assert download(session) == CONTENT
    assert [wanted for _, wanted in glance.asked] == [None, "bytes=300000-", "bytes=300001-", "bytes=700001-"]


def test_a_store_without_ranges_is_read_again_by_whoever_asks() -> None:
    with (
        serving(Glance(300_000, ranges=False)) as session,
        pytest.raises(TransferInterrupted, match="no ranges"),
    ):
        download(session)


def test_a_connection_that_only_drops_is_given_up() -> None:
    with serving(glance := Glance(10, *[0] * 20)) as session, pytest.raises(TransferInterrupted):
        download(session)
    assert len(glance.asked) == 1 + 1 + RESUMES - 1


def test_a_token_that_ends_in_the_middle_is_replaced() -> None:
    with serving(glance := Glance(300_000)) as session:
        stream = GlanceStream(session, IMAGE, "disk vda").open()
        glance.good_token = "token-1"  # noqa: S105
        assert b"".join(stream.chunks()) == CONTENT
        stream.close()
    assert glance.asked[1:] == [("token-0", "bytes=300000-"), ("token-1", "bytes=300000-")]


def test_what_is_no_image_is_refused_before_a_byte_is_read() -> None:
    with serving(Glance()) as session, pytest.raises(TransferInterrupted, match="404"):
        GlanceStream(session, {**IMAGE, "id": "gone"}, "disk vda").open()


def test_nobody_there_is_unreachable() -> None:
    with serving(Glance()) as session:
        url = session.url("image")
    session.url = lambda _: url
    with pytest.raises(Unreachable):
        GlanceStream(session, IMAGE, "disk vda").open()


def test_a_closed_stream_ends_and_says_so() -> None:
    with serving(Glance()) as session:
        stream = GlanceStream(session, IMAGE, "disk vda").open()
        received = stream.chunks()
        next(received)
        stream.close()
        stream.close()
        with pytest.raises(TransferInterrupted, match="closed by the reader"):
            list(received)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"os_hash_algo": "sha512", "os_hash_value": "ab", "checksum": "cd"}, ("sha512", "ab")),
        ({"checksum": "cd"}, ("md5", "cd")),
        ({"os_hash_algo": "sha512", "os_hash_value": None, "checksum": None}, None),
    ],
)
def test_the_strongest_checksum_that_glance_tells_counts(
    told: dict[str, str | None], expected: tuple[str, str] | None
) -> None:
    session: Any = SimpleNamespace(url=lambda _: "http://glance/v2")
    assert GlanceStream(session, {**IMAGE, **told}, "disk").checksum == expected


@pytest.mark.parametrize(("declared", "expected"), [("vhd", "vpc"), ("qcow2", "qcow2"), ("raw", "raw")])
def test_formats_are_told_in_the_words_of_the_converters(declared: str, expected: str) -> None:
    session: Any = SimpleNamespace(url=lambda _: "http://glance/v2")
    assert GlanceStream(session, {**IMAGE, "disk_format": declared}, "disk").format == expected
