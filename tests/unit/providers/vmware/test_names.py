from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.vmware import names


@given(st.text())
def test_storing_a_name_loses_nothing(text: str) -> None:
    assert names.shown(names.stored(text)) == text


@pytest.mark.parametrize(
    ("stored", "written", "same"),
    [
        ("web", "web", True),
        ("web", "Web", False),
        ("a%2fb", "a/b", True),
        ("a%2Fb", "a/b", True),
        ("a%2fb", "a%2fb", True),
        ("100%25", "100%", True),
        ("a%5cb", "a\\b", True),
        ("Zoë", "Zoe\u0308", True),  # composed and decomposed
        ("a%2fb", "a", False),
    ],
)
def test_a_name_may_be_written_as_shown_or_as_stored(stored: str, written: str, *, same: bool) -> None:
    assert names.same(stored, written) is same


def test_the_spellings_of_a_name_never_look_like_a_path() -> None:
    assert names.spellings("a/b") == ("a%2fb",)
    assert names.spellings("a%2fb") == ("a%2fb", "a%252fb")
    assert names.spellings("web") == ("web",)


def test_slashes_at_the_ends_of_a_path_do_not_count() -> None:
    assert names.parts("/DC0//vm/prod/") == ("DC0", "vm", "prod")


def test_close_names_disregard_case_and_come_best_first() -> None:
    assert names.close_to("web-01", ["db", "web-001", "WEB-01", "mail"]) == ["WEB-01", "web-001"]
