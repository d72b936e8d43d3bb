"""`reconcile.status`: what a user sees follows from phase and outcome alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.api import conditions
from controller.api.phase import TRANSITIONS, Phase
from controller.errors import Verdict
from controller.phases.base import Advance, Changes, Progress, Stop, Wait, true
from controller.reconcile.status import (
    adopted,
    earned,
    import_status,
    new_trouble,
    next_status,
    stored_phase,
    wants_restart,
)
from tests.unit.objects import NOON, an_import

LATER = NOON + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("phase", "status", "word"),
    [
        (Phase.PREFLIGHT, {}, ""),
        (Phase.SHUTDOWN, {}, "virtualMachineImportValid"),
        (
            Phase.SHUTDOWN,
            {"conditions": [{"type": "SourcePoweredOff", "status": "False"}]},
            "sourceReady",
        ),
        (Phase.EXPORT, {}, "sourceReady"),
        (Phase.CONVERT, {}, "sourceReady"),
        (Phase.IMAGE_UPLOAD, {"diskImportStatus": [{}, {}]}, "disksExported"),
        (
            Phase.IMAGE_UPLOAD,
            {
                "diskImportStatus": [
                    {"diskConditions": [{"type": "VirtualMachineImageSubmitted", "status": "True"}]}
                ]
            },
            "diskImageSubmitted",
        ),
        (
            Phase.IMAGE_UPLOAD,
            {
                "diskImportStatus": [
                    {"diskConditions": [{"type": "VirtualMachineImageSubmitted", "status": "True"}]},
                    {"diskConditions": [{"type": "VirtualMachineImageFailed", "status": "True"}]},
                ]
            },
            "diskImageFailed",
        ),
        (Phase.VM_CREATE, {}, "diskImagesReady"),
        (Phase.WAIT_FOR_VM, {}, "virtualMachineCreated"),
        (
            Phase.SUCCEEDED,
            {"conditions": [{"type": "VirtualMachineRunning", "status": "True"}]},
            "virtualMachineRunning",
        ),
        (
            Phase.SUCCEEDED,
            {"conditions": [{"type": "VirtualMachineRunning", "status": "False"}]},
            "virtualMachineCreated",
        ),
        (Phase.INVALID, {}, "virtualMachineImportInvalid"),
        (Phase.FAILED, {}, "VMMigrationFailed"),
    ],
)
def test_import_status_is_the_old_controllers_word(phase: Phase, status: dict[str, Any], word: str) -> None:
    assert import_status(phase, status) == word


def test_a_pass_that_changes_nothing_gives_the_stored_status() -> None:
    waiting = Wait(10, "Exporting", "half", Changes(progress=Progress(5, 10)))
    first = next_status(an_import(status={"phase": "Export"}), waiting, NOON)
    assert next_status(an_import(status=first), waiting, LATER) == first


def test_a_transition_time_moves_only_with_the_status() -> None:
    first = next_status(an_import(status={"phase": "Export"}), Wait(1, "Exporting", "a"), NOON)
    second = next_status(an_import(status=first), Wait(1, "Exporting", "b"), LATER)
    summary = conditions.find(second["conditions"], "Succeeded")
    assert summary is not None
    assert (summary["message"], summary["lastTransitionTime"]) == ("b", conditions.timestamp(NOON))


def test_an_error_in_preflight_makes_it_invalid_and_later_makes_it_failed() -> None:
    verdict = Verdict("Reason", "words", retryable=False)
    invalid = next_status(an_import(status={"phase": "Preflight"}), verdict, NOON)
    failed = next_status(an_import(status={"phase": "ImageUpload"}), verdict, NOON)
    assert (invalid["phase"], invalid["importStatus"]) == ("Invalid", "virtualMachineImportInvalid")
    assert (failed["phase"], failed["importStatus"]) == ("Failed", "VMMigrationFailed")
    for status, earns in ((invalid, "PreflightPassed"), (failed, "ImagesReady")):
        for kind in ("Succeeded", earns):
            entry = conditions.find(status["conditions"], kind)
            assert entry is not None
            assert (entry["status"], entry["reason"], entry["message"]) == ("False", "Reason", "words")
        assert status["completionTime"] == conditions.timestamp(NOON)


def test_a_retryable_error_keeps_the_phase_and_says_why() -> None:
    before = an_import(status={"phase": "Shutdown"})
    after = next_status(before, Verdict("Unreachable", "no route", retryable=True), NOON)
    assert after["phase"] == "Shutdown"
    summary = conditions.find(after["conditions"], "Succeeded")
    assert summary is not None
    assert (summary["status"], summary["reason"], summary["message"]) == (
        "Unknown",
        "Unreachable",
        "no route",
    )


def test_a_failed_export_is_told_in_the_old_list_too() -> None:
    after = next_status(
        an_import(status={"phase": "Export"}), Verdict("Corrupt", "bad grain", retryable=False), NOON
    )
    assert conditions.is_true(after["importConditions"], "VMExportFailed")


def test_trouble_while_cleaning_up_does_not_hide_why_the_import_failed() -> None:
    failed = next_status(
        an_import(status={"phase": "Export"}), Verdict("Corrupt", "bad grain", retryable=False), NOON
    )
    after = next_status(an_import(status=failed), Verdict("Unreachable", "no route", retryable=True), LATER)
    summary = conditions.find(after["conditions"], "Succeeded")
    cleaned = conditions.find(after["conditions"], "CleanedUp")
    assert summary is not None
    assert cleaned is not None
    assert (summary["reason"], cleaned["reason"]) == ("Corrupt", "Unreachable")


def test_a_step_cannot_make_a_move_that_the_table_does_not_have() -> None:
    with pytest.raises(ValueError, match="no move from Preflight to Export"):
        next_status(an_import(), Advance(Phase.EXPORT), NOON)


@pytest.mark.parametrize("here", [phase for phase in Phase if TRANSITIONS[phase]])
def test_every_move_of_the_table_is_written(here: Phase) -> None:
    for there in TRANSITIONS[here]:
        after = next_status(an_import(status={"phase": here.value}), Advance(there), NOON)
        assert after["phase"] == there.value


def test_percent_never_goes_backwards_inside_a_phase_but_may_with_a_new_phase() -> None:
    status = {"phase": "Export", "progress": {"percent": 80}}
    step = Changes(progress=Progress(10, 100))
    same = next_status(an_import(status=status), Wait(1, "Exporting", "", step), NOON)
    back = next_status(an_import(status=status), Advance(Phase.SHUTDOWN, "", step), NOON)
    assert (same["progress"]["percent"], back["progress"]["percent"]) == (80, 10)


def test_fields_of_other_versions_survive() -> None:
    before = {"phase": "Export", "somethingNewer": {"a": 1}}
    after = next_status(an_import(status=before), Wait(1, "Exporting"), NOON)
    assert after["somethingNewer"] == {"a": 1}


def test_clearing_import_status_asks_for_a_restart_in_every_phase_but_the_first() -> None:
    for phase in Phase:
        asked = wants_restart(an_import(status={"phase": phase.value, "observedGeneration": 1}))
        assert asked is (phase is not Phase.PREFLIGHT)


@pytest.mark.parametrize("phase", list(Phase))
def test_editing_the_spec_restarts_only_what_ended_badly(phase: Phase) -> None:
    status = {"phase": phase.value, "importStatus": "x", "observedGeneration": 1}
    assert not wants_restart(an_import(status=status))
    assert wants_restart(an_import(status=status, generation=2)) is (phase in (Phase.INVALID, Phase.FAILED))


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("", Phase.PREFLIGHT),
        ("sourceReady", Phase.PREFLIGHT),
        ("diskImagesReady", Phase.PREFLIGHT),
        ("virtualMachineCreated", Phase.WAIT_FOR_VM),
        ("virtualMachineRunning", Phase.SUCCEEDED),
        ("virtualMachineImportInvalid", Phase.INVALID),
        ("VMMigrationFailed", Phase.FAILED),
    ],
)
def test_the_phase_of_an_object_of_the_old_controller_follows_from_its_word(word: str, phase: Phase) -> None:
    assert stored_phase(an_import(status={"importStatus": word})) is phase


def test_earned_tells_of_a_condition_once() -> None:
    before = [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}]
    after = [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]
    assert [entry["type"] for entry in earned(before, after)] == ["A"]


def test_new_trouble_tells_the_same_words_once() -> None:
    bad = {"status": "False", "reason": "R", "message": "m"}
    after = [{"type": "Succeeded", **bad}, {"type": "ImagesReady", **bad}]
    assert [entry["type"] for entry in new_trouble([], after)] == ["Succeeded"]
    assert new_trouble(after, after) == []


def test_disk_conditions_keep_their_times() -> None:
    disk = {"sourceDisk": "scsi0:0", "diskConditions": [true("VirtualMachineImageSubmitted", "Submitted")]}
    waiting = Wait(1, "ImportingImages", "", Changes(disks=[disk]))
    first = next_status(an_import(status={"phase": "ImageUpload"}), waiting, NOON)
    second = next_status(an_import(status=first), waiting, LATER)
    assert second == first
    (entry,) = second["diskImportStatus"][0]["diskConditions"]
    assert entry["lastTransitionTime"] == conditions.timestamp(NOON)


def test_stop_leaves_everything_as_it_is() -> None:
    failed = next_status(an_import(status={"phase": "Export"}), Verdict("R", "m", retryable=False), NOON)
    assert next_status(an_import(status=failed), Stop(), LATER) == failed


@pytest.mark.parametrize(
    ("word", "phase", "then"),
    [
        ("virtualMachineImportValid", "Preflight", ""),
        ("sourceReady", "Preflight", ""),
        ("disksExported", "Preflight", ""),
        ("diskImageSubmitted", "Preflight", ""),
        ("diskImageFailed", "Preflight", ""),
        ("diskImagesReady", "Preflight", ""),
        ("virtualMachineCreated", "WaitForVM", "virtualMachineCreated"),
        ("virtualMachineRunning", "Succeeded", "virtualMachineRunning"),
        ("virtualMachineImportInvalid", "Invalid", "virtualMachineImportInvalid"),
        ("VMMigrationFailed", "Failed", "VMMigrationFailed"),
    ],
)
def test_an_object_of_the_old_controller_is_adopted_in_each_of_its_states(
    word: str, phase: str, then: str
) -> None:
    disks = [{"diskName": "web-default-disk-0.img", "diskSize": 1}]
    old = an_import(status={"importStatus": word, "diskImportStatus": disks, "newVirtualMachine": "web"})
    status = adopted(old, NOON)
    assert status is not None
    assert (status["phase"], status["importStatus"]) == (phase, then)
    kept = phase != "Preflight"
    assert (status.get("diskImportStatus") == disks) is kept
    assert (status.get("importedVirtualMachineName") == "web") is kept
    assert adopted(an_import(status=status), LATER) is None
    assert not wants_restart(an_import(status=status))


def test_an_import_of_our_own_or_a_new_one_is_not_adopted() -> None:
    assert adopted(an_import(), NOON) is None
    assert adopted(an_import(status={"phase": "Export", "importStatus": "sourceReady"}), NOON) is None


def test_progress_begins_anew_when_disks_have_to_be_read_again() -> None:
    vmimport = an_import(status={"phase": "Convert", "progress": {"percent": 100}})
    status = next_status(vmimport, Advance(Phase.EXPORT, "scratch has lost a disk"), NOON)
    assert "progress" not in status
    reading = Wait(10, "Exporting", "", Changes(progress=Progress(1, 100)))
    assert next_status(an_import(status=status), reading, LATER)["progress"]["percent"] == 1


def test_rate_and_expected_end_are_told_only_while_something_is_read() -> None:
    reading = Wait(10, "Exporting", "", Changes(progress=Progress(50, 100, 5)))
    status = next_status(an_import(status={"phase": "Export"}), reading, NOON)
    assert (status["progress"]["bytesPerSecond"], status["progress"]["etaSeconds"]) == (5, 10)
    away = Verdict("Unreachable", "no route", retryable=True)
    for ended in (away, Verdict("CorruptImage", "broken", retryable=False)):
        after = next_status(an_import(status=status), ended, LATER)["progress"]
        assert after == {"percent": 50, "bytesTransferred": 50, "bytesTotal": 100}


@pytest.mark.parametrize(
    ("progress", "pace"),
    [
        (Progress(0, 100), ""),
        (Progress(60 << 20, 100 << 20, 1 << 20), "1.0 MiB/s, about 40 s left"),
        (Progress(0, 18 << 30, 25 << 20), "25.0 MiB/s, about 12 min left"),
        (Progress(0, 1 << 40, 100 << 20), "100.0 MiB/s, about 2 h 55 min left"),
    ],
)
def test_the_pace_is_told_in_words(progress: Progress, pace: str) -> None:
    assert progress.pace() == pace
