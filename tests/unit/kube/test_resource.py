from __future__ import annotations

import pytest

from controller.kube.errors import NotFound
from controller.kube.resource import Resource

VM = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
SECRET = Resource("", "v1", "secrets", "Secret")
CLASS = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (VM.path("ns", "web"), "/apis/kubevirt.io/v1/namespaces/ns/virtualmachines/web"),
        (VM.path("ns", "web", "status"), "/apis/kubevirt.io/v1/namespaces/ns/virtualmachines/web/status"),
        (VM.path("ns"), "/apis/kubevirt.io/v1/namespaces/ns/virtualmachines"),
        (VM.path(), "/apis/kubevirt.io/v1/virtualmachines"),
        (SECRET.path("ns", "s"), "/api/v1/namespaces/ns/secrets/s"),
        (CLASS.path(None, "fast"), "/apis/storage.k8s.io/v1/storageclasses/fast"),
        (CLASS.path("ignored", "fast"), "/apis/storage.k8s.io/v1/storageclasses/fast"),
        (SECRET.path("ns", "a b?c=d#e"), "/api/v1/namespaces/ns/secrets/a%20b%3Fc%3Dd%23e"),
    ],
)
def test_paths_are_those_of_the_api(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("ns", word) for word in ("", ".", "..", "a/b", "../../x", "100%")] + [("..", "a"), ("a/b", "a")],
)
def test_what_nothing_can_be_called_does_not_exist(namespace: str, name: str) -> None:
    """As a path it would be another one: of a list, or of a kind."""
    with pytest.raises(NotFound, match="nothing can be called so"):
        SECRET.path(namespace, name)


def test_an_object_of_a_namespaced_resource_needs_a_namespace() -> None:
    with pytest.raises(ValueError, match="namespace"):
        VM.path(None, "web")


def test_api_version_of_the_core_group_has_no_group() -> None:
    assert (VM.api_version, SECRET.api_version) == ("kubevirt.io/v1", "v1")


def test_errors_can_name_it_all() -> None:
    assert VM.describe("ns", "web") == "virtualmachines.kubevirt.io ns/web"
    assert SECRET.describe("ns") == "secrets ns"
    assert CLASS.describe("ns", "fast") == "storageclasses.storage.k8s.io fast"
    assert SECRET.describe() == "secrets"
