from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from controller.metrics import Metrics
from controller.runtime.backoff import ItemExponentialLimiter
from controller.runtime.workqueue import WorkQueue
from tests.unit.fakes import EVENTUALLY_SECONDS, FakeClock, NoJitter, eventually

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue:
    return WorkQueue(clock=clock, limiter=ItemExponentialLimiter(base=1.0, cap=60.0, rng=NoJitter()))


def take(queue: WorkQueue) -> str | None:
    return queue.get(timeout=0)[0]


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_keys_come_out_in_the_order_in_which_they_went_in(queue: WorkQueue) -> None:
    for key in ("c", "a", "b"):
        queue.add(key)
    assert [take(queue) for _ in range(4)] == ["c", "a", "b", None]


def test_a_key_added_twice_is_handed_out_once(queue: WorkQueue) -> None:
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    assert [take(queue), take(queue)] == ["a", None]


def test_a_key_is_never_given_to_two_workers(queue: WorkQueue) -> None:
    queue.add("a")
    assert take(queue) == "a"
    queue.add("a")
    assert take(queue) is None


def test_a_key_added_while_in_work_is_handed_out_once_more_after_done(queue: WorkQueue) -> None:
    queue.add("a")
    take(queue)
    queue.add("a")
    queue.add("a")
    queue.done("a")
    assert take(queue) == "a"
    queue.done("a")
    assert take(queue) is None


def test_a_key_added_while_in_work_goes_behind_those_that_waited(queue: WorkQueue) -> None:
    queue.add("a")
    take(queue)
    queue.add("a")
    queue.add("b")
    queue.done("a")
    assert [take(queue), take(queue)] == ["b", "a"]


def test_done_for_a_key_that_nobody_has_changes_nothing(queue: WorkQueue) -> None:
    queue.add("a")
    queue.done("a")
    assert take(queue) == "a"


def test_a_delayed_key_waits_its_time(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after("a", 5.0)
    clock.advance(4.9)
    assert take(queue) is None
    clock.advance(0.2)
    assert take(queue) == "a"


@pytest.mark.parametrize("delays", [(5.0, 9.0), (9.0, 5.0)])
def test_of_two_delays_of_a_key_the_earlier_counts(
    queue: WorkQueue, clock: FakeClock, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add_after("a", delay)
    clock.advance(5.0)
    assert take(queue) == "a"
    queue.done("a")
    clock.advance(10.0)
    assert take(queue) is None


def test_delayed_keys_come_in_the_order_of_their_times(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after("late", 3.0)
    queue.add_after("early", 1.0)
    clock.advance(2.0)
    queue.add("between")
    clock.advance(2.0)
    assert [take(queue) for _ in range(3)] == ["early", "between", "late"]


def test_a_delay_that_is_not_positive_is_none(queue: WorkQueue) -> None:
    queue.add_after("a", 0.0)
    queue.add_after("b", -1.0)
    assert [take(queue), take(queue)] == ["a", "b"]


def test_a_failing_key_waits_longer_each_time_until_it_is_forgotten(
    queue: WorkQueue, clock: FakeClock
) -> None:
    def seconds_until_back() -> int:
        queue.add_rate_limited("a")
        for seconds in range(1, 100):
            clock.advance(1.0)
            if take(queue) == "a":
                queue.done("a")
                return seconds
        raise AssertionError("never came back")

    assert [seconds_until_back() for _ in range(4)] == [1, 2, 4, 8]
    assert queue.num_requeues("a") == 4
    queue.forget("a")
    assert queue.num_requeues("a") == 0
    assert seconds_until_back() == 1


def test_forgetting_a_key_does_not_take_it_out_of_the_queue(queue: WorkQueue) -> None:
    queue.add("a")
    queue.forget("a")
    assert take(queue) == "a"


def test_after_shutdown_what_is_pending_is_handed_out_and_nothing_is_added(
    queue: WorkQueue, clock: FakeClock
) -> None:
    queue.add("a")
    queue.add_after("later", 1.0)
    queue.shut_down()
    assert queue.shutting_down
    queue.add("b")
    queue.add_after("c", 0.0)
    clock.advance(10.0)
    assert queue.get() == ("a", False)
    assert queue.get() == (None, True)


def test_a_key_changed_while_in_work_is_handed_out_even_after_shutdown(queue: WorkQueue) -> None:
    queue.add("a")
    take(queue)
    queue.add("a")
    queue.shut_down()
    queue.done("a")
    assert queue.get() == ("a", False)


def test_shutdown_sends_all_waiting_workers_home() -> None:
    queue = WorkQueue()
    threads = [in_thread(queue.get) for _ in range(5)]
    queue.shut_down()
    for thread in threads:
        thread.join(EVENTUALLY_SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_a_drain_waits_until_everything_was_given_back() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.add("b")
    assert queue.get() == ("a", False)
    drained: list[bool] = []
    drain = in_thread(lambda: drained.append(queue.shut_down_with_drain()))
    eventually(lambda: queue.shutting_down)
    queue.done("a")
    assert queue.get() == ("b", False)
    assert drain.is_alive()
    queue.done("b")
    drain.join(EVENTUALLY_SECONDS)
    assert drained == [True]


def test_a_drain_ends_when_its_time_is_over_or_shutdown_ends_it() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.get()
    assert queue.shut_down_with_drain(timeout=0.01) is False
    drained: list[bool] = []
    drain = in_thread(lambda: drained.append(queue.shut_down_with_drain()))
    eventually(lambda: queue._draining)
    queue.shut_down()
    drain.join(EVENTUALLY_SECONDS)
    assert drained == [False]


def test_get_returns_when_its_time_is_over() -> None:
    assert WorkQueue().get(timeout=0.01) == (None, False)


def test_a_waiting_worker_wakes_for_a_delayed_key() -> None:
    queue = WorkQueue()
    got: list[str | None] = []
    worker = in_thread(lambda: got.append(queue.get()[0]))
    queue.add_after("a", 0.02)
    worker.join(EVENTUALLY_SECONDS)
    assert got == ["a"]


def test_a_delayed_key_is_not_forgotten_when_the_worker_that_waited_for_it_leaves() -> None:
    queue = WorkQueue()
    got: list[str | None] = []

    def waiting(count: int) -> bool:
        return len(queue._pending_changed._waiters) == count  # type: ignore[attr-defined]

    impatient = in_thread(lambda: queue.get(timeout=4))
    eventually(lambda: waiting(1))
    patient = in_thread(lambda: got.append(queue.get()[0]))
    eventually(lambda: waiting(2))
    queue.add_after("late", 5)  # wakes the one that came first, to wait for it; its own time is over sooner
    impatient.join(EVENTUALLY_SECONDS)
    patient.join(EVENTUALLY_SECONDS)
    assert got == ["late"]


def test_nothing_is_lost_and_nothing_runs_twice_at_a_time_under_many_threads() -> None:
    queue = WorkQueue()
    keys = [f"ns/{n}" for n in range(7)]
    wanted: Counter[str] = Counter()  # changes made so far, per key
    seen: dict[str, int] = {}  # what a worker saw last
    running: Counter[str] = Counter()
    lock = threading.Lock()
    overlaps: list[str] = []

    def produce(offset: int) -> None:
        for n in range(400):
            key = keys[(n * (offset + 1)) % len(keys)]
            with lock:
                wanted[key] += 1
            if n % 3:
                queue.add(key)
            else:
                queue.add_after(key, 0.001)

    def work() -> None:
        while True:
            key, shutdown = queue.get()
            if shutdown:
                return
            assert key is not None
            with lock:
                running[key] += 1
                if running[key] > 1:
                    overlaps.append(key)
                level = wanted[key]
            with lock:
                seen[key] = level
                running[key] -= 1
            queue.done(key)

    workers = [in_thread(work) for _ in range(8)]
    producers = [in_thread(lambda n=n: produce(n)) for n in range(4)]  # type: ignore[misc]
    for producer in producers:
        producer.join(EVENTUALLY_SECONDS)
    eventually(lambda: seen == wanted)
    assert queue.shut_down_with_drain(EVENTUALLY_SECONDS)
    for worker in workers:
        worker.join(EVENTUALLY_SECONDS)
    assert overlaps == []


def test_metrics_tell_what_client_go_tells(clock: FakeClock) -> None:
    metrics = Metrics()
    queue = WorkQueue(clock=clock, metrics=metrics.workqueue("imports"))

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"vm_import_workqueue_{name}", {"name": "imports"})

    assert value("depth") == 0
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert value("depth") == 2
    assert value("adds_total") == 2
    clock.advance(2.0)
    queue.get()
    clock.advance(3.0)
    queue.get()
    assert value("depth") == 0
    assert value("queue_duration_seconds_sum") == pytest.approx(2.0 + 5.0)
    clock.advance(4.0)
    assert value("unfinished_work_seconds") == pytest.approx(7.0 + 4.0)
    assert value("longest_running_processor_seconds") == pytest.approx(7.0)
    queue.done("a")
    queue.done("b")
    assert value("work_duration_seconds_sum") == pytest.approx(11.0)
    assert value("unfinished_work_seconds") == 0
    queue.add_after("a", 1.0)
    assert value("retries_total") == 1
    clock.advance(9.0)
    assert value("depth") == 1
    queue.get()
    assert value("queue_duration_seconds_sum") == pytest.approx(7.0 + 8.0)  # from when it was due
