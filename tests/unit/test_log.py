from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest
import structlog

from controller import log


@pytest.fixture
def out() -> io.StringIO:
    out = io.StringIO()
    log.configure(stream=out)
    return out


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_level_time_module_and_the_bound_context(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(key="ns/web"):
        structlog.get_logger("controller.x").info("phase changed", phase="Export")
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "phase changed",
        "phase": "Export",
        "key": "ns/web",
        "level": "info",
        "logger": "controller.x",
    }


def test_debug_lines_appear_only_when_asked_for(out: io.StringIO) -> None:
    structlog.get_logger("controller.x").debug("detail")
    assert lines(out) == []
    log.configure(debug=True, stream=out)
    structlog.get_logger("controller.x").debug("detail")
    assert [line["event"] for line in lines(out)] == ["detail"]


def test_a_logger_made_before_logging_was_set_up_follows(out: io.StringIO) -> None:
    early = structlog.get_logger("controller.early")
    later = io.StringIO()
    log.configure(stream=later)
    early.info("hello")
    assert [line["event"] for line in lines(later)] == ["hello"]
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "PASSWORD",
        "token",
        "api_token",
        "apiKey",
        "secret",
        "client_secret",
        "Authorization",
        "private_key",
    ],
)
def test_values_of_secret_keys_are_redacted_at_any_depth(out: io.StringIO, key: str) -> None:
    structlog.get_logger().info("x", **{key: "hunter2"}, deep={"list": [{key: ["hunter2"]}]})
    assert "hunter2" not in out.getvalue()
    assert lines(out)[0][key] == log.REDACTED


@pytest.mark.parametrize("key", ["secret_name", "secretNamespace", "secret_ref", "key", "disk"])
def test_names_of_secrets_are_not_secret(out: io.StringIO, key: str) -> None:
    structlog.get_logger().info("x", **{key: "vcenter"})
    assert lines(out)[0][key] == "vcenter"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET https://joe:hunter2@vc/sdk", "GET https://[redacted]@vc/sdk"),
        ("Authorization: Bearer hunter2.hunter2", "Authorization: Bearer [redacted]"),
        ("bearer of bad news", "bearer of bad news"),
        ("mail joe@example.io", "mail joe@example.io"),
    ],
)
def test_credentials_inside_of_texts_are_redacted(out: io.StringIO, text: str, expected: str) -> None:
    structlog.get_logger().info("x", error=text)
    assert lines(out)[0]["error"] == expected


def test_a_traceback_is_redacted_too(out: io.StringIO) -> None:
    error = RuntimeError("https://joe:hunter2@vc/sdk")
    structlog.get_logger().error("x", exc_info=error)
    assert "RuntimeError" in lines(out)[0]["exception"]
    assert "hunter2" not in out.getvalue()


def test_other_libraries_speak_in_the_same_form_and_not_of_every_detail(out: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").warning("odd request from https://joe:%s@x", "hunter2")
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("urllib3.connectionpool").warning("GET /disk?signature=hunter2")
    (line,) = lines(out)
    assert line["logger"] == "aiohttp.server"
    assert line["event"] == "odd request from https://[redacted]@x"


def test_the_death_of_a_thread_is_logged(out: io.StringIO) -> None:
    def die() -> None:
        raise RuntimeError("defect")

    thread = threading.Thread(target=die, name="transfer-1")
    thread.start()
    thread.join()
    (line,) = lines(out)
    assert (line["event"], line["thread"]) == ("thread died", "transfer-1")
    assert "RuntimeError: defect" in line["exception"]


def test_a_terminal_gets_lines_for_people(out: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    log.configure(stream=terminal)
    structlog.get_logger().info("hello", password="hunter2")  # noqa: S106  # not a real one
    assert "hello" in terminal.getvalue()
    assert "hunter2" not in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert out.getvalue() == ""
