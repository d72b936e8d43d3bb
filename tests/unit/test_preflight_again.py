"""Preflight of an import of which something is still under way: somebody has emptied its status."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from controller.phases import preflight
from controller.phases.base import Wait
from tests.unit.objects import an_import


class Ending:
    """A pool in which a disk of an earlier run is still being stopped."""

    def __init__(self) -> None:
        self.asked = 0

    def cancel(self, _uid: str) -> bool:
        self.asked += 1
        return False


def test_nothing_begins_before_what_an_earlier_run_reads_has_ended() -> None:
    """What it has completed would be taken for what this run has read."""
    transfers = Ending()
    ctx = SimpleNamespace(
        vmimport=an_import(), source=lambda: SimpleNamespace(ready=True), transfers=transfers
    )
    outcome = preflight.run(cast("Any", ctx))
    assert isinstance(outcome, Wait)
    assert (outcome.reason, transfers.asked) == ("StoppingTransfers", 1)
