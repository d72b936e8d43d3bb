"""Spacing of logins that are refused, so that no account is locked by us."""

from __future__ import annotations

import time
from collections.abc import Callable

from providers.errors import AuthenticationFailed

# Refused at 0 s, the next attempts are possible at 20, 60, 140, 300, 570 s. vCenter's own directory locks an
# account at 5 failures within 180 s by default: here it sees 4.
FIRST_SECONDS = 20.0  # shorter than the controller's first retry (30 s), which must be a real one
CAP_SECONDS = 270.0  # shorter than the five minutes between two verifications of a source


class LoginThrottle:
    """Remembers refusals of one set of credentials. The caller holds the lock under which it logs in."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._refusals = 0
        self._until = 0.0
        self._words = ""

    def check(self) -> None:
        """Return if the password may be sent now.

        Raises:
            AuthenticationFailed: it was refused too short a time ago; with the words of that refusal.
        """
        if self._refusals and self._monotonic() < self._until:
            raise AuthenticationFailed(self._words)

    def refused(self, error: AuthenticationFailed) -> None:
        """Note that the source has refused the credentials."""
        pause = min(CAP_SECONDS, FIRST_SECONDS * 2.0**self._refusals)
        self._refusals += 1
        self._until = self._monotonic() + pause
        self._words = str(error)

    def accepted(self) -> None:
        """Note that the credentials are good."""
        self._refusals = 0
