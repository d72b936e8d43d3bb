"""Health tells the truth: alive while nothing has died, ready while it acts and serves, and why not."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from controller.health import HealthServer
from controller.imageserver import ImageServer
from controller.metrics import Metrics
from controller.runtime.backoff import Backoff
from controller.runtime.informer import SharedInformer
from controller.runtime.leader import LeaderElector
from controller.runtime.lease import LeaseTiming
from controller.runtime.workers import WEDGED_SECONDS, Result, WorkerPool
from controller.runtime.workqueue import WorkQueue
from controller.scratch import Scratch, ScratchError, ScratchFull
from controller.vitals import SCRATCH_SILENT_SECONDS, ScratchProbe, Vitals
from tests.unit.fakes import FakeClock, eventually
from tests.unit.runtime.fake_api import FakeAPI, Unavailable
from tests.unit.runtime.fake_lease import FakeLease, FakeLeaseStore

WORKERS = 2
TIMING = LeaseTiming(lease_duration=15, renew_deadline=10, retry_period=2)


@dataclass
class Patient:
    """The parts of a controller that has just become the leader, and its vitals."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    lease: FakeLease = field(default_factory=FakeLease)
    stopping: threading.Event = field(default_factory=threading.Event)
    acting: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    gave_up: bool = False

    def __post_init__(self) -> None:
        self.scratch = Scratch(self.root)
        self.queue = WorkQueue(clock=self.clock)
        self.pool = WorkerPool("imports", self.queue, self._reconcile, WORKERS, clock=self.clock)
        self.api = FakeAPI()
        self.informer = SharedInformer("imports", self.api, backoff=Backoff(0.001, 0.01))
        self.other = SharedInformer("ovasource", self.api, backoff=Backoff(0.001, 0.01))
        self.images = ImageServer(self.scratch, "127.0.0.1", 0)
        self.elector = self.candidate("me")
        self.leaving = threading.Event()
        self.election = threading.Thread(target=self.leaving.wait)
        self.vitals = Vitals(
            workers=[self.pool],
            informers=[self.informer, self.other],
            imports=self.informer,
            images=self.images,
            elector=self.elector,
            election=self.election,
            scratch=ScratchProbe(self.scratch, self.clock),
            stopping=self.stopping,
            acting=self.acting,
            gave_up=lambda: self.gave_up,
        )

    def start(self) -> None:
        self.informer.start(self.stopping)
        assert self.informer.wait_for_sync(60)
        self.other.start(self.stopping)
        assert self.other.wait_for_sync(60)
        self.election.start()
        self.elector.attempt()
        self.images.start()
        self.pool.start()
        self.acting.set()

    def stop(self) -> None:
        self.stopping.set()
        self.go_on.set()
        self.leaving.set()
        self.pool.shut_down(60)
        self.images.stop()

    def candidate(self, identity: str) -> LeaderElector:
        return LeaderElector(
            FakeLeaseStore(self.lease),
            identity,
            TIMING,
            on_leading=lambda: None,
            on_lost=lambda: None,
            clock=self.clock,
        )

    def _reconcile(self, _key: str) -> Result:
        self.go_on.wait()
        return Result()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    patient = Patient(tmp_path)
    patient.start()
    yield patient
    patient.stop()


def test_a_leader_that_serves_is_alive_and_ready(patient: Patient) -> None:
    assert patient.vitals.ailments() == []
    assert patient.vitals.obstacles() == []
    assert patient.vitals.remarks() == ["leading"]


def test_dead_workers_are_told_of(patient: Patient) -> None:
    patient.queue.shut_down()  # they end as if something had ended them: the pool was not told to stop
    eventually(lambda: patient.vitals.ailments() == [f"{WORKERS} of {WORKERS} workers of imports have died"])
    assert patient.vitals.obstacles() == patient.vitals.ailments()


def test_workers_that_all_wait_for_ever_are_told_of_and_one_alone_is_not(patient: Patient) -> None:
    patient.queue.add("ns/a")
    eventually(lambda: len(patient.queue.in_work()) == 1)
    patient.clock.advance(WEDGED_SECONDS + 1)
    patient.elector.attempt()
    assert patient.vitals.ailments() == []
    patient.queue.add("ns/b")
    eventually(lambda: len(patient.queue.in_work()) == WORKERS)
    assert patient.vitals.ailments() == [], "the second has only begun"
    patient.clock.advance(WEDGED_SECONDS + 1)
    patient.elector.attempt()
    assert patient.vitals.ailments() == [f"no worker of imports has come back for {WEDGED_SECONDS + 1:.0f} s"]
    patient.go_on.set()
    eventually(lambda: patient.vitals.ailments() == [])


def test_a_leader_thread_that_died_is_told_of(patient: Patient) -> None:
    patient.leaving.set()
    eventually(lambda: patient.vitals.ailments() == ["leader election has died"])


def test_a_leader_election_that_hangs_is_told_of(patient: Patient) -> None:
    patient.clock.advance(3600)
    assert patient.vitals.ailments() == ["leader election has not come back for 3600 s"]
    patient.elector.attempt()
    assert patient.vitals.ailments() == []


def test_an_informer_that_died_is_told_of(patient: Patient) -> None:
    patient.stopping.set()
    eventually(lambda: not patient.informer.alive())
    assert patient.vitals.ailments() == [], "who was told to stop is not ill"
    patient.stopping.clear()
    assert "informer imports has died" in patient.vitals.ailments()


def test_an_image_server_that_died_is_told_of(patient: Patient) -> None:
    patient.images.stop()
    assert patient.vitals.ailments() == ["the image server has died"]


def test_who_is_about_to_end_is_not_ill(patient: Patient) -> None:
    patient.leaving.set()
    eventually(lambda: not patient.election.is_alive())
    patient.gave_up = True
    assert patient.vitals.ailments() == []


def but(vitals: Vitals, **other: Any) -> Vitals:
    """Return the same vitals with other parts."""
    return Vitals(**{name: other.get(name, getattr(vitals, name)) for name in Vitals.__slots__})


def test_a_standby_is_alive_and_not_ready_and_names_the_leader(patient: Patient) -> None:
    standby = patient.candidate("the-other")
    standby.attempt()
    vitals = but(patient.vitals, elector=standby, acting=threading.Event())
    assert vitals.ailments() == []
    assert vitals.obstacles() == ["standby, me leads"]


def test_a_kind_that_cannot_be_watched_keeps_nobody_from_its_images(patient: Patient) -> None:
    refused = FakeAPI()
    refused.fail("list", *[Unavailable()] * 10_000)
    blind = SharedInformer("openstacksource", refused, backoff=Backoff(0.001, 0.01))
    blind.start(patient.stopping)
    vitals = but(patient.vitals, informers=[patient.informer, blind])
    eventually(lambda: blind.error is not None)
    assert vitals.obstacles() == []
    assert any("openstacksource not known yet (the server" in remark for remark in vitals.remarks())


def test_a_scratch_volume_that_refuses_is_an_obstacle_and_no_ailment(patient: Patient) -> None:
    (patient.root / ".open").mkdir(exist_ok=True)
    (patient.root / ".open").rmdir()
    patient.root.rmdir()
    patient.root.write_text("no directory any more")
    eventually(lambda: any("scratch volume cannot be written" in line for line in patient.vitals.obstacles()))
    assert patient.vitals.ailments() == [], "another process would find the same volume"
    patient.root.unlink()
    patient.root.mkdir()
    eventually(lambda: patient.vitals.obstacles() == [])


class FullScratch(Scratch):
    """A volume without room, even for a small file."""

    def try_out(self) -> None:
        raise ScratchFull("the scratch volume cannot be written to: No space left on device")


def test_a_full_scratch_volume_is_remarked_and_still_serves(patient: Patient) -> None:
    probe = ScratchProbe(FullScratch(patient.root), patient.clock)
    vitals = but(patient.vitals, scratch=probe)
    eventually(lambda: any("No space left" in remark for remark in vitals.remarks()))
    assert vitals.obstacles() == []


def test_a_scratch_volume_that_hangs_is_told_of_and_costs_one_thread(patient: Patient) -> None:
    fifo = patient.root / "hangs"
    os.mkfifo(fifo)

    class HangingScratch(Scratch):
        def try_out(self) -> None:
            fifo.read_bytes()  # blocks until somebody writes, as a dead NFS server makes one block

    probe = ScratchProbe(HangingScratch(patient.root), patient.clock)
    assert probe.look() is None
    patient.clock.advance(SCRATCH_SILENT_SECONDS + 1)
    for _ in range(3):
        error = probe.look()
        assert isinstance(error, ScratchError)
        assert "has not answered" in str(error)
    assert [thread.name for thread in threading.enumerate()].count("scratch-probe") == 1
    fifo.write_bytes(b"")
    eventually(lambda: probe.look() is None)


def test_the_probes_leave_nothing_on_the_volume(patient: Patient) -> None:
    patient.scratch.try_out()
    assert list((patient.root / ".open").iterdir()) == []
    assert patient.scratch.uids() == set()


def test_what_a_probe_has_left_that_was_killed_goes_with_the_next_one(
    patient: Patient, mocker: MockerFixture
) -> None:
    mocker.patch("pathlib.Path.unlink", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        patient.scratch.try_out()
    mocker.stopall()
    assert list((patient.root / ".open").iterdir())
    Scratch(patient.root).try_out()
    assert list((patient.root / ".open").iterdir()) == []


def test_http_tells_what_is_wrong_in_words(patient: Patient) -> None:
    server = HealthServer("127.0.0.1", 0, Metrics(), patient.vitals)
    server.start()

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    assert get("/healthz") == (200, "ok\nleading\n")
    assert get("/readyz") == (200, "ok\nleading\n")
    patient.images.stop()
    assert get("/healthz") == (503, "the image server has died\n")
    patient.stopping.set()
    assert get("/healthz")[0] == 200
    assert get("/readyz") == (503, "stopping\n")
    server.stop()
