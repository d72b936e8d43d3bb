"""What a scrape is told that nobody counts: it comes from the stores, and only from who acts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.conditions import timestamp
from controller.gauges import BY_PHASE, Gauges
from controller.interest import slim_import
from controller.runtime.clock import SystemClock
from controller.runtime.store import Store
from controller.scratch import Scratch
from controller.transfers import DiskJob, TransferPool
from providers.errors import UnsupportedDisk
from tests.lab.processes import wait_until
from tests.unit.objects import import_object


@dataclass
class Board:
    """Gauges over stores that a test fills."""

    root: Path
    acting: bool = True
    imports: Store = field(default_factory=lambda: Store(transform=slim_import))
    sources: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        clock = SystemClock()
        scratch = Scratch(self.root)
        self.transfers = TransferPool(scratch, clock, limit=1, on_change=lambda _uid: None)
        self.imports.add_index(BY_PHASE, lambda obj: [obj["status"].get("phase") or "Preflight"])
        self.registry = CollectorRegistry()
        self.registry.register(
            Gauges(
                imports=self.imports,
                sources={"VmwareSource": self.sources},
                transfers=self.transfers,
                scratch=scratch,
                acts=lambda: self.acting,
                clock=clock,
            )
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"vm_import_{name}", labels)

    def add(self, name: str, phase: str, reason: str = "", seconds: float = 0) -> None:
        since = timestamp(datetime.now(UTC) - timedelta(seconds=seconds))  # noqa: TID251
        status: dict[str, Any] = {"phase": phase, "phaseStartTime": since}
        if reason:
            status["conditions"] = [{"type": "Succeeded", "status": "Unknown", "reason": reason}]
        self.imports.upsert(import_object(None, status, name=name))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_imports_are_counted_by_phase_and_by_what_they_wait_for(board: Board) -> None:
    board.add("one", "Preflight", "SourceNotReady")
    board.add("two", "Export", "Exporting")
    board.add("three", "Export", "Exporting")
    board.add("four", "Failed", "ImageFailed")
    assert board.value("imports", phase="Export") == 2
    assert board.value("imports", phase="Failed") == 1
    assert board.value("imports", phase="Succeeded") == 0
    assert board.value("imports_under_way", reason="SourceNotReady") == 1
    assert board.value("imports_under_way", reason="Exporting") == 2
    assert board.value("imports_under_way", reason="ImageFailed") is None, "what is over waits for nothing"


def test_an_import_that_nobody_has_looked_at_yet_counts_as_new(board: Board) -> None:
    board.imports.upsert(import_object(None, {}, name="unseen"))
    assert board.value("imports", phase="Preflight") == 1
    assert board.value("imports_under_way", reason="New") == 1


def test_the_age_is_that_of_the_import_longest_in_the_phase(board: Board) -> None:
    board.add("young", "Export", seconds=60)
    board.add("old", "Export", seconds=7200)
    age = board.value("longest_in_phase_seconds", phase="Export")
    assert age is not None
    assert 7200 <= age < 7200 + 60
    assert board.value("longest_in_phase_seconds", phase="Shutdown") == 0
    assert board.value("longest_in_phase_seconds", phase="Failed") is None


def test_sources_are_counted_by_readiness(board: Board) -> None:
    for name, word in (("a", "clusterReady"), ("b", "clusterNotReady"), ("c", None)):
        board.sources.upsert({"metadata": {"namespace": "default", "name": name}, "status": {"status": word}})
    assert board.value("sources", source_kind="VmwareSource", ready="true") == 1
    assert board.value("sources", source_kind="VmwareSource", ready="false") == 2


def test_a_replica_that_does_not_act_counts_no_import_and_no_source(board: Board) -> None:
    board.add("one", "Export", "Exporting", seconds=100)
    board.sources.upsert({"metadata": {"namespace": "default", "name": "a"}, "status": {}})
    board.acting = False
    assert board.value("imports", phase="Export") == 0
    assert board.value("longest_in_phase_seconds", phase="Export") == 0
    assert board.value("imports_under_way", reason="Exporting") is None
    assert board.value("sources", source_kind="VmwareSource", ready="false") == 0


def test_transfers_are_counted_by_state(board: Board) -> None:
    go_on = threading.Event()

    def refuse() -> Any:
        go_on.wait()
        raise UnsupportedDisk("no form of it can be read")

    jobs = [DiskJob("uid", index, 512, "VmwareSource/default/a", 4, refuse) for index in range(2)]
    board.transfers.start(*jobs)
    assert board.value("transfers", state="running") == 1
    assert board.value("transfers", state="queued") == 1
    go_on.set()
    wait_until(
        lambda: board.value("transfers", state="failed") == 2, what="the end of both", timeout_seconds=10
    )
    assert board.value("transfers", state="running") == 0


def test_the_scratch_volume_is_measured(board: Board) -> None:
    free, size = board.value("scratch_free_bytes"), board.value("scratch_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free <= size


def test_of_a_scratch_volume_that_is_gone_there_is_no_number(board: Board) -> None:
    board.root.rmdir()
    assert board.value("scratch_free_bytes") is None
    assert board.value("transfers", state="running") == 0
