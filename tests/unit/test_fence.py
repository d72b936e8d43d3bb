"""The fence: every deed asks first, and looking is free."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from controller.fence import GuardedProvider
from controller.kube.client import KubeClient
from controller.kube.resource import Resource
from controller.runtime.lease import NotLeader
from providers.base import Provider
from tests.unit.kube.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

THINGS = Resource("example.io", "v1", "things", "Thing")
THING = {"metadata": {"name": "a", "namespace": "default"}}
FREE = {"verify", "inspect", "power_state", "close"}
DEEDS = {"request_shutdown", "power_off", "power_on", "open_disk", "discard_export"}

WRITES: dict[str, Callable[[KubeClient], object]] = {
    "create": lambda kube: kube.create(THINGS, THING),
    "replace": lambda kube: kube.replace(THINGS, THING),
    "replace_status": lambda kube: kube.replace_status(THINGS, THING),
    "patch": lambda kube: kube.patch(THINGS, "a", {}, "default"),
    "patch_status": lambda kube: kube.patch_status(THINGS, "a", {}, "default"),
    "delete": lambda kube: kube.delete(THINGS, "a", "default"),
}
READS: dict[str, Callable[[KubeClient], object]] = {
    "get": lambda kube: kube.get(THINGS, "a", "default"),
    "list": lambda kube: kube.list(THINGS),
    "list_page": lambda kube: kube.list_page(THINGS),
}


def refuse() -> None:
    raise NotLeader("another leads")


class Recorder:
    """A provider that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: self.asked.append(name)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer([(200, {"metadata": {}, "items": []})]) as server:
        yield server


@pytest.fixture
def client(server: FakeServer, tmp_path: Path) -> Iterator[KubeClient]:
    with contextlib.closing(KubeClient.from_environment(server.kubeconfig(tmp_path))) as client:
        yield client


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_the_guard_refuses_is_not_sent(
    client: KubeClient, server: FakeServer, name: str
) -> None:
    with pytest.raises(NotLeader):
        WRITES[name](client.guarded(refuse))
    assert server.requests == []


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_the_guard_lets_pass_is_sent(client: KubeClient, server: FakeServer, name: str) -> None:
    asked: list[str] = []
    WRITES[name](client.guarded(lambda: asked.append(name)))
    assert asked == [name]
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", READS)
def test_reads_are_free(client: KubeClient, server: FakeServer, name: str) -> None:
    READS[name](client.guarded(refuse))
    assert len(server.requests) == 1


def test_the_client_that_a_guarded_one_was_made_of_stays_free(client: KubeClient, server: FakeServer) -> None:
    client.guarded(refuse)
    client.create(THINGS, THING)
    assert len(server.requests) == 1


def test_each_method_of_a_client_is_a_read_or_a_write() -> None:
    public = {name for name, _ in inspect.getmembers(KubeClient, inspect.isfunction) if name[0] != "_"}
    assert public == WRITES.keys() | READS.keys() | {"watch", "close", "guarded"}


def call(provider: object, name: str) -> None:
    """Call a method of the protocol with as many arguments as it wants."""
    method: Any = getattr(provider, name)
    kinds = inspect.signature(method).parameters.values()
    method(
        *(None for kind in kinds if kind.kind is not kind.KEYWORD_ONLY and kind.default is kind.empty),
        **{kind.name: False for kind in kinds if kind.kind is kind.KEYWORD_ONLY},
    )


def test_each_method_of_a_provider_is_free_or_a_deed() -> None:
    methods = {name for name, _ in inspect.getmembers(Provider, inspect.isfunction) if name[0] != "_"}
    assert methods == FREE | DEEDS


@pytest.mark.parametrize("name", sorted(FREE | DEEDS))
def test_deeds_at_a_source_ask_the_guard_and_looking_does_not(name: str) -> None:
    source: Any = Recorder()
    asked: list[str] = []
    call(GuardedProvider(source, lambda: asked.append(name)), name)
    assert source.asked == [name]
    assert asked == ([name] if name in DEEDS else [])


@pytest.mark.parametrize("name", sorted(DEEDS))
def test_a_deed_that_the_guard_refuses_is_not_done(name: str) -> None:
    source: Any = Recorder()
    with pytest.raises(NotLeader):
        call(GuardedProvider(source, refuse), name)
    assert source.asked == []
