"""Whose turn it is, where an archive can only be read in one go."""

from __future__ import annotations

from providers.ova.turns import WANTED_SECONDS, Turns


def test_a_disk_gives_way_to_those_before_it_that_are_to_be_read() -> None:
    turns = Turns()
    turns.want("first", 100)
    turns.want("second", 100)
    assert turns.may_begin([], 101), "nothing is before the first"
    assert not turns.may_begin(["first"], 101)
    turns.done("first")
    assert turns.may_begin(["first"], 101)
    assert not turns.may_begin(["first", "second"], 101)


def test_a_disk_that_does_not_ask_again_holds_up_nobody_for_long() -> None:
    turns = Turns()
    turns.want("first", 100)
    assert not turns.may_begin(["first"], 100 + WANTED_SECONDS - 0.1)
    assert turns.may_begin(["first"], 100 + WANTED_SECONDS)


def test_a_disk_that_was_never_asked_for_holds_up_nobody() -> None:
    assert Turns().may_begin(["left out"], 1)
