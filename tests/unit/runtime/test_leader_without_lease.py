"""A replica that is forbidden leases: when it acts without, and when it does not."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.unit.runtime.election import TIMING, Election


@pytest.fixture
def election() -> Election:
    return Election()


def test_the_only_replica_acts_without_a_lease_where_leases_are_forbidden(election: Election) -> None:
    alone = election.candidate("a")
    alone.store.forbidden = True
    with capture_logs() as logs:
        alone.attempt()
        election.pass_time(14, alone)
        assert not alone.leads()
        election.pass_time(2, alone)
        assert alone.leads()
        election.pass_time(1000, alone)
    alone.elector.check()
    assert alone.calls == ["leading"]
    assert [line["log_level"] for line in logs] == ["warning"]
    alone.elector.release()
    assert not alone.leads()


def test_a_refusal_that_passes_is_no_reason_to_act_without_a_lease(election: Election) -> None:
    other, candidate = election.leader("a"), election.candidate("b")
    candidate.store.forbidden = True
    election.pass_time(14, other, candidate)
    candidate.store.forbidden = False
    election.pass_time(2, other, candidate)
    candidate.store.forbidden = True
    election.pass_time(100, other, candidate)
    assert not candidate.leads()


def test_who_knows_of_another_never_acts_without_a_lease(election: Election) -> None:
    other, standby = election.leader("a"), election.candidate("b")
    standby.attempt()
    other.store.forbidden = standby.store.forbidden = True
    election.pass_time(100, other, standby)
    assert other.leads(), "it knew of nobody else"
    assert not standby.leads()


def test_the_fence_is_back_when_leases_are_permitted(election: Election) -> None:
    alone = election.candidate("a")
    alone.store.forbidden = True
    alone.attempt()
    election.pass_time(16, alone)
    assert alone.attempt() == TIMING.lease_duration
    alone.store.forbidden = False
    assert alone.attempt() == TIMING.retry_period
    assert election.lease.record().holder == "a"
    election.clock.advance(11)
    assert not alone.leads()
    assert alone.calls == ["leading"]
    alone.elector.release()
    assert election.lease.record().holder == ""


def test_refusals_count_only_in_a_row(election: Election) -> None:
    leader = election.candidate("a")
    leader.store.forbidden = True
    leader.attempt()
    leader.store.forbidden = False
    election.pass_time(20, leader)
    leader.store.forbidden = True
    election.pass_time(12, leader)
    assert not leader.leads()


def test_who_acted_alone_stops_when_another_turns_up(election: Election) -> None:
    alone = election.candidate("a")
    alone.store.forbidden = True
    alone.attempt()
    election.pass_time(16, alone)
    election.leader("b")
    alone.store.forbidden = False
    assert alone.attempt() is None
    assert not alone.leads()
    assert alone.calls == ["leading", "lost"]
