from __future__ import annotations

import base64
from typing import Any

import pytest

from controller.api.types import Source
from controller.connections import Connections
from controller.errors import SecretNotFound
from controller.patience import PatientProvider
from providers.base import SourceConfig
from providers.errors import AuthenticationFailed, CertificateChanged, SecretIncomplete, Unreachable

SOURCE = {
    "kind": "VmwareSource",
    "metadata": {"name": "vcenter", "namespace": "default", "uid": "1", "generation": 1},
    "spec": {"endpoint": "https://vcenter/sdk", "dc": "DC0", "credentials": {"name": "login"}},
    "status": {"tlsFingerprint": "aa"},
}


class FakeProvider:
    def __init__(self, config: SourceConfig) -> None:
        self.password = config.secret["password"]
        self.pin = config.tls.fingerprint
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeKube:
    """Holds the one Secret."""

    password = "old"  # noqa: S105

    def get(self, _resource: object, name: str, namespace: str) -> dict[str, Any]:
        data = {"username": "u", "password": self.password}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        return {"metadata": {"name": name, "namespace": namespace}, "data": encoded}


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def connections(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> Connections:
    monkeypatch.setattr("providers.registry.connect", FakeProvider)
    return Connections(kube, allow_cross_namespace=False)  # type: ignore[arg-type]


def connect(connections: Connections, *, user: str | None = None, pin: str = "aa") -> FakeProvider:
    source = Source.from_object({**SOURCE, "status": {"tlsFingerprint": pin}})
    patient = connections.provider(source, user=user)
    assert isinstance(patient, PatientProvider)
    provider = patient._provider
    assert isinstance(provider, FakeProvider)
    return provider


def test_an_import_keeps_its_connection_when_the_secret_changes(
    connections: Connections, kube: FakeKube
) -> None:
    kept = connect(connections, user="import")
    kube.password = "new"  # noqa: S105

    assert connect(connections).password == "new"  # noqa: S105
    assert connect(connections, user="import") is kept
    assert not kept.closed


@pytest.mark.parametrize("error", [AuthenticationFailed("refused"), CertificateChanged("another one")])
def test_an_import_gets_the_new_connection_when_the_one_it_keeps_refuses(
    connections: Connections, kube: FakeKube, error: Exception
) -> None:
    kept = connect(connections, user="import")
    kube.password = "new"  # noqa: S105
    connect(connections)

    assert connections.refused("import", error)
    assert kept.closed
    assert connect(connections, user="import").password == "new"  # noqa: S105


def test_an_import_gets_the_new_connection_when_the_pin_was_cleared(connections: Connections) -> None:
    connect(connections, user="import")
    connect(connections, pin="")

    assert connections.refused("import", CertificateChanged("another one"))
    assert connect(connections, user="import", pin="").pin is None


def test_a_connection_that_is_still_the_newest_is_not_given_up(connections: Connections) -> None:
    kept = connect(connections, user="import")

    assert not connections.refused("import", AuthenticationFailed("refused"))
    assert connect(connections, user="import") is kept


def test_an_outage_is_no_refusal(connections: Connections, kube: FakeKube) -> None:
    kept = connect(connections, user="import")
    kube.password = "new"  # noqa: S105
    connect(connections)

    assert not connections.refused("import", Unreachable("down"))
    assert connect(connections, user="import") is kept


@pytest.mark.parametrize(
    "error", [Unreachable("down"), AuthenticationFailed("refused"), CertificateChanged("another one")]
)
def test_a_source_is_in_doubt_once_when_an_import_does_not_get_through(
    connections: Connections, error: Exception
) -> None:
    connect(connections, user="import")
    connections.refused("somebody else", error)
    assert not connections.doubted("VmwareSource/default/vcenter")
    connections.refused("import", error)
    assert not connections.doubted("VmwareSource/default/another")
    assert connections.doubted("VmwareSource/default/vcenter")
    assert not connections.doubted("VmwareSource/default/vcenter")


def test_what_a_source_answers_does_not_put_it_in_doubt(connections: Connections) -> None:
    connect(connections, user="import")
    connections.refused("import", SecretIncomplete("no password"))
    assert not connections.doubted("VmwareSource/default/vcenter")


def test_the_connections_of_others_stay_when_one_refuses(connections: Connections, kube: FakeKube) -> None:
    connect(connections, user="refused")
    kube.password = "newer"  # noqa: S105
    other = connect(connections, user="other")
    kube.password = "newest"  # noqa: S105
    connect(connections)

    assert connections.refused("refused", AuthenticationFailed("refused"))
    assert connect(connections, user="other") is other
    assert not other.closed


def test_a_secret_that_lacks_something_is_named(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_config: SourceConfig) -> FakeProvider:
        raise SecretIncomplete("key 'password' is missing")

    monkeypatch.setattr("providers.registry.connect", refuse)
    with pytest.raises(SecretIncomplete, match="Secret default/login: key 'password' is missing"):
        connect(connections)


@pytest.mark.parametrize("credentials", [{}, {"name": "", "namespace": "default"}, None])
def test_a_source_that_names_no_secret_is_told_so_unless_it_needs_none(
    connections: Connections, credentials: dict[str, str] | None
) -> None:
    spec = {"endpoint": "https://vcenter/sdk", "url": "https://files/a.ova", "credentials": credentials}
    with pytest.raises(SecretNotFound, match=r"spec\.credentials\.name is empty"):
        connections.config(Source.from_object({**SOURCE, "spec": spec}))
    assert connections.config(Source.from_object({**SOURCE, "kind": "OvaSource", "spec": spec})).secret == {}
