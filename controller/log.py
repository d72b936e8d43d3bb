"""Logging, set up in one place: structlog, one JSON object per line, readable lines on a terminal.

Modules say `structlog.get_logger(__name__)` and log a constant message with key-values; request and response
bodies and objects are never logged. `redact` is the last line of defence, not a licence.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import EventDict, Processor

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|token|credential|authorization|api_?key|private_?key|cookie", re.IGNORECASE
)
_REFERENCE_KEY = re.compile(
    r"(name|namespace|ref|reason|kind)$", re.IGNORECASE
)  # secret_name tells no secret
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")  # RFC 3986, 3.2.1: user:password@ in a URL
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)  # RFC 7235 credentials

# Libraries whose chatter can carry URLs with signatures, or bodies; their warnings are enough.
_QUIET = {"urllib3": logging.ERROR, "kubernetes": logging.WARNING, "keystoneauth": logging.WARNING}


def configure(*, debug: bool = False, stream: TextIO | None = None, json_lines: bool | None = None) -> None:
    """Set up logging for the process; may be called again.

    What other libraries log through `logging` comes out in the same form, from WARNING up. Exceptions that
    end a thread are logged.

    Args:
        debug: Log our own DEBUG lines too.
        stream: Where to; standard error when not given.
        json_lines: JSON or readable lines; when not given, readable if `stream` is a terminal.
    """
    stream = stream or sys.stderr
    json_lines = not stream.isatty() if json_lines is None else json_lines
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Exceptions become text before redaction, which then covers their messages as well.
    ending: list[Processor] = [structlog.processors.format_exc_info, redact]
    renderer: Processor = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[*shared, _logger_name, *ending, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=_NamedLoggerFactory(stream),
        cache_logger_on_first_use=False,  # module-level loggers must follow a second `configure`
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    threading.excepthook = _log_thread_death


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor: replace values whose keys look secret, at any depth, and credentials inside of texts."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if value is not None and _SECRET_KEY.search(key) and not _REFERENCE_KEY.search(key):
        return REDACTED
    if isinstance(value, str):
        return _BEARER.sub(rf"\1 {REDACTED}", _USERINFO.sub(f"{REDACTED}@", value))
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item) for item in value]
    return value


class _NamedLogger(structlog.WriteLogger):
    """A line writer that knows which module it writes for."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self.name = name


class _NamedLoggerFactory:
    """Makes the logger for `structlog.get_logger(__name__)`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *args: Any) -> _NamedLogger:
        return _NamedLogger(self._stream, str(args[0]) if args else "")


def _logger_name(logger: Any, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    event.setdefault("logger", getattr(logger, "name", ""))
    return event


def _log_thread_death(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    structlog.get_logger(__name__).error(
        "thread died", thread=args.thread.name if args.thread else None, exc_info=args.exc_value
    )
