"""Refused logins come less and less often, and good ones at once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from providers.errors import AuthenticationFailed
from providers.throttle import LoginThrottle


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def attempts(seconds: int) -> list[int]:
    """Return the seconds at which somebody who tries every second is let through, refused each time."""
    time = Time()
    throttle = LoginThrottle(time)
    made = []
    for second in range(seconds):
        time.now = float(second)
        try:
            throttle.check()
        except AuthenticationFailed:
            continue
        made.append(second)
        throttle.refused(AuthenticationFailed("wrong password"))
    return made


def test_a_refused_password_is_sent_less_than_five_times_in_three_minutes() -> None:
    assert attempts(180) == [0, 20, 60, 140]


def test_the_pause_has_a_cap_below_the_time_between_two_verifications() -> None:
    made = attempts(3000)
    assert max(later - earlier for earlier, later in pairwise(made)) == 270


def test_an_accepted_login_ends_the_pauses() -> None:
    throttle = LoginThrottle(Time())
    throttle.refused(AuthenticationFailed("wrong password"))
    with pytest.raises(AuthenticationFailed, match="wrong password"):
        throttle.check()
    throttle.accepted()
    throttle.check()
