"""Watches and informers against a real API server, one that goes away and forgets included."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from controller.kube.client import KubeClient
from controller.kube.errors import Gone
from controller.kube.resource import Resource
from controller.kube.watch import ResourceListWatch
from controller.runtime.backoff import Backoff
from controller.runtime.informer import SharedInformer
from controller.runtime.listwatch import EventType, object_key
from tests.lab.control_plane import ControlPlane
from tests.unit.fakes import EVENTUALLY_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
THINGS = Resource("example.io", "v1", "things", "Thing")
THINGS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.io"},
    "spec": {
        "group": "example.io",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


@pytest.fixture(scope="module")
def client(control_plane: ControlPlane) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    yield client
    client.close()


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    stop = threading.Event()
    yield stop
    stop.set()


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": {"test": "yes"}},
        "data": data,
    }


def watch_of(client: KubeClient, namespace: str) -> ResourceListWatch:
    """Only what the test makes: every namespace gets a ConfigMap with the cluster's CA some time."""
    return ResourceListWatch(client, CONFIG_MAPS, namespace=namespace, label_selector="test=yes")


def informer_of(client: KubeClient, resource: Resource, namespace: str) -> SharedInformer:
    return SharedInformer(
        resource.plural,
        ResourceListWatch(client, resource, namespace=namespace),
        backoff=Backoff(0.05, 0.2),
    )


def agrees(informer: SharedInformer, client: KubeClient, resource: Resource, namespace: str) -> bool:
    live = {object_key(obj): obj for obj in client.list(resource, namespace)}
    return live == {object_key(obj): obj for obj in informer.store.list()}


def test_changes_arrive_from_exactly_the_version_of_the_list(
    client: KubeClient, namespace: str, stop: threading.Event
) -> None:
    list_watch = watch_of(client, namespace)
    client.create(CONFIG_MAPS, config_map(namespace, "before"))
    version = list_watch.list_page(500, "").resource_version
    client.create(CONFIG_MAPS, config_map(namespace, "a"))
    client.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace)
    client.delete(CONFIG_MAPS, "a", namespace)
    with closing(list_watch.watch(version, 60, stop)) as events:
        found = [next(events) for _ in range(3)]
    assert [event.type for event in found] == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
    assert {object_key(event.object) for event in found} == {f"{namespace}/a"}
    assert found[0].object["kind"] == "ConfigMap"


def test_a_watch_that_runs_out_has_brought_bookmarks(
    client: KubeClient, namespace: str, stop: threading.Event
) -> None:
    """The server sends one about 2 s before a watch's end, if it gets round to it: longer ones are surer."""
    list_watch = watch_of(client, namespace)
    page = list_watch.list_page(500, "")
    client.create(CONFIG_MAPS, config_map(namespace, "a"))
    for seconds in (4, 10, 20, 40):
        found = list(list_watch.watch(page.resource_version, seconds, stop))
        assert found[0].type is EventType.ADDED
        assert all(event.object["metadata"]["resourceVersion"] for event in found)
        bookmarks = [event for event in found[1:] if event.type is EventType.BOOKMARK]
        assert bookmarks == found[1:]
        if bookmarks:
            return
    pytest.fail("no watch brought a bookmark")


def test_a_quiet_watch_ends_soon_after_stop(
    client: KubeClient, namespace: str, stop: threading.Event
) -> None:
    list_watch = watch_of(client, namespace)
    version = list_watch.list_page(500, "").resource_version
    client.create(CONFIG_MAPS, config_map(namespace, "a"))
    first = threading.Event()
    found: list[Any] = []

    def read() -> None:
        for event in list_watch.watch(version, 300, stop):
            found.append(event)
            first.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert first.wait(EVENTUALLY_SECONDS)
    stop.set()
    reader.join(60)
    assert not reader.is_alive()
    assert len(found) == 1


def test_an_informer_follows_a_real_server(client: KubeClient, namespace: str, stop: threading.Event) -> None:
    informer = informer_of(client, CONFIG_MAPS, namespace)
    told: list[str] = []
    informer.add_handler(
        on_add=lambda obj: told.append(f"+{obj['metadata']['name']}"),
        on_update=lambda _, new: told.append(f"~{new['metadata']['name']}"),
        on_delete=lambda obj: told.append(f"-{obj['metadata']['name']}"),
    )
    informer.start(stop)
    assert informer.wait_for_sync(EVENTUALLY_SECONDS)
    for n in range(20):
        client.create(CONFIG_MAPS, config_map(namespace, f"c{n}"))
    for n in range(0, 20, 2):
        client.patch(CONFIG_MAPS, f"c{n}", {"data": {"x": "1"}}, namespace)
    for n in range(0, 20, 3):
        client.delete(CONFIG_MAPS, f"c{n}", namespace)
    eventually(lambda: told.count("-c18"))
    eventually(lambda: agrees(informer, client, CONFIG_MAPS, namespace))
    assert [word for word in told if word.endswith("c0")] == ["+c0", "~c0", "-c0"]


def test_a_kind_that_is_installed_late_is_found(
    client: KubeClient, namespace: str, stop: threading.Event
) -> None:
    informer = informer_of(client, THINGS, namespace)
    informer.start(stop)
    eventually(lambda: informer.error is not None)
    assert not informer.has_synced()
    client.create(CRDS, THINGS_CRD)
    try:
        assert informer.wait_for_sync(EVENTUALLY_SECONDS)
        thing = {"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"namespace": namespace}}
        thing["metadata"]["name"] = "a"  # type: ignore[index]
        client.create(THINGS, thing)
        eventually(lambda: informer.store.get(f"{namespace}/a"))
    finally:
        client.delete(CRDS, "things.example.io")
    eventually(lambda: informer.store.get(f"{namespace}/a") is None)


@pytest.fixture(scope="module")
def own_control_plane() -> Iterator[ControlPlane]:
    """A cluster that may be mistreated."""
    with ControlPlane() as cluster:
        yield cluster


def test_an_informer_survives_an_api_server_that_goes_away_and_comes_back(
    own_control_plane: ControlPlane, stop: threading.Event
) -> None:
    client = KubeClient.from_environment(str(own_control_plane.kubeconfig))
    lists: list[int] = []

    class Counting(ResourceListWatch):
        def list_page(self, limit: int, continue_token: str) -> Any:
            lists.append(limit)
            return super().list_page(limit, continue_token)

    informer = SharedInformer(
        "configmaps",
        Counting(client, CONFIG_MAPS, namespace="default"),
        backoff=Backoff(0.05, 0.2),
    )
    informer.start(stop)
    assert informer.wait_for_sync(EVENTUALLY_SECONDS)
    client.create(CONFIG_MAPS, config_map("default", "before"))
    eventually(lambda: informer.store.get("default/before"))
    own_control_plane.stop_api_server()
    eventually(lambda: informer.error is not None)
    before = len(lists)
    assert before == 1  # it is not listed again while the server is away
    own_control_plane.start_api_server()
    client.create(CONFIG_MAPS, config_map("default", "after"))
    client.delete(CONFIG_MAPS, "before", "default")
    eventually(lambda: informer.store.get("default/after"))
    eventually(lambda: informer.store.get("default/before") is None)
    assert informer.error is None
    eventually(lambda: agrees(informer, client, CONFIG_MAPS, "default"))
    stop.set()
    assert informer.join(EVENTUALLY_SECONDS)
    client.close()


def test_a_version_that_the_server_does_not_have_any_more_is_gone(
    own_control_plane: ControlPlane, stop: threading.Event
) -> None:
    own_control_plane.stop_api_server()
    own_control_plane.start_api_server()  # its memory of changes begins anew
    client = KubeClient.from_environment(str(own_control_plane.kubeconfig))
    with pytest.raises(Gone, match="too old resource version"):
        next(client.watch(CONFIG_MAPS, "1", 60, stop, namespace="default"))
    client.close()
