"""What the reconciler makes of what a step says, where nothing of the world is needed to see it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from controller.config import Settings
from controller.phases import cleanup
from controller.phases.base import Changes, Stop, true
from controller.reconcile.importer import ImportReconciler
from controller.reconcile.status import next_status
from controller.runtime.workers import Result
from providers.errors import DiscardNotDone, SourceBusy
from tests.unit.fakes import FakeClock
from tests.unit.objects import NOON, an_import, import_object


class OneImport:
    """An API server that holds one import, which nobody may write."""

    def __init__(self, obj: dict[str, Any]) -> None:
        self._obj = obj

    def get(self, *_: Any) -> dict[str, Any]:
        return self._obj


def reconciler(obj: dict[str, Any], said: Said | None = None) -> ImportReconciler:
    nothing = cast("Any", None)
    return ImportReconciler(
        kube=cast("Any", OneImport(obj)),
        connections=cast("Any", said),
        scratch=nothing,
        transfers=nothing,
        images=nothing,
        targets=nothing,
        events=cast("Any", said),
        clock=FakeClock(),
        settings=Settings(),
        metrics=nothing,
    )


def test_a_failed_import_that_was_cleaned_up_is_not_looked_at_again_and_again() -> None:
    """Whatever woke it: another pass would come at once, and after that another."""
    status = next_status(
        an_import(status={"phase": "Failed", "importStatus": "VMMigrationFailed", "observedGeneration": 1}),
        Stop(Changes(conditions=[true("CleanedUp", "CleanedUp")])),
        NOON,
    )
    obj = import_object(status=dict(status), finalizers=["migration.harvesterhci.io/vm-import"])
    assert reconciler(obj).reconcile("default/web") == Result()


class Said:
    """Events, and connections that have nothing better to offer."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def event(self, _obj: object, _kind: str, reason: str, _message: str) -> None:
        self.reasons.append(reason)

    def refused(self, _user: str, _error: Exception) -> bool:
        return False


def test_a_restart_that_waits_for_its_source_to_tidy_up_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its source is asked every two seconds, and an object may cause 25 Events."""
    said = Said()
    told: list[Exception] = [SourceBusy("a task holds it"), DiscardNotDone("volume 7 is deleting", 3)]

    def undo(_ctx: object, *, restore_power: bool) -> None:
        assert not restore_power
        raise told.pop()

    monkeypatch.setattr(cleanup, "has_vm", lambda _ctx: False)
    monkeypatch.setattr(cleanup, "undo", undo)
    status = {"phase": "Failed", "importStatus": "VMMigrationFailed", "observedGeneration": 1}
    obj = import_object(status=status, generation=2, finalizers=["migration.harvesterhci.io/vm-import"])
    assert reconciler(obj, said).reconcile("default/web") == Result(3)
    assert said.reasons == []
    with pytest.raises(SourceBusy):
        reconciler(obj, said).reconcile("default/web")
    assert said.reasons == ["SourceBusy"]
