"""What an image's conditions come to, and that its secret URL does not get into our words."""

from __future__ import annotations

import secrets

import pytest

from controller.imageserver.server import TOKEN_BYTES
from controller.phases.upload import ImageState, judge

TOKEN = secrets.token_hex(TOKEN_BYTES)
URL = f"http://harvester-vm-import-controller.harvester-system.svc:8080/{TOKEN}/disk-0.raw"


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], ImageState.IMPORTING),
        ([{"type": "Imported", "status": "Unknown", "message": "retrying"}], ImageState.IMPORTING),
        ([{"type": "Imported", "status": "True"}], ImageState.READY),
        ([{"type": "Imported", "status": "False", "reason": "AnythingAtAll"}], ImageState.FAILED),
        ([{"type": "RetryLimitExceeded", "status": "True"}], ImageState.FAILED),
        (
            [{"type": "Imported", "status": "True"}, {"type": "RetryLimitExceeded", "status": "False"}],
            ImageState.READY,
        ),
    ],
)
def test_conditions_decide(conditions: list[dict[str, str]], state: ImageState) -> None:
    assert judge({"status": {"conditions": conditions}})[0] is state


@pytest.mark.parametrize("kind", ["Imported", "RetryLimitExceeded"])
def test_the_words_of_a_failure_are_kept_without_the_token_of_the_url(kind: str) -> None:
    status = "False" if kind == "Imported" else "True"
    message = f"failed to get {URL}: expected status code 200, got 503"
    _, words = judge({"status": {"conditions": [{"type": kind, "status": status, "message": message}]}})
    assert TOKEN not in words
    assert words.startswith(
        "failed to get http://harvester-vm-import-controller.harvester-system.svc:8080/[token]"
    )
    assert words.endswith("got 503")
