"""Addresses, tokens and limits: which request is answered, and how many at once.

Readers are Longhorn's backing-image data source (HEAD, then one GET) and CDI's importer (HEAD, a GET of the
first bytes, then ranges or one GET). The URL is the permission: it is never logged, and everything that is
not exactly such a URL is answered with the same 404.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, ClassVar

import structlog
from aiohttp import web

from controller.imageserver import representation

if TYPE_CHECKING:
    from controller.scratch import Scratch

TOKEN_BYTES = 16  # 128 bits: contract, section 5

# Within this time after it was made, or after its last answer, a connection must have sent a whole request.
HEADER_SECONDS = 20.0
MAX_HEADER_BYTES = 8 * 1024
MAX_HEADERS = 64
# A reader that acknowledges nothing for so long is gone. Longhorn itself gives up after 30 s of silence.
SILENCE_MILLISECONDS = 120_000
MAX_CONNECTIONS = 512  # sixty images at once, each with a few readers, and probes
STOP_SECONDS = 5.0  # for answers under way; the readers begin again with a HEAD

_SERVER = "vm-import-controller"  # instead of the versions that aiohttp would tell
_log = structlog.get_logger(__name__)


class ImageMissing(Exception):
    """Surfaces when an image is to be published that is not (or no longer) on the scratch volume."""

    reason: ClassVar[str] = "ImageMissing"
    retryable: ClassVar[bool] = True


class _Refusal(asyncio.Protocol):
    """What a connection beyond the limit gets: its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class ImageServer:
    """Serves published images by HTTP/1.1 to GET and HEAD, with ranges, in its own thread and event loop.

    What is published survives a restart: it stands in the sidecars, and `start` reads them before it listens.
    Thread-safe.

    Args:
        scratch: Where the images and their sidecars are.
        host: Address to listen on.
        port: Port to listen on; 0: any free one, see `port`.
    """

    def __init__(self, scratch: Scratch, host: str, port: int) -> None:
        self._scratch = scratch
        self._address = host, port
        self._lock = threading.Lock()
        self._images: dict[str, tuple[str, int]] = {}  # URL path -> import UID, disk index
        self._unbroken: set[tuple[str, int]] = set()  # served by this process since they were published
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """Port that the server listens on, once started."""
        return self._address[1]

    def start(self) -> None:
        """Serve what is published, from now on; returns when connections are accepted.

        Raises:
            OSError: the address cannot be listened on.
            controller.scratch.ScratchError: the sidecars cannot be read.
        """
        with self._lock:
            for uid, index, record in self._scratch.disks():
                if record.published and record.token is not None:
                    self._images[_url_path(record.token, index)] = uid, index
        host = self._address[0]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        dual = host == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(self._address, family=family, dualstack_ipv6=dual, backlog=128)
        # Accepted connections inherit it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)
        self._address = host, int(listening.getsockname()[1])
        accepting: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(listening, accepting), name="imageserver", daemon=True
        )
        self._thread.start()
        accepting.result()
        _log.info("image server listening", port=self.port, images=len(self._images))

    def stop(self) -> None:
        """Accept no more, give answers under way `STOP_SECONDS`, end the thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def alive(self) -> bool:
        """Tell whether it accepts connections; false before `start` and after `stop`."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def publish(self, import_uid: str, disk_index: int) -> str:
        """Serve an image; return the path of its URL, `/<token>/disk-<index>.raw`. Idempotent.

        The token is made once and kept in the sidecar: the URL stays the same as long as the image is there.

        Raises:
            ImageMissing: there is no complete image.
            controller.scratch.ScratchError: the sidecar cannot be written.
        """
        with self._lock:
            record = self._scratch.record(import_uid, disk_index)
            if record is not None:
                if not record.published:
                    self._unbroken.add((import_uid, disk_index))
                token = record.token or secrets.token_hex(TOKEN_BYTES)
                record = self._scratch.update(import_uid, disk_index, token=token, published=True)
            if record is None or record.token is None:
                raise ImageMissing(f"disk {disk_index} of the import is not on the scratch volume")
            path = _url_path(record.token, disk_index)
            self._images[path] = import_uid, disk_index
        return path

    def unbroken(self, import_uid: str, disk_index: int) -> bool:
        """Tell whether this very process has served the image since it was published.

        If not, there was a time in which nobody did, and a reader's failure says nothing about the image.
        """
        with self._lock:
            return (import_uid, disk_index) in self._unbroken

    def withdraw(self, import_uid: str, disk_index: int) -> None:
        """Serve an image no longer; answers under way are completed. Idempotent, also for images long gone.

        Raises:
            controller.scratch.ScratchError: the sidecar cannot be written; the URL is dead until a restart.
        """
        with self._lock:
            for path in [path for path, disk in self._images.items() if disk == (import_uid, disk_index)]:
                del self._images[path]
            self._unbroken.discard((import_uid, disk_index))
            self._scratch.update(import_uid, disk_index, published=False)

    def _run(self, listening: socket.socket, accepting: Future[None]) -> None:
        """Be the server's thread; tell in `accepting` how the start went."""
        try:
            asyncio.run(self._serve(listening, accepting))
        except Exception as exc:  # noqa: BLE001  # one that comes later has nobody left to be raised for
            if not accepting.done():
                accepting.set_exception(exc)
            else:
                _log.error("image server ended", exc_info=exc)

    async def _serve(self, listening: socket.socket, accepting: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        http = web.Server(
            self._answer,
            access_log=None,  # it would log the tokens
            keepalive_timeout=HEADER_SECONDS,
            lingering_time=0,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

        def accept() -> asyncio.BaseProtocol:
            return http() if len(http.connections) < MAX_CONNECTIONS else _Refusal()

        listener = await self._loop.create_server(accept, sock=listening)
        accepting.set_result(None)
        try:
            await self._stopping.wait()
        finally:
            listener.close()
            http.pre_shutdown()
            await http.shutdown(STOP_SECONDS)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        # One lookup in a hash table of whole paths: how long it takes tells nothing about any token in it.
        disk = self._images.get(request.path_qs) if request.method in {"GET", "HEAD"} else None
        if disk is None:
            return web.Response(status=404, headers={"Server": _SERVER})
        uid, index = disk
        _log.debug(
            "image requested", uid=uid, disk=index, method=request.method, range=request.headers.get("Range")
        )
        return await representation.answer(request, self._scratch.path(uid, index), {"Server": _SERVER})


def _url_path(token: str, disk_index: int) -> str:
    return f"/{token}/disk-{disk_index}.raw"
