"""Which events wake an import: everything that needs a pass, and nothing that does not."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import names
from controller.interest import asks, offers, rests, slim_import, source_keys, tells
from tests.unit.objects import import_object

DONE = {"phase": "Succeeded", "importStatus": "virtualMachineRunning", "observedGeneration": 1}
INVALID = {"phase": "Invalid", "importStatus": "virtualMachineImportInvalid", "observedGeneration": 1}


def stored(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return slim_import(import_object(None, status, **{"finalizers": [names.FINALIZER], **metadata}))


def test_an_import_that_has_ended_rests() -> None:
    assert rests(stored(DONE))
    assert rests(stored(INVALID))
    assert rests(stored(INVALID, finalizers=[])), "nothing was touched, nothing is to be undone"
    assert rests(stored(DONE, generation=2)), "editing what succeeded changes nothing"


@pytest.mark.parametrize(
    "obj",
    [
        stored({}),
        stored({"phase": "Export", "importStatus": "sourceReady"}),
        stored({"phase": "Failed", "importStatus": "VMMigrationFailed", "observedGeneration": 1}),
        stored({**DONE, "importStatus": ""}),
        stored(INVALID, generation=2),
        stored(DONE, deletionTimestamp="2026-01-01T00:00:00Z"),
        stored(DONE, finalizers=[]),
        stored(DONE, finalizers=[names.FINALIZER, names.OLD_FINALIZER]),
        stored({"importStatus": "virtualMachineRunning"}),
    ],
    ids=["new", "going", "failed", "cleared", "edited", "deleted", "unmarked", "old mark", "old controller"],
)
def test_an_import_that_needs_a_pass_does_not_rest(obj: dict[str, Any]) -> None:
    assert not rests(obj)


def test_a_status_that_we_wrote_does_not_wake_the_import() -> None:
    before = stored({"phase": "Export", "importStatus": "sourceReady"})
    assert asks(before) == asks(stored({"phase": "Convert", "importStatus": "sourceReady"}))


def test_what_a_user_does_wakes_the_import() -> None:
    before = stored(DONE)
    assert asks(before) != asks(stored({**DONE, "importStatus": ""}))
    assert asks(before) != asks(stored(DONE, generation=2))
    assert asks(before) != asks(stored(DONE, deletionTimestamp="2026-01-01T00:00:00Z"))


def test_an_image_wakes_its_import_when_its_conditions_change_and_not_as_it_grows() -> None:
    def image(progress: int, imported: str) -> dict[str, Any]:
        conditions = [{"type": "Imported", "status": imported}]
        return {"metadata": {}, "status": {"progress": progress, "conditions": conditions}}

    assert tells(image(10, "Unknown")) == tells(image(90, "Unknown"))
    assert tells(image(99, "Unknown")) != tells(image(100, "True"))


def a_source(reason: str, *, observed: int, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 2, **metadata},
        "status": {
            "status": "clusterReady" if reason == "Verified" else "clusterNotReady",
            "observedGeneration": observed,
            "conditions": [{"type": "Ready", "reason": reason, "lastTransitionTime": f"x{observed}"}],
        },
    }


@pytest.mark.parametrize(
    "after",
    [
        a_source("Verified", observed=2),
        a_source("AuthenticationFailed", observed=1),
        a_source("Verified", observed=1, annotations={names.ANNOTATION_ALLOW_FROM: "*"}),
    ],
    ids=["verified after an edit, as before it", "not ready any more", "consents"],
)
def test_what_imports_wait_for_of_a_source_wakes_them(after: dict[str, Any]) -> None:
    assert offers(a_source("Verified", observed=1)) != offers(after)


def test_another_reason_for_not_being_ready_wakes_the_imports_that_show_it() -> None:
    before = a_source("SecretNotFound", observed=2)
    assert offers(before) != offers(a_source("AuthenticationFailed", observed=2))
    assert offers(before) == offers(a_source("SecretNotFound", observed=2, resourceVersion="9"))


def test_an_import_waits_for_the_source_it_reads_from_and_for_the_one_it_names_now() -> None:
    reads = {"kind": "VmwareSource", "namespace": "default", "name": "Old"}
    assert source_keys(stored({"phase": "Export", "source": reads})) == [
        "vmwaresource/default/old",
        "vmwaresource/default/vc",
    ]
    assert source_keys(stored({"phase": "Preflight"})) == ["vmwaresource/default/vc"]
    assert source_keys(stored({"phase": "Failed", "source": reads})) == [
        "vmwaresource/default/old",
        "vmwaresource/default/vc",
    ], "the cleaning up may wait for it"
    assert source_keys(stored(DONE)) == source_keys(stored(INVALID)) == []
