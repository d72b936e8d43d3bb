from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import structlog

from controller.runtime.backoff import ItemExponentialLimiter
from controller.runtime.lease import NotLeader
from controller.runtime.workers import Result, WorkerPool
from controller.runtime.workqueue import WorkQueue
from tests.unit.fakes import EVENTUALLY_SECONDS, FakeClock, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(limiter=ItemExponentialLimiter(base=0.001, cap=0.01))


class ExpectedError(Exception):
    retryable = True


@pytest.fixture
def pool(queue: WorkQueue) -> Iterator[Callable[[Callable[[str], Result]], WorkerPool]]:
    pools: list[WorkerPool] = []

    def start(reconcile: Callable[[str], Result], count: int = 3) -> WorkerPool:
        pools.append(WorkerPool("imports", queue, reconcile, count))
        pools[-1].start()
        return pools[-1]

    yield start
    for running in pools:
        assert running.shut_down(EVENTUALLY_SECONDS)


def test_every_key_is_reconciled(queue: WorkQueue, pool: Callable[..., WorkerPool]) -> None:
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def reconcile(key: str) -> Result:
        with lock:
            seen[key] += 1
        return Result()

    pool(reconcile)
    for n in range(50):
        queue.add(f"ns/{n}")
    eventually(lambda: len(seen) == 50)
    assert set(seen.values()) == {1}


class OutageError(ExpectedError):
    retry_within = 0.01


def test_a_key_that_fails_by_an_outage_comes_back_soon_however_often_it_failed() -> None:
    queue = WorkQueue(limiter=ItemExponentialLimiter(base=3600, cap=7200))
    passes: list[str] = []

    def reconcile(key: str) -> Result:
        passes.append(key)
        raise OutageError("the server is away")

    pool = WorkerPool("imports", queue, reconcile, 2)
    pool.start()
    queue.add("a")
    eventually(lambda: len(passes) >= 5)
    assert pool.shut_down(EVENTUALLY_SECONDS)


def test_what_a_replica_could_not_write_is_tried_again_soon_after_the_lease_is_renewed() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock, limiter=ItemExponentialLimiter(base=3600, cap=7200))
    passes: list[str] = []

    def reconcile(key: str) -> Result:
        passes.append(key)
        if len(passes) == 1:
            raise NotLeader("the lease was not renewed in time")
        return Result()

    pool = WorkerPool("imports", queue, reconcile, 1, clock=clock)
    pool.start()
    queue.add("a")
    eventually(lambda: queue.num_requeues("a") == 1 and not queue.in_work())
    clock.advance(30)
    queue.add("b")  # wakes the worker: its clock stood still
    eventually(lambda: passes == ["a", "a", "b"])
    assert pool.shut_down(EVENTUALLY_SECONDS)


def test_a_failed_key_comes_back_and_success_forgets_its_failures(
    queue: WorkQueue, pool: Callable[..., WorkerPool]
) -> None:
    failures: list[int] = []

    def reconcile(key: str) -> Result:
        failures.append(queue.num_requeues(key))
        if len(failures) < 4:
            raise ExpectedError("not yet")
        return Result()

    pool(reconcile)
    queue.add("a")
    eventually(lambda: len(failures) == 4)
    assert failures == [0, 1, 2, 3]
    eventually(lambda: queue.num_requeues("a") == 0)


def test_a_result_can_ask_for_the_key_again_later(queue: WorkQueue, pool: Callable[..., WorkerPool]) -> None:
    runs: list[str] = []

    def reconcile(key: str) -> Result:
        runs.append(key)
        return Result(requeue_after=0.001 if len(runs) < 3 else None)

    pool(reconcile)
    queue.add("a")
    eventually(lambda: len(runs) == 3)
    assert queue.num_requeues("a") == 0


@pytest.mark.parametrize("error", [RuntimeError("defect"), SystemExit(3), KeyboardInterrupt()])
def test_a_worker_lives_on_whatever_a_reconcile_does(
    queue: WorkQueue, pool: Callable[..., WorkerPool], error: BaseException
) -> None:
    done: list[str] = []

    def reconcile(key: str) -> Result:
        if key.startswith("bad") and key not in done:
            done.append(key)
            raise error
        done.append(key)
        return Result()

    pool(reconcile, 1)
    for key in ("bad-1", "bad-2", "good"):
        queue.add(key)
    eventually(lambda: Counter(done) == {"bad-1": 2, "bad-2": 2, "good": 1})


def test_a_reconcile_that_returns_nonsense_does_not_keep_its_key(
    queue: WorkQueue, pool: Callable[..., WorkerPool]
) -> None:
    runs: list[str] = []

    def reconcile(key: str) -> Result:
        runs.append(key)
        return Result() if len(runs) == 2 else None  # type: ignore[return-value]

    pool(reconcile, 1)
    queue.add("a")
    eventually(lambda: len(runs) == 2)
    assert queue.shut_down_with_drain(EVENTUALLY_SECONDS)


def test_a_broken_log_does_not_end_a_worker(
    queue: WorkQueue, pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("controller.runtime.workers.log.error", broken, raising=False)
    runs: list[str] = []

    def reconcile(key: str) -> Result:
        runs.append(key)
        raise RuntimeError

    pool(reconcile, 1)
    queue.add("a")
    eventually(lambda: len(runs) >= 3)
    queue.shut_down()


def test_an_expected_failure_is_one_warning_and_a_defect_one_error_with_its_traceback(
    queue: WorkQueue, pool: Callable[..., WorkerPool]
) -> None:
    errors: list[Exception] = [ExpectedError("busy"), RuntimeError("defect")]

    def reconcile(_: str) -> Result:
        if errors:
            raise errors.pop(0)
        return Result()

    with structlog.testing.capture_logs() as logs:
        pool(reconcile, 1)
        queue.add("ns/a")
        eventually(lambda: not errors and queue.num_requeues("ns/a") == 0)
    assert [entry["log_level"] for entry in logs] == ["warning", "error"]
    assert "exc_info" not in logs[0]
    assert isinstance(logs[1]["exc_info"], RuntimeError)


def test_shutting_down_finishes_what_is_in_work_leaves_the_rest_and_says_whether_it_is_over(
    queue: WorkQueue,
) -> None:
    hold = threading.Event()
    started: list[str] = []
    finished: list[str] = []

    def reconcile(key: str) -> Result:
        started.append(key)
        hold.wait(EVENTUALLY_SECONDS)
        finished.append(key)
        return Result()

    pool = WorkerPool("imports", queue, reconcile, 2)
    pool.start()
    for key in ("a", "b", "c"):
        queue.add(key)
    eventually(lambda: len(started) == 2)
    assert not pool.shut_down(timeout=0.01)
    hold.set()
    assert pool.shut_down(EVENTUALLY_SECONDS)
    assert sorted(finished) == ["a", "b"]
    assert queue.shut_down_with_drain(timeout=0)


def test_a_pool_that_was_never_started_shuts_down(queue: WorkQueue) -> None:
    assert WorkerPool("imports", queue, lambda _: Result(), 2).shut_down(1.0)


def test_what_a_reconcile_binds_to_the_log_stays_for_the_lines_of_its_key_and_no_other(
    queue: WorkQueue, pool: Callable[..., WorkerPool]
) -> None:
    def reconcile(key: str) -> Result:
        if key == "ns/told":
            structlog.contextvars.bind_contextvars(uid="7f3c")
        raise ExpectedError

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        pool(reconcile, 1)
        queue.add("ns/told")
        queue.add("ns/other")
        eventually(lambda: {line["key"] for line in logs} == {"ns/told", "ns/other"})
        queue.shut_down()
    assert {line.get("uid") for line in logs if line["key"] == "ns/told"} == {"7f3c"}
    assert {line.get("uid") for line in logs if line["key"] == "ns/other"} == {None}
