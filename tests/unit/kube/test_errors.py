from __future__ import annotations

import json
from typing import Any

import pytest

from controller.kube import errors
from controller.runtime.listwatch import Expired


def status(code: int, reason: str = "", message: str = "words of the server", **details: Any) -> bytes:
    return json.dumps(
        {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    ).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (405, "MethodNotAllowed", errors.BadRequest),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (415, "UnsupportedMediaType", errors.BadRequest),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerUnavailable),
        (503, "ServiceUnavailable", errors.ServerUnavailable),
        (504, "Timeout", errors.ServerUnavailable),
    ],
)
def test_each_status_has_its_type_and_says_what_was_done_to_what_and_the_servers_words(
    code: int, reason: str, kind: type[errors.KubeError]
) -> None:
    error = errors.from_response("get pods default/web", code, status(code, reason, name="web"), {})
    assert type(error) is kind
    assert error.status == code
    assert str(error) == "get pods default/web: words of the server"


def test_a_404_that_names_no_object_is_never_taken_for_its_absence() -> None:
    error = errors.from_response("get things.example.io default/web", 404, b"404 page not found\n", {})
    assert type(error) is errors.KindNotFound
    assert not isinstance(error, errors.NotFound)
    assert error.retryable
    assert "404 page not found" in str(error)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            'admission webhook "validator.harvesterhci.io" denied the request: duplicate mac address',
            errors.AdmissionDenied,
        ),
        (
            'Internal error occurred: failed calling webhook "validator.harvesterhci.io": connection refused',
            errors.ServerUnavailable,
        ),
    ],
)
def test_a_webhook_that_denies_with_500_is_no_fault_of_the_server(
    message: str, kind: type[errors.KubeError]
) -> None:
    error = errors.from_response("create vms default/web", 500, status(500, "InternalError", message), {})
    assert type(error) is kind
    assert error.retryable


def test_gone_is_what_a_reflector_calls_expired() -> None:
    assert issubclass(errors.Gone, Expired)


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({"Retry-After": "0"}, {}, None),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_time_for_which_the_server_wants_peace_is_kept(
    headers: dict[str, str], details: dict[str, Any], seconds: float | None
) -> None:
    error = errors.from_response("list pods", 429, status(429, **details), headers)
    assert error.retry_after == seconds


def test_causes_are_kept() -> None:
    body = status(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "message": "..."}])
    assert errors.from_response("create events", 403, body, {}).causes == ("NamespaceTerminating",)


def test_an_answer_of_a_proxy_is_cut_to_a_length_for_people() -> None:
    error = errors.from_response("get pods", 502, b"<html>" + b"x" * 100_000 + b"\xff", {})
    assert isinstance(error, errors.ServerUnavailable)
    assert len(str(error)) < 400


def all_errors() -> list[type[errors.KubeError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, errors.KubeError)]


def test_reasons_are_camel_case_words_and_unique() -> None:
    reasons = [kind.reason for kind in all_errors()]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.isalpha() and reason[0].isupper() for reason in reasons)
