"""Leader election: who acts, from when to when, and who never does."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from controller.errors import classify
from controller.runtime.leader import SUSPENDED_SECONDS, LeaderElector
from controller.runtime.lease import LeaseRecord, LeaseTiming, NotLeader
from tests.unit.fakes import eventually
from tests.unit.runtime.election import TIMING, Election
from tests.unit.runtime.fake_lease import FakeLease, FakeLeaseStore, away

if TYPE_CHECKING:
    from datetime import datetime


@pytest.fixture
def election() -> Election:
    return Election()


def test_the_first_candidate_makes_the_lease_and_leads(election: Election) -> None:
    first = election.candidate("a")
    assert not first.leads()
    assert first.attempt() == TIMING.retry_period
    assert first.leads()
    assert first.calls == ["leading"]
    record = election.lease.record()
    assert (record.holder, record.duration_seconds, record.transitions) == ("a", 15, 0)
    assert record.acquired == record.renewed == election.clock.now()


def test_a_renewed_lease_is_never_taken(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    election.pass_time(300, leader, standby)
    assert leader.leads()
    assert not standby.leads()
    assert leader.calls == ["leading"]
    assert standby.calls == []
    assert leader.store.requests.count("get") == 1, "a renewal is one request"


def test_renewing_moves_only_the_time_of_renewal(election: Election) -> None:
    leader = election.leader()
    first = election.lease.record()
    election.pass_time(20, leader)
    assert first.renewed is not None
    assert election.lease.record() == replace(first, renewed=first.renewed + timedelta(seconds=20))


def test_a_lease_is_taken_when_it_was_seen_unchanged_for_its_duration_and_not_before(
    election: Election,
) -> None:
    leader, standby = election.leader(), election.candidate("b")
    election.pass_time(2, leader)
    standby.attempt()
    election.clock.advance(14.9)
    standby.attempt()
    assert not standby.leads()
    election.clock.advance(0.2)
    standby.attempt()
    assert standby.leads()
    record = election.lease.record()
    assert (record.holder, record.transitions) == ("b", 1)
    assert record.acquired == election.clock.now()


def test_a_lease_is_watched_for_the_duration_that_its_holder_promised(election: Election) -> None:
    election.lease.put(LeaseRecord("old", duration_seconds=60))
    standby = election.candidate("b")
    election.pass_time(58, standby)
    assert not standby.leads()
    election.pass_time(4, standby)
    assert standby.leads()


@pytest.mark.parametrize("years", [-10, 0, 10])
def test_wall_clocks_are_never_compared(election: Election, years: int) -> None:
    told: datetime = election.clock.now() + timedelta(days=365 * years)
    election.lease.put(LeaseRecord("other", 15, 3, told, told))
    standby = election.candidate("b")
    election.pass_time(14, standby)
    assert not standby.leads()
    election.pass_time(4, standby)
    assert standby.leads()
    assert election.lease.record().transitions == 4


def test_a_lease_that_was_given_back_is_taken_at_once(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    leader.elector.release()
    assert not leader.leads()
    assert (election.lease.record().holder, election.lease.record().duration_seconds) == ("", 1)
    standby.attempt()
    assert standby.leads()
    assert election.lease.record().transitions == 1


def test_the_fence_closes_at_the_renew_deadline_while_requests_are_refused(election: Election) -> None:
    leader = election.leader()
    leader.store.before = away
    election.pass_time(8, leader)
    leader.elector.check()
    election.pass_time(2, leader)
    assert not leader.leads()
    with pytest.raises(NotLeader, match="not renewed in time"):
        leader.elector.check()


def test_the_fence_closes_by_itself_while_nothing_runs(election: Election) -> None:
    """SIGSTOP: no attempt is made, and the first to look after SIGCONT may be any thread."""
    leader = election.leader()
    election.clock.advance(60)
    with pytest.raises(NotLeader):
        leader.elector.check()


def test_a_renewal_counts_from_when_it_was_sent(election: Election) -> None:
    leader = election.leader()
    leader.store.after = lambda: election.clock.advance(7)
    leader.attempt()
    election.clock.advance(2.9)
    assert leader.leads()
    election.clock.advance(0.1)
    assert not leader.leads()


def test_a_renewal_that_was_slower_than_the_deadline_opens_nothing(election: Election) -> None:
    leader = election.leader()
    leader.store.before = lambda: election.clock.advance(12)
    leader.attempt()
    assert election.lease.record().holder == "a"
    assert not leader.leads()


def test_an_answer_that_was_lost_does_not_cost_the_lease(election: Election) -> None:
    leader = election.leader()
    leader.store.after = away
    election.pass_time(2, leader)
    leader.store.after = lambda: None
    election.pass_time(2, leader)
    election.clock.advance(9)
    assert leader.leads()
    assert leader.calls == ["leading"]
    assert election.lease.record().transitions == 0


def test_an_answer_that_was_lost_when_taking_the_lease_is_found_out(election: Election) -> None:
    candidate = election.candidate("a")
    candidate.store.after = away
    candidate.attempt()
    assert not candidate.leads()
    candidate.store.after = lambda: None
    candidate.attempt()
    assert candidate.leads()
    assert election.lease.record().transitions == 0


def test_a_lease_that_somebody_annotates_stays_with_its_holder(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    election.lease.touch()
    election.pass_time(2, leader, standby)
    election.clock.advance(9)
    assert leader.leads()


def test_annotating_a_dead_leaders_lease_does_not_keep_it_alive(election: Election) -> None:
    election.lease.put(LeaseRecord("dead", 15))
    standby = election.candidate("b")
    for _ in range(9):
        standby.attempt()
        election.lease.touch()
        election.clock.advance(2)
    standby.attempt()
    assert standby.leads()


def test_who_sees_another_in_his_place_has_lost_for_good(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    election.pass_time(16, standby)
    assert standby.leads()
    assert leader.attempt() is None
    assert leader.calls == ["leading", "lost"]
    standby.elector.release()
    assert leader.attempt() is None
    assert not leader.leads()
    assert leader.calls == ["leading", "lost"]


def test_who_sees_that_another_was_in_his_place_has_lost_too(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    election.pass_time(16, standby)
    standby.elector.release()
    leader.attempt()
    assert not leader.leads()
    assert leader.calls == ["leading", "lost"]


def test_a_leader_that_nobody_replaced_goes_on_when_it_can_renew_again(election: Election) -> None:
    leader = election.leader()
    leader.store.before = away
    with capture_logs() as logs:
        election.pass_time(120, leader)
        assert not leader.leads()
        leader.store.before = lambda: None
        election.pass_time(2, leader)
    assert leader.leads()
    assert leader.calls == ["leading"]
    assert [line["event"] for line in logs] == [
        "lease cannot be asked for",
        "lease not renewed in time, writing is suspended",
        "lease renewed again, writing goes on",
    ]


def test_a_leader_that_cannot_renew_for_too_long_gives_up(election: Election) -> None:
    leader = election.leader()
    leader.store.before = away
    election.pass_time(TIMING.renew_deadline + SUSPENDED_SECONDS - 2, leader)
    assert leader.calls == ["leading"]
    election.pass_time(2, leader)
    assert leader.calls == ["leading", "lost"]


def test_a_lease_deleted_under_its_holder_is_left_to_him_by_those_who_know(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    election.lease.stored = None
    election.pass_time(2, standby)
    assert not standby.leads()
    election.pass_time(2, leader)
    assert leader.leads()
    assert election.lease.record().holder == "a"


def test_a_lease_deleted_under_a_dead_leader_is_taken_in_the_end(election: Election) -> None:
    election.lease.put(LeaseRecord("dead", 15))
    standby = election.candidate("b")
    standby.attempt()
    election.lease.stored = None
    election.pass_time(14, standby)
    assert not standby.leads()
    election.pass_time(2, standby)
    assert standby.leads()


def test_of_two_that_meet_only_one_gets_the_lease(election: Election) -> None:
    first, second = election.candidate("a"), election.candidate("b")

    def be_quicker() -> None:
        if first.store.requests == ["get", "create"]:
            second.attempt()

    first.store.before = be_quicker
    first.attempt()
    assert [first.leads(), second.leads()] == [False, True]
    assert first.calls == []


def test_giving_back_finds_a_renewal_whose_answer_was_lost(election: Election) -> None:
    leader = election.leader()
    leader.store.after = away
    leader.attempt()
    leader.store.after = lambda: None
    leader.elector.release()
    assert election.lease.record().holder == ""


def test_giving_back_touches_nobody_elses_lease(election: Election) -> None:
    leader, standby = election.leader(), election.candidate("b")
    standby.attempt()
    standby.elector.release()
    assert election.lease.record().holder == "a"
    election.pass_time(16, standby)
    leader.elector.release()
    assert election.lease.record().holder == "b"


def test_a_lease_that_cannot_be_given_back_is_left_to_expire(election: Election) -> None:
    leader = election.leader()
    leader.store.before = away
    leader.elector.release()
    with pytest.raises(NotLeader):
        leader.elector.check()
    assert election.lease.record().holder == "a"


def test_a_candidate_tells_how_it_stands(election: Election) -> None:
    leader, standby = election.candidate("a"), election.candidate("b")
    assert leader.elector.standing() == "standby, nobody is known to lead"
    leader.store.before = away
    leader.attempt()
    assert leader.elector.standing() == "standby, nobody is known to lead (no answer)"
    leader.store.before = lambda: None
    leader.attempt()
    standby.attempt()
    assert (leader.elector.standing(), standby.elector.standing()) == ("leading", "standby, a leads")
    election.clock.advance(11)
    assert leader.elector.standing() == "the lease was not renewed in time"
    election.pass_time(6, standby)
    leader.attempt()
    assert leader.elector.standing() == "the lease is lost"


def test_who_may_not_write_is_told_to_try_again_later(election: Election) -> None:
    with pytest.raises(NotLeader) as refused:
        election.candidate("a").elector.check()
    verdict = classify(refused.value)
    assert (verdict.reason, verdict.retryable, verdict.expected) == ("NotLeader", True, True)


def test_a_running_candidate_gets_the_lease_renews_it_and_ends_when_told() -> None:
    lease = FakeLease()
    store = FakeLeaseStore(lease)
    timing = LeaseTiming(lease_duration=60, renew_deadline=30, retry_period=0.01)
    elector = LeaderElector(store, "a", timing, on_leading=lambda: None, on_lost=lambda: None)
    stop = threading.Event()
    thread = threading.Thread(target=elector.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: len(store.requests) > 5)
        assert elector.is_leader()
    finally:
        stop.set()
        thread.join()
    assert lease.record().holder == "a", "giving it back is another's to say"


def test_a_running_candidate_that_has_lost_ends() -> None:
    lease = FakeLease()
    timing = LeaseTiming(lease_duration=60, renew_deadline=30, retry_period=0.01)
    lost = threading.Event()
    elector = LeaderElector(FakeLeaseStore(lease), "a", timing, on_leading=lambda: None, on_lost=lost.set)
    thread = threading.Thread(target=elector.run, args=(threading.Event(),))
    thread.start()
    eventually(elector.is_leader)
    lease.put(LeaseRecord("b", 60))
    thread.join(60)
    assert lost.is_set()
    assert not thread.is_alive()
