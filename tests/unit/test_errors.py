"""`classify`: the one verdict on any error, and no secret in what it says."""

from __future__ import annotations

import inspect

import pytest

import controller.errors
import controller.kube.errors
import controller.scratch
import converters.errors
import providers.errors
from controller.errors import PreflightFailed, classify
from controller.kube.errors import TooManyRequests
from providers.errors import SourceVMNotFound, Unreachable
from providers.model import Finding, Severity

_MODULES = (
    controller.errors,
    controller.kube.errors,
    controller.scratch,
    converters.errors,
    providers.errors,
)
_ALL = sorted(
    {
        kind
        for module in _MODULES
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    },
    key=lambda kind: f"{kind.__module__}.{kind.__name__}",
)


@pytest.mark.parametrize("kind", _ALL, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_has_a_reason_and_says_whether_it_may_pass(kind: type[Exception]) -> None:
    verdict = classify(kind("words"))
    assert verdict.expected
    assert verdict.reason.isalnum()
    assert verdict.reason[0].isupper()
    assert verdict.message == "words"


def test_retryable_is_taken_from_the_error() -> None:
    assert classify(Unreachable("x")).retryable
    assert not classify(SourceVMNotFound("x")).retryable


def test_a_defect_is_retried_and_its_text_not_repeated() -> None:
    verdict = classify(KeyError("hunter2"))
    assert verdict.retryable
    assert not verdict.expected
    assert "hunter2" not in verdict.message
    assert "KeyError" in verdict.message


def test_the_time_that_a_server_asks_for_is_kept() -> None:
    assert classify(TooManyRequests("slow down", retry_after=7)).retry_after == 7


def test_findings_come_with_the_verdict() -> None:
    finding = Finding("X", Severity.CRITICAL, "m")
    assert classify(PreflightFailed("m", findings=[finding])).findings == (finding,)
