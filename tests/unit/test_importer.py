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
    """An API server that holds one import."""

    def __init__(self, obj: dict[str, Any]) -> None:
        self.obj = obj

    def get(self, *_: Any) -> dict[str, Any]:
        return self.obj

    def replace_status(self, _resource: object, obj: dict[str, Any]) -> dict[str, Any]:
        self.obj = obj
        return obj


def reconciler(kube: OneImport, said: Said | None = None) -> ImportReconciler:
    nothing = cast("Any", None)
    return ImportReconciler(
        kube=cast("Any", kube),
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
    assert reconciler(OneImport(obj)).reconcile("default/web") == Result()


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
    assert reconciler(OneImport(obj), said).reconcile("default/web") == Result(3)
    assert said.reasons == []
    with pytest.raises(SourceBusy):
        reconciler(OneImport(obj), said).reconcile("default/web")
    assert said.reasons == ["SourceBusy"]


def test_an_import_says_that_one_of_its_name_that_vanished_is_still_being_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its finalizer was taken off by force, because its source does not answer; and there is a new one."""

    def undo(_ctx: object, *, restore_power: bool) -> None:
        assert restore_power
        raise SourceBusy("a task holds it")

    monkeypatch.setattr(cleanup, "undo", undo)
    kube = OneImport(import_object(uid="the-old-one", generation=2, finalizers=[], deletionTimestamp="now"))
    imports = reconciler(kube, Said())
    imports.reconcile("default/web")
    kube.obj = import_object()
    with pytest.raises(SourceBusy):
        imports.reconcile("default/web")
    (told,) = kube.obj["status"]["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("Succeeded", "Unknown", "SourceBusy")
    assert told["message"].endswith("is not undone yet: a task holds it")
