"""An image as it goes to the one who asks for it: the file itself, in whole or in ranges, or as gzip.

gzip is for a client that offers it on a plain GET, as Go's does by itself: a thin disk then travels as little
more than its data. HEAD and ranges are always of the file itself, with its exact length, and so is a GET
with conditions. The gzip stream carries no validator: nobody can take it up again by ranges of the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import HttpVersion11, hdrs, web

from controller.imageserver.sparse_gzip import ImageCutShort, SparseGzip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from aiohttp.abc import AbstractStreamWriter
    from multidict import CIMultiDict

_HEADERS: dict[str, str] = {
    hdrs.CONTENT_TYPE: "application/octet-stream",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
    # Of the resource, whatever the encoding of this answer (RFC 9110, section 14.3): CDI's importer looks for
    # it in the answer to a plain GET, and without it does not read by ranges.
    hdrs.ACCEPT_RANGES: "bytes",
}
_OF_A_PART_OR_CONDITION = (
    hdrs.RANGE,
    hdrs.IF_RANGE,
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
)
# One range, as readers ask for them: `0-511`, `512-`, `-512`. Of no more digits than a size can have.
_RANGE = re.compile(r"bytes=(?=\d|-\d)(?P<first>\d{0,19})-(?P<last>\d{0,19})", re.ASCII | re.IGNORECASE)
_log = structlog.get_logger(__name__)


async def answer(request: web.BaseRequest, image: Path, headers: dict[str, str]) -> web.StreamResponse:
    """Answer a GET or HEAD of an image; 404 if there is no such file.

    If the file turns out too short or unreadable while it is sent, the connection ends before the answer is
    complete, so that no client takes it for the whole.

    Args:
        request: What was asked.
        image: The file; it does not change once it is there.
        headers: More headers for the answer.
    """
    headers = {**_HEADERS, **headers}
    if _may_be_gzip(request):
        loop = asyncio.get_running_loop()
        with contextlib.suppress(FileNotFoundError):  # the other way gives the 404
            stream = await loop.run_in_executor(None, SparseGzip, image)
            try:
                if stream.thin:
                    return await _send_gzip(request, stream, headers)
            finally:
                loop.run_in_executor(None, stream.close)
    return _Identity(image, headers=headers)


def accepts_gzip(fields: Iterable[str]) -> bool:
    """Tell whether a client would have gzip rather than no encoding (RFC 9110, section 12.5.3).

    It must say so by name: `*`, or nothing, is no offer. What cannot be understood is no offer either.

    Args:
        fields: The values of its `Accept-Encoding` fields.
    """
    weights: dict[str, float] = {}
    for element in ",".join(fields).split(","):
        coding, _, parameter = (part.strip() for part in element.lower().partition(";"))
        name, _, value = (part.strip() for part in parameter.partition("="))
        try:
            weight = float(value) if name == "q" else 0.0 if parameter else 1.0
        except ValueError:
            weight = 0.0
        weights["gzip" if coding == "x-gzip" else coding] = weight if 0 <= weight <= 1 else 0.0
    gzip = weights.get("gzip", 0.0)
    return gzip > 0 and gzip >= weights.get("identity", weights.get("*", 0.0))


def _may_be_gzip(request: web.BaseRequest) -> bool:
    """Tell whether it is a plain GET that offers gzip, of a client to which a cut is no end (HTTP/1.1)."""
    return (
        request.method == hdrs.METH_GET
        and request.version >= HttpVersion11
        and not any(name in request.headers for name in _OF_A_PART_OR_CONDITION)
        and accepts_gzip(request.headers.getall(hdrs.ACCEPT_ENCODING, []))
    )


async def _send_gzip(
    request: web.BaseRequest, stream: SparseGzip, headers: dict[str, str]
) -> web.StreamResponse:
    loop = asyncio.get_running_loop()
    response = web.StreamResponse(headers={**headers, hdrs.CONTENT_ENCODING: "gzip"})
    response.enable_chunked_encoding()
    transport = request.transport
    try:
        await response.prepare(request)
        while piece := await loop.run_in_executor(None, stream.read):
            await response.write(piece)  # waits for a reader that is behind
        await response.write_eof()
    except ConnectionError:
        pass  # the reader went away, which aiohttp finds out by itself
    except (OSError, ImageCutShort) as exc:
        _cut(request, stream.path, exc)
    except asyncio.CancelledError:
        if transport is not None:
            transport.abort()  # aiohttp only closes it, which waits for a reader that does not read
        raise
    return response


class _Identity(web.FileResponse):
    """The file itself, by sendfile(2)."""

    def __init__(self, image: Path, headers: dict[str, str]) -> None:
        super().__init__(image, headers=headers)
        self._image = image

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        loop = asyncio.get_running_loop()
        request = _with_range_that_counts(request)
        if request.headers.get(hdrs.IF_RANGE, "").startswith(('"', "W/")):
            # Of this condition aiohttp knows dates only, and would serve the range whatever the tag says.
            with contextlib.suppress(OSError):
                status = await loop.run_in_executor(None, self._image.stat)
                if request.headers[hdrs.IF_RANGE] != f'"{status.st_mtime_ns:x}-{status.st_size:x}"':
                    request = request.clone(headers=_without_range(request))
        writer = await super().prepare(request)
        if self.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            # sendfile stops at the end of a file, wherever that is by now.
            promised = self.headers.get(hdrs.CONTENT_RANGE) or self.headers[hdrs.CONTENT_LENGTH]
            with contextlib.suppress(FileNotFoundError):  # removed is not shortened: it was sent as it was
                status = await loop.run_in_executor(None, self._image.stat)
                if status.st_size < int(promised.rpartition("/")[2]):
                    _cut(request, self._image, ImageCutShort())
        return writer


def _with_range_that_counts(request: web.BaseRequest) -> web.BaseRequest:
    """Return the request without a range that is to be ignored (RFC 9110, section 14.2).

    Of a HEAD, in other units, several at once, with its end before its beginning: aiohttp would answer them
    as if there were no such bytes. The last zero bytes do not exist, but it would take them for all.
    """
    asked = request.headers.get(hdrs.RANGE)
    if asked is None:
        return request
    match = _RANGE.fullmatch(asked)
    if request.method != hdrs.METH_GET or match is None:
        return request.clone(headers=_without_range(request))
    first, last = match["first"], match["last"]
    if first and last and int(last) < int(first):
        return request.clone(headers=_without_range(request))
    if not first and not int(last):
        headers = request.headers.copy()
        headers[hdrs.RANGE] = "bytes=-"  # which aiohttp refuses
        return request.clone(headers=headers)
    return request


def _without_range(request: web.BaseRequest) -> CIMultiDict[str]:
    headers = request.headers.copy()
    headers.popall(hdrs.RANGE, None)
    return headers


def _cut(request: web.BaseRequest, image: Path, exc: Exception) -> None:
    """End the connection: what the client was promised cannot be sent."""
    _log.error("image cannot be read to its end", image=str(image), error=str(exc) or type(exc).__name__)
    if request.transport is not None:
        request.transport.abort()
