"""What is said of a connection that has ended, whoever ended it."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from providers import wire
from providers.errors import TransferInterrupted


def wrapped(cause: OSError) -> ReadTimeoutError:
    """Return the error that urllib3 makes of a socket's."""
    error = ReadTimeoutError(None, "https://host/disk?signature=s3cret", "Read timed out.")  # type: ignore[arg-type]
    error.__cause__ = cause
    return error


GAVE_UP = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


@pytest.mark.parametrize(
    ("error", "silence", "words"),
    [
        (TimeoutError("timed out"), 0.5, "no byte for 0.5 s"),
        (wrapped(TimeoutError("timed out")), 600.0, "no byte for 600 s"),
        (GAVE_UP, 600.0, "the connection broke (TimeoutError)"),
        (wrapped(GAVE_UP), 600.0, "the connection broke (ReadTimeoutError)"),
        (GAVE_UP, None, "the connection broke (TimeoutError)"),
        (ProtocolError("s3cret"), 60.0, "the connection broke (ProtocolError)"),
    ],
)
def test_silence_is_told_from_a_connection_that_the_kernel_gave_up(
    error: Exception, silence: float | None, words: str
) -> None:
    with pytest.raises(TransferInterrupted) as told, wire.translated("disk", threading.Event(), silence):
        raise error
    assert str(told.value) == f"disk: {words}"


def test_an_end_that_the_reader_brought_about_is_its_own() -> None:
    closed = threading.Event()
    closed.set()
    with (
        pytest.raises(TransferInterrupted, match="closed by the reader"),
        wire.translated("disk", closed, None),
    ):
        raise ValueError("I/O operation on closed file")
