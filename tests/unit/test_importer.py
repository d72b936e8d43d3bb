"""What the reconciler makes of what a step says, where nothing of the world is needed to see it."""

from __future__ import annotations

from typing import Any, cast

from controller.config import Settings
from controller.phases.base import Changes, Stop, true
from controller.reconcile.importer import ImportReconciler
from controller.reconcile.status import next_status
from controller.runtime.workers import Result
from tests.unit.fakes import FakeClock
from tests.unit.objects import NOON, an_import, import_object


class OneImport:
    """An API server that holds one import, which nobody may write."""

    def __init__(self, obj: dict[str, Any]) -> None:
        self._obj = obj

    def get(self, *_: Any) -> dict[str, Any]:
        return self._obj


def test_a_failed_import_that_was_cleaned_up_is_not_looked_at_again_and_again() -> None:
    """Whatever woke it: another pass would come at once, and after that another."""
    status = next_status(
        an_import(status={"phase": "Failed", "importStatus": "VMMigrationFailed", "observedGeneration": 1}),
        Stop(Changes(conditions=[true("CleanedUp", "CleanedUp")])),
        NOON,
    )
    obj = import_object(status=dict(status), finalizers=["migration.harvesterhci.io/vm-import"])
    nothing = cast("Any", None)
    reconciler = ImportReconciler(
        kube=cast("Any", OneImport(obj)),
        connections=nothing,
        scratch=nothing,
        transfers=nothing,
        images=nothing,
        targets=nothing,
        events=nothing,
        clock=FakeClock(),
        settings=Settings(),
        metrics=nothing,
    )
    assert reconciler.reconcile("default/web") == Result()
