"""Informers, queue and workers together, under faults: the promise that the whole is built for."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from controller.runtime.backoff import Backoff, ItemExponentialLimiter
from controller.runtime.informer import SharedInformer
from controller.runtime.listwatch import Expired, Object, object_key
from controller.runtime.workers import Result, WorkerPool
from controller.runtime.workqueue import WorkQueue
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually
from tests.unit.runtime.fake_api import FakeAPI, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

INFORMERS, WORKERS, CHANGES = 3, 8, 150
KEYS = [f"key-{n}" for n in range(6)]
DELETIONS = 0.3  # of all changes
FAILURES = 0.1  # of all reconciles
CALM = 23  # for 23 changes without, there are seven with bad weather


class ControlLoop:
    """Three informers that feed one queue with eight workers, whose reconcile fails now and then."""

    def __init__(self) -> None:
        self.apis = [FakeAPI() for _ in range(INFORMERS)]
        self.informers = [
            SharedInformer(f"kind-{n}", api, backoff=Backoff(0.0005, 0.002))
            for n, api in enumerate(self.apis)
        ]
        self.queue = WorkQueue(limiter=ItemExponentialLimiter(base=0.0005, cap=0.005))
        self.pool = WorkerPool("all", self.queue, self.reconcile, WORKERS)
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.overlaps: list[str] = []
        self.seen = {key: self.state(key) for key in KEYS}  # by the last reconcile that succeeded
        self.dice = random.SystemRandom()

    def start(self) -> None:
        for informer in self.informers:
            informer.add_handler(
                on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new), on_delete=self.enqueue
            )
            informer.start(self.stop)
        self.pool.start()

    def end(self) -> None:
        self.stop.set()
        assert self.pool.shut_down(EVENTUALLY_SECONDS)
        assert all(informer.join(EVENTUALLY_SECONDS) for informer in self.informers)

    def enqueue(self, obj: Object) -> None:
        self.queue.add(object_key(obj))

    def state(self, key: str) -> list[Object | None]:
        return [informer.store.get(key) for informer in self.informers]

    def reconcile(self, key: str) -> Result:
        with self.lock:
            self.running[key] += 1
            if self.running[key] > 1:
                self.overlaps.append(key)
        now = self.state(key)
        failed = self.dice.random() < FAILURES
        with self.lock:
            self.running[key] -= 1
            if not failed:
                self.seen[key] = now
        if failed:
            raise Unavailable
        return Result()

    def settled(self) -> bool:
        return all(
            {object_key(obj): obj for obj in informer.store.list()} == api.contents()
            for informer, api in zip(self.informers, self.apis, strict=True)
        ) and all(self.seen[key] == self.state(key) for key in KEYS)


def change(api: FakeAPI, rng: random.Random) -> None:
    """Be the other clients of one kind for a while, and the weather."""
    weather: list[Callable[[], object]] = [
        api.cut,
        lambda: api.cut(Unavailable()),
        lambda: api.cut(Expired("too old")),
        api.compact,
        lambda: api.fail("watch", Unavailable(), Unavailable()),
        lambda: api.fail("list", Unavailable()),
        api.bookmark,
        *[lambda: None] * CALM,
    ]
    for _ in range(CHANGES):
        name = rng.choice(KEYS)
        if rng.random() < DELETIONS and name in api.contents():
            api.remove(name)
        else:
            api.put(name)
        rng.choice(weather)()


@pytest.mark.parametrize("seed", range(4))
def test_no_key_runs_twice_at_a_time_and_the_last_change_is_never_lost(seed: int) -> None:
    loop = ControlLoop()
    loop.start()
    worlds = [
        threading.Thread(target=change, args=(api, random.Random(seed * 100 + n)), daemon=True)  # noqa: S311  # repeatable
        for n, api in enumerate(loop.apis)
    ]
    for world in worlds:
        world.start()
    for world in worlds:
        world.join(EVENTUALLY_SECONDS)
    eventually(loop.settled)
    loop.end()
    assert loop.overlaps == []
