from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from controller.runtime.clock import SystemClock
from controller.transfers import TransferPool, TransferStatus
from tests.unit.fakes import eventually
from tests.unit.transfers.streams import Crowd, settled

if TYPE_CHECKING:
    from controller.scratch import Scratch


def statuses(transfers: TransferPool, uid: str, count: int) -> list[TransferStatus | None]:
    states = [transfers.state(uid, index) for index in range(count)]
    return [state.status if state else None for state in states]


def test_disks_of_one_vm_are_read_at_once_but_no_more_than_the_limit(scratch: Scratch, crowd: Crowd) -> None:
    transfers = TransferPool(scratch, SystemClock(), limit=3, on_change=lambda _: None)
    for index in range(5):
        transfers.start(crowd.job(f"a.{index}"))
    eventually(lambda: len(crowd.began) == 3)
    running, queued = TransferStatus.RUNNING, TransferStatus.QUEUED
    assert statuses(transfers, "a", 5) == [running, running, running, queued, queued]
    crowd.release("a.1")
    eventually(lambda: crowd.began[3:] == ["a.3"])
    assert statuses(transfers, "a", 5)[4] is queued
    crowd.release_all()
    for index in range(5):
        settled(transfers, "a", index)


def test_a_source_is_not_asked_for_more_disks_than_its_limit(scratch: Scratch, crowd: Crowd) -> None:
    transfers = TransferPool(scratch, SystemClock(), limit=8, on_change=lambda _: None)
    for name in ("a.0", "a.1", "b.0"):
        transfers.start(crowd.job(name, source="small", limit=1))
    for name in ("c.0", "c.1"):
        transfers.start(crowd.job(name, source="large", limit=2))
    eventually(lambda: sorted(crowd.began) == ["a.0", "c.0", "c.1"])
    crowd.release("a.0")
    eventually(lambda: len(crowd.began) == 4)
    assert crowd.began[3] == "b.0", "the other import's turn"
    crowd.release_all()
    settled(transfers, "a", 1)


def test_many_disks_of_one_vm_do_not_stand_before_everyone_else(scratch: Scratch, crowd: Crowd) -> None:
    transfers = TransferPool(scratch, SystemClock(), limit=2, on_change=lambda _: None)
    for index in range(6):
        transfers.start(crowd.job(f"big.{index}"))
    for name in ("small.0", "small.1", "tiny.0"):
        transfers.start(crowd.job(name))
    eventually(lambda: len(crowd.began) == 2)
    order = []
    for count in range(3, 10):
        crowd.release(crowd.began[count - 3])
        eventually(functools.partial(crowd.has_begun, count))
        order.append(crowd.began[count - 1].partition(".")[0])
    assert order == ["small", "tiny", "big", "small", "big", "big", "big"]
    crowd.release_all()
    settled(transfers, "big", 5)
