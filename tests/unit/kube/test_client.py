from __future__ import annotations

import contextlib
import socket
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import controller
from controller.kube import client as kube_client
from controller.kube.client import KubeClient, Propagation
from controller.kube.errors import (
    Gone,
    KubeError,
    NotConfigured,
    NotFound,
    ServerUnavailable,
    TooManyRequests,
)
from controller.kube.resource import Resource
from tests.unit.kube.fake_server import FakeServer, Handler, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Iterator

THINGS = Resource("example.io", "v1", "things", "Thing")
SECRETS = Resource("", "v1", "secrets", "Secret")
THING = {"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "7"}, "spec": {"x": None}}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer([(200, THING)]) as server:
        yield server


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def client(server: FakeServer, tmp_path: Path, seen: list[tuple[str, str]]) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(
        server.kubeconfig(tmp_path), on_request=lambda verb, code: seen.append((verb, code))
    )
    yield client
    client.close()


def test_the_version_is_that_of_the_package() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == controller.__version__


def test_every_request_carries_token_and_user_agent(server: FakeServer, client: KubeClient) -> None:
    assert client.get(THINGS, "a", "ns") == THING
    (request,) = server.requests
    assert request.headers["User-Agent"] == f"harvester-vm-import-controller/{controller.__version__}"
    assert request.headers["authorization"] == "Bearer s3cret-t0ken"
    assert request.method == "GET"
    assert request.path == "/apis/example.io/v1/namespaces/ns/things/a"


def test_an_impersonated_user_is_named(server: FakeServer, tmp_path: Path) -> None:
    account = "system:serviceaccount:harvester-system:importer"
    with contextlib.closing(
        KubeClient.from_environment(server.kubeconfig(tmp_path), impersonate=account)
    ) as client:
        client.get(THINGS, "a", "ns")
    assert server.requests[0].headers["Impersonate-User"] == account


@pytest.mark.parametrize(
    ("call", "method", "path", "content_type"),
    [
        (lambda c: c.create(THINGS, THING), "POST", "ns/things", "application/json"),
        (lambda c: c.replace(THINGS, THING), "PUT", "ns/things/a", "application/json"),
        (lambda c: c.replace_status(THINGS, THING), "PUT", "ns/things/a/status", "application/json"),
        (lambda c: c.patch(THINGS, "a", THING, "ns"), "PATCH", "ns/things/a", "application/merge-patch+json"),
        (
            lambda c: c.patch_status(THINGS, "a", THING, "ns"),
            "PATCH",
            "ns/things/a/status",
            "application/merge-patch+json",
        ),
    ],
)
def test_objects_are_sent_as_they_are(
    server: FakeServer, client: KubeClient, call: Any, method: str, path: str, content_type: str
) -> None:
    assert call(client) == THING
    (request,) = server.requests
    assert (request.method, request.path) == (method, f"/apis/example.io/v1/namespaces/{path}")
    assert request.headers["Content-Type"] == content_type
    assert request.body == THING  # its null included: in a merge patch it removes a field


def test_a_deletion_can_be_restricted_to_one_very_object(server: FakeServer, client: KubeClient) -> None:
    client.delete(THINGS, "a", "ns", uid="u-1", resource_version="7", propagation=Propagation.FOREGROUND)
    client.delete(THINGS, "a", "ns")
    first, second = (request.body for request in server.requests)
    assert first["preconditions"] == {"uid": "u-1", "resourceVersion": "7"}
    assert first["propagationPolicy"] == "Foreground"
    assert "preconditions" not in second
    assert "propagationPolicy" not in second


def page(*names: str, more: str = "") -> dict[str, Any]:
    return {
        "kind": "ThingList",
        "metadata": {"resourceVersion": "9", "continue": more},
        "items": [{"metadata": {"name": name}} for name in names],
    }


def test_a_list_is_read_page_by_page_and_its_items_get_back_their_kind(
    server: FakeServer, client: KubeClient
) -> None:
    server.answers = [(200, page("a", "b", more="token")), (200, page("c"))]
    items = client.list(THINGS, label_selector="x=y")
    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("example.io/v1", "Thing")}
    assert [request.query.get("continue") for request in server.requests] == [None, "token"]
    assert all(request.query["limit"] == "500" for request in server.requests)
    assert all(request.query["labelSelector"] == "x=y" for request in server.requests)


def test_a_list_whose_pages_expired_is_read_at_once_without_duplicates(
    server: FakeServer, client: KubeClient
) -> None:
    gone = (410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "continue too old"})
    server.answers = [(200, page("a", more="token")), gone, (200, page("a", "b"))]
    assert [item["metadata"]["name"] for item in client.list(THINGS)] == ["a", "b"]
    assert "limit" not in server.requests[2].query
    server.answers = [gone]
    with pytest.raises(Gone):
        client.list(THINGS)


def test_an_empty_list_may_say_null(server: FakeServer, client: KubeClient) -> None:
    server.answers = [(200, {"kind": "SecretList", "metadata": {"resourceVersion": "9"}, "items": None})]
    assert client.list_page(SECRETS, "ns").items == []
    assert client.list_page(SECRETS, "ns").resource_version == "9"


def test_refusals_are_typed_and_counted(
    server: FakeServer, client: KubeClient, seen: list[tuple[str, str]]
) -> None:
    status = {"kind": "Status", "message": 'things.example.io "a" not found', "details": {"name": "a"}}
    server.answers = [
        (404, status),
        lambda handler: handler.reply(429, {"kind": "Status", "message": "slow down"}, Retry_After="3"),
        (200, THING),
    ]
    with pytest.raises(NotFound, match=r'^get things.example.io ns/a: things.example.io "a" not found$'):
        client.get(THINGS, "a", "ns")
    with pytest.raises(TooManyRequests) as refusal:
        client.create(THINGS, THING)
    assert refusal.value.retry_after == 3.0
    client.replace(THINGS, THING)
    assert seen == [("get", "404"), ("create", "429"), ("update", "200")]


def test_nothing_is_repeated_behind_the_callers_back(server: FakeServer, client: KubeClient) -> None:
    server.answers = [(503, {"kind": "Status", "message": "etcd is away"})]
    with pytest.raises(ServerUnavailable, match="etcd is away"):
        client.get(THINGS, "a", "ns")
    server.answers = [Handler.cut]
    with pytest.raises(ServerUnavailable, match="no answer"):
        client.get(THINGS, "a", "ns")
    assert len(server.requests) == 2


def test_a_redirect_is_not_followed_with_our_token(server: FakeServer, client: KubeClient) -> None:
    server.answers = [lambda handler: handler.reply(302, {}, Location="http://127.0.0.1:1/elsewhere")]
    with pytest.raises(KubeError):
        client.get(THINGS, "a", "ns")
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_an_answer_that_is_no_object_is_an_unavailable_server(
    server: FakeServer, client: KubeClient, body: bytes
) -> None:
    server.answers = [(200, body)]
    with pytest.raises(ServerUnavailable, match="answer"):
        client.get(THINGS, "a", "ns")


def test_a_server_that_hangs_is_given_up_in_time(
    server: FakeServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(kube_client, "READ_TIMEOUT_SECONDS", 0.05)
    server.answers = [Handler.hang]
    with pytest.raises(ServerUnavailable, match="no answer"):
        client.get(THINGS, "a", "ns")
    assert seen == [("get", "error")]


def test_an_answer_cut_short_is_an_unavailable_server(server: FakeServer, client: KubeClient) -> None:
    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.cut()

    server.answers = [half]
    with pytest.raises(ServerUnavailable, match="cut short"):
        client.get(THINGS, "a", "ns")


def test_a_refused_connection_is_an_unavailable_server_and_says_no_secret(
    tmp_path: Path, seen: list[tuple[str, str]]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        kubeconfig = write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}", "s3cret-t0ken")
        client = KubeClient.from_environment(
            kubeconfig, on_request=lambda verb, code: seen.append((verb, code))
        )
        with pytest.raises(ServerUnavailable, match=r"get things.example.io ns/a: no answer") as refusal:
            client.get(THINGS, "a", "ns")
    assert "s3cret" not in str(refusal.value)
    assert "0x" not in str(refusal.value)
    assert seen == [("get", "error")]


def test_kubeconfig_comes_from_the_environment_when_not_given(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
    with contextlib.closing(KubeClient.from_environment()) as client:
        assert client.get(THINGS, "a", "ns") == THING


@pytest.mark.parametrize("content", [None, "", "nonsense", "apiVersion: v1\nkind: Config\n"])
def test_an_unusable_kubeconfig_is_said_at_once(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NotConfigured, match="no access"):
        KubeClient.from_environment(str(path))
