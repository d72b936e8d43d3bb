"""What a process that was killed left open at an endpoint, and how the next one ends it.

A lease is an object of its session: nobody else can abort it, whatever his privileges, and until it times out
(five minutes by default) its VM can be neither exported nor switched on. `TerminateSession` would need a
privilege that accounts for exports do not have. What every session may do is end itself, so that its cookie,
written down while it lasts, is all that is needed: with it the leases are aborted and the session logged out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from providers.base import Journal


@dataclass(frozen=True, slots=True)
class Leftover:
    """A session, or a lease of it, at the endpoint `authority` (`host:port`). The cookie is a secret."""

    authority: str
    cookie: str = field(repr=False)
    lease: str = ""

    def entry(self) -> str:
        """Return the form it has in a journal."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, entry: str) -> Leftover | None:
        """Read a journal's entry; `None` for one that is not ours."""
        try:
            match json.loads(entry):
                case {"authority": str(authority), "cookie": str(cookie), "lease": str(lease)}:
                    return cls(authority, cookie, lease)
        except ValueError:
            pass
        return None


def end_inherited(
    journal: Journal, authority: str, session_manager: str, connect: Callable[[str], Any]
) -> None:
    """End what earlier processes left open at `authority`, leases before their sessions, and forget it.

    Args:
        journal: Where they wrote it down. Entries of another endpoint are dropped unused: a cookie is for the
            host that gave it.
        authority: The endpoint, its certificate already checked.
        session_manager: MoRef of its SessionManager.
        connect: Makes a stub that speaks with a given session cookie.

    Raises:
        Exception: what pyVmomi raises when the endpoint does not answer; the entries are kept then.
    """
    inherited = {entry: Leftover.parse(entry) for entry in journal.inherited()}
    ours = {entry: found for entry, found in inherited.items() if found and found.authority == authority}
    for entry in inherited.keys() - ours.keys():
        journal.remove(entry)
    for entry, found in sorted(ours.items(), key=lambda item: not item[1].lease):
        stub = connect(found.cookie)
        try:
            _end(found, session_manager, stub)
        finally:
            stub.DropConnections()
        journal.remove(entry)


def _end(leftover: Leftover, session_manager: str, stub: Any) -> None:
    try:
        if leftover.lease:
            vim.HttpNfcLease(leftover.lease, stub).HttpNfcLeaseAbort(None)
        else:
            vim.SessionManager(session_manager, stub).Logout()
    except vmodl.MethodFault:
        return  # it is over already; or, whatever the reason, asking again would bring the same answer


class NoJournal:
    """The journal of a provider that was given none: nothing is kept beyond the process."""

    def inherited(self) -> Iterable[str]:
        """See `providers.base.Journal`."""
        return ()

    def add(self, entry: str) -> None:
        """See `providers.base.Journal`."""

    def remove(self, entry: str) -> None:
        """See `providers.base.Journal`."""
