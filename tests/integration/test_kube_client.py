"""The client against a real API server: verbs, typed errors, impersonation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.kube.client import KubeClient, Propagation
from controller.kube.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KindNotFound,
    NotFound,
    ServerUnavailable,
)
from controller.kube.resource import Resource
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
UNKNOWN = Resource("example.io", "v1", "things", "Thing")


@pytest.fixture(scope="module")
def client(control_plane: ControlPlane) -> Iterator[KubeClient]:
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    yield client
    client.close()


def config_map(namespace: str, name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": {"test": "yes"}},
        "data": data,
    }


def deployment(namespace: str) -> dict[str, Any]:
    labels = {"app": "a"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "a"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }


def test_what_is_created_can_be_read_replaced_patched_and_deleted(client: KubeClient, namespace: str) -> None:
    created = client.create(CONFIG_MAPS, config_map(namespace, x="1", y="2"))
    assert created["metadata"]["uid"]
    assert client.get(CONFIG_MAPS, "a", namespace) == created
    replaced = client.replace(CONFIG_MAPS, {**created, "data": {"x": "3", "y": "2"}})
    assert replaced["data"]["x"] == "3"
    patched = client.patch(CONFIG_MAPS, "a", {"data": {"y": None, "z": "4"}}, namespace)
    assert patched["data"] == {"x": "3", "z": "4"}
    client.delete(CONFIG_MAPS, "a", namespace)
    with pytest.raises(NotFound) as missing:
        client.get(CONFIG_MAPS, "a", namespace)
    assert type(missing.value) is NotFound
    assert str(missing.value) == f'get configmaps {namespace}/a: configmaps "a" not found'


def test_an_old_version_is_not_written_over_a_new_one(client: KubeClient, namespace: str) -> None:
    old = client.create(CONFIG_MAPS, config_map(namespace))
    client.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, namespace)
    with pytest.raises(Conflict, match="modified"):
        client.replace(CONFIG_MAPS, old)
    versioned = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"x": "2"}}
    with pytest.raises(Conflict):
        client.patch(CONFIG_MAPS, "a", versioned, namespace)
    with pytest.raises(AlreadyExists, match="already exists"):
        client.create(CONFIG_MAPS, config_map(namespace))


def test_a_status_is_written_apart_from_the_rest(client: KubeClient, namespace: str) -> None:
    created = client.create(DEPLOYMENTS, deployment(namespace))
    condition = {"type": "Test", "status": "True", "reason": "Because", "message": "of a test"}
    patch = {"status": {"conditions": [condition]}, "spec": {"paused": True}}
    patched = client.patch_status(DEPLOYMENTS, "a", patch, namespace)
    assert [found["type"] for found in patched["status"]["conditions"]].count("Test") == 1
    assert "paused" not in patched["spec"]

    def replaced() -> bool:
        live = client.get(DEPLOYMENTS, "a", namespace)
        live["spec"]["paused"] = True
        live["status"] = {"conditions": [{**condition, "type": "Other"}]}
        try:
            stored = client.replace_status(DEPLOYMENTS, live)
        except Conflict:  # the deployment controller was faster
            return False
        assert "paused" not in stored["spec"]
        return [found["type"] for found in stored["status"]["conditions"]] == ["Other"]

    eventually(replaced)
    assert created["metadata"]["uid"] == patched["metadata"]["uid"]


def test_only_the_very_object_that_was_meant_is_deleted(client: KubeClient, namespace: str) -> None:
    first = client.create(CONFIG_MAPS, config_map(namespace))
    client.delete(CONFIG_MAPS, "a", namespace)
    second = client.create(CONFIG_MAPS, config_map(namespace))
    with pytest.raises(Conflict):
        client.delete(CONFIG_MAPS, "a", namespace, uid=first["metadata"]["uid"])
    with pytest.raises(Conflict):
        client.delete(CONFIG_MAPS, "a", namespace, resource_version="1")
    client.delete(CONFIG_MAPS, "a", namespace, uid=second["metadata"]["uid"])
    with pytest.raises(NotFound):
        client.delete(CONFIG_MAPS, "a", namespace)


def test_propagation_decides_what_becomes_of_what_is_owned(client: KubeClient, namespace: str) -> None:
    client.create(DEPLOYMENTS, deployment(namespace))
    eventually(lambda: client.list(REPLICA_SETS, namespace))
    client.delete(DEPLOYMENTS, "a", namespace, propagation=Propagation.ORPHAN)
    eventually(lambda: not client.list(DEPLOYMENTS, namespace))
    (orphan,) = client.list(REPLICA_SETS, namespace)
    assert not orphan["metadata"].get("ownerReferences")


def test_a_list_is_complete_over_its_pages_and_its_items_know_their_kind(
    client: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{n:02}" for n in range(12)]
    for name in names:
        client.create(CONFIG_MAPS, config_map(namespace, name))
    monkeypatch.setattr("controller.kube.client.LIST_PAGE_SIZE", 5)
    items = client.list(CONFIG_MAPS, namespace, label_selector="test=yes")
    assert [item["metadata"]["name"] for item in items] == names
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "ConfigMap")}
    assert client.list(CONFIG_MAPS, namespace, label_selector="test=no") == []
    (one,) = client.list(CONFIG_MAPS, namespace, field_selector="metadata.name=c03")
    assert one["metadata"]["name"] == "c03"
    everywhere = client.list(CONFIG_MAPS, label_selector="test=yes")
    assert len(everywhere) >= len(names)


def test_pages_are_of_one_moment_and_say_which(client: KubeClient, namespace: str) -> None:
    for name in ("a", "b", "c"):
        client.create(CONFIG_MAPS, config_map(namespace, name))
    first = client.list_page(CONFIG_MAPS, namespace, limit=2, label_selector="test=yes")
    client.delete(CONFIG_MAPS, "c", namespace)
    second = client.list_page(
        CONFIG_MAPS, namespace, limit=2, continue_token=first.continue_token, label_selector="test=yes"
    )
    assert [item["metadata"]["name"] for item in first.items + second.items] == ["a", "b", "c"]
    assert first.resource_version == second.resource_version
    assert second.continue_token == ""


def test_a_nonsensical_continue_token_is_refused(client: KubeClient, namespace: str) -> None:
    with pytest.raises((BadRequest, Gone)):
        client.list_page(CONFIG_MAPS, namespace, limit=2, continue_token="nonsense")  # noqa: S106  # no secret


def test_an_object_that_the_schema_rejects_is_invalid(client: KubeClient, namespace: str) -> None:
    wrong = config_map(namespace, "Not_A_Name")
    with pytest.raises(Invalid, match=r"create configmaps .*Not_A_Name.*RFC 1123"):
        client.create(CONFIG_MAPS, wrong)


def test_a_resource_that_is_not_installed_is_told_from_a_missing_object(
    client: KubeClient, namespace: str
) -> None:
    for call in (
        lambda: client.list(UNKNOWN, namespace),
        lambda: client.get(UNKNOWN, "a", namespace),
        lambda: client.create(UNKNOWN, {"metadata": {"name": "a", "namespace": namespace}}),
    ):
        with pytest.raises(KindNotFound):
            call()


def test_an_impersonated_account_may_do_what_it_may(control_plane: ControlPlane, namespace: str) -> None:
    account = f"system:serviceaccount:{namespace}:nobody"
    nobody = KubeClient.from_environment(str(control_plane.kubeconfig), impersonate=account)
    with pytest.raises(Forbidden, match=rf'User "{account}" cannot get resource "configmaps"') as refusal:
        nobody.get(CONFIG_MAPS, "a", namespace)
    assert refusal.value.causes == ()
    nobody.close()


def test_a_token_that_is_not_accepted_is_unauthorized(
    control_plane: ControlPlane, client: KubeClient, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "gone", "-n", namespace)
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "gone")
    accounts = Resource("", "v1", "serviceaccounts", "ServiceAccount")
    client.delete(accounts, "gone", namespace)
    stranger = KubeClient.from_environment(str(kubeconfig))
    eventually(lambda: reason_of(stranger) == "KubernetesUnauthorized")
    stranger.close()


def reason_of(client: KubeClient) -> str:
    try:
        client.list(NAMESPACES)
    except (Forbidden, ServerUnavailable) as exc:
        return exc.reason
    except Exception as exc:  # noqa: BLE001  # whatever it is, its reason is what is asked for
        return str(getattr(exc, "reason", type(exc).__name__))
    return ""


def test_a_namespace_that_is_going_away_says_so(client: KubeClient, namespace: str) -> None:
    holding = config_map(namespace, "holding")
    holding["metadata"]["finalizers"] = ["example.io/hold"]
    client.create(CONFIG_MAPS, holding)
    client.delete(NAMESPACES, namespace)
    with pytest.raises(Forbidden) as refusal:
        client.create(CONFIG_MAPS, config_map(namespace))
    assert refusal.value.causes == ("NamespaceTerminating",)
    client.patch(CONFIG_MAPS, "holding", {"metadata": {"finalizers": None}}, namespace)
