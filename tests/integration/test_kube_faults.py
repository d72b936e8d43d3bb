"""Client and informers against a real API server behind a proxy that misbehaves to order."""

from __future__ import annotations

import functools
import os
import random
import secrets
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from controller.kube import watch as kube_watch
from controller.kube.client import KubeClient
from controller.kube.errors import Conflict, NotFound, ServerUnavailable, TooManyRequests
from controller.kube.resource import Resource
from controller.kube.watch import ResourceListWatch
from controller.runtime.backoff import Backoff
from controller.runtime.informer import SharedInformer
from controller.runtime.listwatch import object_key
from controller.runtime.workers import Result, WorkerPool
from controller.runtime.workqueue import WorkQueue
from tests.lab.api_proxy import ApiProxy
from tests.lab.faults import Action
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
MAPS_PATH = "/configmaps"
LEAST_CHANGES, MOST_CHANGES = 150, 3000


@pytest.fixture(scope="module")
def token_kubeconfig(control_plane: ControlPlane) -> Iterator[Path]:
    """An administrator with a token: client certificates do not pass a proxy."""
    name = f"proxied-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "serviceaccount", name, "-n", "default")
    control_plane.kubectl(
        "create",
        "clusterrolebinding",
        name,
        "--clusterrole=cluster-admin",
        f"--serviceaccount=default:{name}",
    )
    yield control_plane.kubeconfig_for_service_account("default", name)
    control_plane.kubectl("delete", "clusterrolebinding", name)
    control_plane.kubectl("delete", "serviceaccount", name, "-n", "default")


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane) as proxy:
        yield proxy


@pytest.fixture
def direct(control_plane: ControlPlane) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    yield client
    client.close()


@pytest.fixture
def client(proxy: ApiProxy, token_kubeconfig: Path) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(str(proxy.kubeconfig(token_kubeconfig)))
    yield client
    client.close()


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    yield stop
    stop.set()


class Followed:
    """An informer behind the proxy, and what it told."""

    def __init__(
        self, client: KubeClient, namespace: str, stop: threading.Event, resource: Resource = CONFIG_MAPS
    ) -> None:
        self.told: list[str] = []
        self.resource, self.namespace = resource, namespace
        self.informer = SharedInformer(
            resource.plural,
            ResourceListWatch(client, resource, namespace=namespace, label_selector="test=yes"),
            backoff=Backoff(0.02, 0.1),
        )
        self.informer.add_handler(
            on_add=lambda obj: self.told.append(f"+{obj['metadata']['name']}"),
            on_update=lambda _, new: self.told.append(f"~{new['metadata']['name']}"),
            on_delete=lambda obj: self.told.append(f"-{obj['metadata']['name']}"),
        )
        self.informer.start(stop)

    def agrees(self, direct: KubeClient) -> bool:
        live = direct.list(self.resource, self.namespace, label_selector="test=yes")
        return {object_key(obj): obj for obj in live} == {
            object_key(obj): obj for obj in self.informer.store.list()
        }


@pytest.fixture
def followed(
    client: KubeClient, direct: KubeClient, namespace: str, stop: threading.Event, proxy: ApiProxy
) -> Followed:
    direct.create(CONFIG_MAPS, labelled(namespace, "first"))
    followed = Followed(client, namespace, stop)
    assert followed.informer.wait_for_sync(EVENTUALLY_SECONDS)
    eventually(lambda: proxy.requests("WATCH", MAPS_PATH))
    return followed


def labelled(namespace: str, name: str, kind: str = "ConfigMap") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "labels": {"test": "yes"}},
    }


def touch(direct: KubeClient, namespace: str, name: str, value: object) -> None:
    direct.patch(CONFIG_MAPS, name, {"data": {"x": str(value)}}, namespace)


def lists(proxy: ApiProxy) -> int:
    return len(proxy.requests("GET", rf"{MAPS_PATH}\?"))


def test_a_watch_cut_in_the_middle_of_a_line_loses_nothing_and_costs_no_list(
    proxy: ApiProxy, direct: KubeClient, followed: Followed, namespace: str
) -> None:
    fault = proxy.order("cut", verb="WATCH", count=3)
    for n in range(10):
        touch(direct, namespace, "first", n)
        direct.create(CONFIG_MAPS, labelled(namespace, f"c{n}"))
        eventually(functools.partial(followed.informer.store.get, f"{namespace}/c{n}"))
    eventually(lambda: followed.agrees(direct))
    assert fault.fired == 3
    assert lists(proxy) == 1
    assert len([word for word in followed.told if word.startswith("+")]) == 11


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_watch_is_asked_again_from_the_same_version_without_a_list(
    proxy: ApiProxy, direct: KubeClient, followed: Followed, namespace: str, status: int
) -> None:
    fault = proxy.order("answer", verb="WATCH", status=status, count=4)
    proxy.reset()
    touch(direct, namespace, "first", 1)
    direct.create(CONFIG_MAPS, labelled(namespace, "meanwhile"))
    direct.delete(CONFIG_MAPS, "meanwhile", namespace)
    eventually(lambda: "-meanwhile" in followed.told)
    eventually(lambda: followed.agrees(direct))
    assert fault.fired == 4
    assert lists(proxy) == 1
    refused = [request.path for request in proxy.requests("WATCH", MAPS_PATH) if request.status == status]
    versions = {path.split("resourceVersion=")[1].split("&")[0] for path in refused}
    assert len(versions) == 1


def test_an_expired_version_costs_one_list_which_tells_of_what_was_deleted(
    proxy: ApiProxy, direct: KubeClient, followed: Followed, namespace: str
) -> None:
    proxy.order("answer", verb="WATCH", status=410)
    with proxy.away():
        direct.delete(CONFIG_MAPS, "first", namespace)
        direct.create(CONFIG_MAPS, labelled(namespace, "second"))
    eventually(lambda: followed.told == ["+first", "-first", "+second"])
    assert lists(proxy) == 2
    assert followed.agrees(direct)


def test_while_the_server_is_away_nothing_is_forgotten_and_nothing_listed(
    proxy: ApiProxy, direct: KubeClient, followed: Followed, namespace: str
) -> None:
    with proxy.away():
        eventually(lambda: followed.informer.error is not None)
        assert followed.informer.store.get(f"{namespace}/first")
        touch(direct, namespace, "first", "while away")
    eventually(lambda: "~first" in followed.told)
    assert lists(proxy) == 1
    assert followed.informer.error is None


@pytest.mark.parametrize("action", ["drop", "lose"])
def test_a_list_whose_answer_is_lost_is_made_again(
    proxy: ApiProxy,
    client: KubeClient,
    direct: KubeClient,
    namespace: str,
    stop: threading.Event,
    action: Any,
) -> None:
    direct.create(CONFIG_MAPS, labelled(namespace, "first"))
    fault = proxy.order(action, verb="GET", path=MAPS_PATH, count=2)
    followed = Followed(client, namespace, stop)
    assert followed.informer.wait_for_sync(EVENTUALLY_SECONDS)
    assert fault.fired == 2
    assert followed.told == ["+first"]


def test_a_watch_that_falls_silent_is_found_out(
    proxy: ApiProxy,
    client: KubeClient,
    direct: KubeClient,
    namespace: str,
    stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kube_watch, "IDLE_SECONDS", 1.0)
    direct.create(CONFIG_MAPS, labelled(namespace, "first"))
    followed = Followed(client, namespace, stop)
    assert followed.informer.wait_for_sync(EVENTUALLY_SECONDS)
    eventually(lambda: proxy.requests("WATCH", MAPS_PATH))
    fault = proxy.order("silence", verb="WATCH")
    touch(direct, namespace, "first", 1)
    eventually(lambda: "~first" in followed.told)
    assert fault.fired == 1
    assert lists(proxy) == 1


def test_a_write_whose_answer_is_lost_is_not_repeated_by_the_client(
    proxy: ApiProxy, client: KubeClient, direct: KubeClient, namespace: str
) -> None:
    proxy.order("lose", verb="POST", path=MAPS_PATH)
    with pytest.raises(ServerUnavailable):
        client.create(CONFIG_MAPS, labelled(namespace, "once"))
    assert direct.get(CONFIG_MAPS, "once", namespace)
    assert len(proxy.requests("POST", MAPS_PATH)) == 1


def test_refusals_come_as_what_they_are(proxy: ApiProxy, client: KubeClient, namespace: str) -> None:
    proxy.order("answer", verb="POST", status=409)
    with pytest.raises(Conflict):
        client.create(CONFIG_MAPS, labelled(namespace, "a"))
    proxy.order("answer", verb="POST", status=429, retry_after=7)
    with pytest.raises(TooManyRequests) as refusal:
        client.create(CONFIG_MAPS, labelled(namespace, "a"))
    assert (refusal.value.retryable, refusal.value.retry_after) == (True, 7)
    client.create(CONFIG_MAPS, labelled(namespace, "a"))


class Loop:
    """One queue with eight workers, fed by several informers; notes what its workers did."""

    def __init__(self, sources: dict[str, Followed], pause: threading.Event) -> None:
        self.sources = sources
        self.queue = WorkQueue()
        self.twice: list[str] = []
        self.seen: dict[str, str | None] = {}
        self._running: Counter[str] = Counter()
        self._pause = pause
        self._lock = threading.Lock()
        for kind, followed in sources.items():
            add = functools.partial(self._add, kind)
            followed.informer.add_handler(on_add=add, on_update=functools.partial(_new, add), on_delete=add)
        self.pool = WorkerPool("storm", self.queue, self._reconcile, 8)
        self.pool.start()

    def known(self, key: str) -> str | None:
        """Return the version of what a key stands for, as its informer knows it."""
        kind, _, name = key.partition("/")
        followed = self.sources[kind]
        found = followed.informer.store.get(f"{followed.namespace}/{name}")
        return found["metadata"]["resourceVersion"] if found else None

    def _add(self, kind: str, obj: dict[str, Any]) -> None:
        self.queue.add(f"{kind}/{obj['metadata']['name']}")

    def _reconcile(self, key: str) -> Result:
        with self._lock:
            self._running[key] += 1
            if self._running[key] > 1:
                self.twice.append(key)
        version = self.known(key)
        self._pause.wait(0.002)  # time enough for the next change to come in
        with self._lock:
            self.seen[key] = version
            self._running[key] -= 1
        return Result()


def _new(add: Callable[[dict[str, Any]], None], _: dict[str, Any], new: dict[str, Any]) -> None:
    add(new)


STORM: list[tuple[Action, dict[str, Any]]] = [
    ("cut", {"verb": "WATCH", "probability": 0.2}),
    ("answer", {"verb": "WATCH", "status": 410, "probability": 0.3}),
    ("answer", {"verb": "WATCH", "status": 429, "probability": 0.2}),
    ("drop", {"verb": "WATCH", "probability": 0.2}),
    ("answer", {"verb": "GET", "status": 500, "probability": 0.4}),
    ("lose", {"verb": "GET", "probability": 0.4}),
]


def test_in_a_storm_no_key_runs_twice_at_a_time_and_no_last_change_is_lost(
    proxy: ApiProxy, client: KubeClient, direct: KubeClient, namespace: str, stop: threading.Event
) -> None:
    seed = int(os.environ.get("FAULT_SEED") or secrets.randbelow(1 << 31))
    print(f"FAULT_SEED={seed}")
    rng = random.Random(seed)  # noqa: S311  # dice
    faults = [proxy.order(action, count=-1, **details) for action, details in STORM]
    resources = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS, "ServiceAccount": ACCOUNTS}
    loop = Loop(
        {kind: Followed(client, namespace, stop, resource) for kind, resource in resources.items()}, stop
    )
    for n in range(MOST_CHANGES):
        change_something(direct, namespace, rng, resources, n)
        if rng.random() < 0.05:
            proxy.reset()
        if n > LEAST_CHANGES and all(fault.fired for fault in faults):
            break
    proxy.clear()
    proxy.reset()
    eventually(lambda: all(followed.agrees(direct) for followed in loop.sources.values()))
    eventually(lambda: all(version == loop.known(key) for key, version in list(loop.seen.items())))
    for kind, followed in loop.sources.items():
        for key in followed.informer.store.keys():  # noqa: SIM118  # a store is no dict
            assert f"{kind}/{key.split('/')[1]}" in loop.seen
    assert loop.twice == []
    assert all(fault.fired for fault in faults), "the storm was none"
    assert loop.pool.shut_down(60)


def change_something(
    direct: KubeClient, namespace: str, rng: random.Random, resources: dict[str, Resource], number: int
) -> None:
    kind, name = rng.choice(sorted(resources)), f"o{rng.randrange(6)}"
    resource = resources[kind]
    try:
        if rng.random() < 0.3:
            direct.delete(resource, name, namespace)
        else:
            direct.patch(resource, name, {"metadata": {"annotations": {"n": str(number)}}}, namespace)
    except NotFound:
        direct.create(resource, labelled(namespace, name, kind))
