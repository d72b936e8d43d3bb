"""Writing back as one goes: an image's dirty pages stay few, and written ones leave the page cache."""

from __future__ import annotations

import os
import threading

# The kernel lets dirty pages grow to a fifth of the memory, and then everybody on the node who syncs a file
# (etcd, say) waits for all of them; and clean pages of an image push out what others need. So each window is
# synced and dropped as soon as it is full. Small enough that a cancel is not kept waiting by a slow volume.
WINDOW_BYTES = 16 * 1024 * 1024
MAX_DIRTY_BYTES = 3 * WINDOW_BYTES


class Writeback:
    """Syncs a file in a thread of its own while others write it.

    Every method but `close` raises the `OSError` that a sync has met: the kernel tells it only once.

    Args:
        fd: The file; stays open until after `close`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._dirty = 0
        self._closed = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def wrote(self, count: int) -> None:
        """Take note of so many bytes that were written; waits while the volume is far behind."""
        with self._changed:
            self._dirty += count
            if self._dirty >= WINDOW_BYTES:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="writeback", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
            while self._dirty >= MAX_DIRTY_BYTES and self._error is None:
                self._changed.wait()
        self._raise_error()

    def finish(self) -> None:
        """Make everything that was written durable."""
        self.close()
        self._raise_error()
        os.fsync(self._fd)

    def close(self) -> None:
        """End the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror) from self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._dirty < WINDOW_BYTES and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                count = self._dirty
            try:
                os.fdatasync(self._fd)
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError as exc:
                with self._changed:
                    self._error = exc
                    self._changed.notify_all()
                return
            with self._changed:
                self._dirty -= count
                self._changed.notify_all()
