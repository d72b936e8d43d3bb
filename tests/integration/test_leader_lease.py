"""The lease in a real API server: versions, fields of others, and the rights that the chart grants."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from controller.kube.client import KubeClient
from controller.kube.errors import KubeError, NotFound
from controller.kube.lease import LEASES, KubeLeaseStore
from controller.runtime.leader import LeaderElector
from controller.runtime.lease import LeaseChanged, LeaseForbidden, LeaseRecord, LeaseTiming
from tests.lab import chart
from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration

NAME = "harvester-vm-import-controller"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
RECORD = LeaseRecord("a", 15, 3, AT, AT)


@pytest.fixture(scope="module")
def client(control_plane: ControlPlane) -> Iterator[KubeClient]:
    with contextlib.closing(KubeClient.from_environment(str(control_plane.kubeconfig))) as client:
        yield client


@pytest.fixture
def store(client: KubeClient, namespace: str) -> KubeLeaseStore:
    return KubeLeaseStore(client, namespace, NAME)


@pytest.fixture
def account(control_plane: ControlPlane, namespace: str) -> Iterator[KubeClient]:
    """The controller's own account, with what its chart grants it, in the test's namespace."""
    manifests = chart.manifests(templates=chart.RIGHTS, namespace=namespace)
    control_plane.apply(each for each in manifests if not each["kind"].startswith("Cluster"))
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, NAME)
    with contextlib.closing(KubeClient.from_environment(str(kubeconfig))) as client:
        yield client


def spec(client: KubeClient, namespace: str) -> dict[str, Any]:
    return dict(client.get(LEASES, NAME, namespace)["spec"])


def test_what_is_written_is_read_again_to_the_microsecond(store: KubeLeaseStore) -> None:
    assert store.get() is None
    assert store.create(RECORD).record == RECORD
    found = store.get()
    assert found is not None
    assert found.record == RECORD


def test_a_lease_is_made_once(store: KubeLeaseStore) -> None:
    store.create(RECORD)
    with pytest.raises(LeaseChanged):
        store.create(RECORD)


def test_only_the_version_that_was_read_can_be_replaced(store: KubeLeaseStore) -> None:
    first = store.create(RECORD)
    second = store.update(first, LeaseRecord("b", 15, 4, AT, AT))
    with pytest.raises(LeaseChanged):
        store.update(first, RECORD)
    assert store.update(second, LeaseRecord("", 1, 4, AT, AT)).record.holder == ""


def test_a_lease_that_is_gone_cannot_be_replaced(
    store: KubeLeaseStore, client: KubeClient, namespace: str
) -> None:
    made = store.create(RECORD)
    client.delete(LEASES, NAME, namespace)
    with pytest.raises(LeaseChanged):
        store.update(made, RECORD)


def test_what_others_have_put_on_a_lease_stays(
    store: KubeLeaseStore, client: KubeClient, namespace: str
) -> None:
    store.create(RECORD)
    client.patch(LEASES, NAME, {"metadata": {"labels": {"team": "blue"}}}, namespace)
    found = store.get()
    assert found is not None
    store.update(found, LeaseRecord("b", 15, 4, AT, AT))
    assert client.get(LEASES, NAME, namespace)["metadata"]["labels"] == {"team": "blue"}


def test_an_empty_lease_made_by_hand_is_free(
    store: KubeLeaseStore, client: KubeClient, namespace: str
) -> None:
    client.create(LEASES, {"metadata": {"name": NAME, "namespace": namespace}})
    found = store.get()
    assert found is not None
    assert found.record == LeaseRecord("")


def test_a_namespace_that_does_not_exist_is_an_error_in_words(client: KubeClient) -> None:
    store = KubeLeaseStore(client, "nowhere", NAME)
    assert store.get() is None
    with pytest.raises(NotFound, match="nowhere"):
        store.create(RECORD)


def test_the_manifests_grant_one_lease_in_the_controllers_own_namespace(
    account: KubeClient, namespace: str
) -> None:
    store = KubeLeaseStore(account, namespace, NAME)
    assert store.get() is None
    made = store.create(RECORD)
    store.update(made, RECORD)
    with pytest.raises(LeaseForbidden):
        KubeLeaseStore(account, namespace, "another").get()
    with pytest.raises(LeaseForbidden):
        KubeLeaseStore(account, "default", NAME).get()
    with pytest.raises(KubeError):
        account.delete(LEASES, NAME, namespace)
    with pytest.raises(KubeError):
        account.list(LEASES, namespace)


def test_without_the_right_a_replica_acts_alone(control_plane: ControlPlane, namespace: str) -> None:
    """The role of the old chart knows no leases."""
    control_plane.kubectl("create", "serviceaccount", "old", "--namespace", namespace)
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "old")
    with contextlib.closing(KubeClient.from_environment(str(kubeconfig))) as old:
        elector, stop, thread = candidate(KubeLeaseStore(old, namespace, NAME), "a", threading.Event())
        try:
            eventually(elector.is_leader)
            assert elector.standing() == "leading, without a lease"
        finally:
            stop.set()
            thread.join()


def candidate(
    store: KubeLeaseStore, identity: str, lost: threading.Event, *, lease_duration: float = 3
) -> tuple[LeaderElector, threading.Event, threading.Thread]:
    timing = LeaseTiming(lease_duration, renew_deadline=lease_duration * 2 / 3, retry_period=0.2)
    elector = LeaderElector(store, identity, timing, on_leading=lambda: None, on_lost=lost.set)
    stop = threading.Event()
    thread = threading.Thread(target=elector.run, args=(stop,))
    thread.start()
    return elector, stop, thread


def test_the_lease_goes_from_hand_to_hand(client: KubeClient, namespace: str) -> None:
    """One gives it back, one is stopped without a word, and one comes back to find it taken."""
    store = KubeLeaseStore(client, namespace, NAME)
    lost = threading.Event()
    first, stop_first, first_thread = candidate(store, "first", threading.Event(), lease_duration=60)
    eventually(first.is_leader)
    second, stop_second, second_thread = candidate(store, "second", lost)
    eventually(lambda: second.standing() == "standby, first leads")
    stop_first.set()
    first_thread.join()
    first.release()
    assert not first.is_leader()
    eventually(second.is_leader)
    assert spec(client, namespace)["leaseTransitions"] == 1
    assert spec(client, namespace)["acquireTime"] <= spec(client, namespace)["renewTime"]

    stop_second.set()
    second_thread.join()
    third, stop_third, third_thread = candidate(store, "third", threading.Event())
    eventually(third.is_leader)
    assert not second.is_leader()
    assert second.attempt() is None
    assert lost.is_set()
    assert spec(client, namespace)["holderIdentity"] == "third"
    assert spec(client, namespace)["leaseTransitions"] == 2
    stop_third.set()
    third_thread.join()
