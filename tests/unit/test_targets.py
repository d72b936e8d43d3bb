"""Names of VMs to be made: of two imports that want one, one gets it, whatever the informer knows yet."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from controller.interest import slim_import
from controller.runtime.store import Store
from controller.targets import TargetNames
from tests.unit.objects import an_import, import_object


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def targets(store: Store) -> TargetNames:
    return TargetNames(store)


def put(store: Store, name: str, uid: str = "", **status: Any) -> None:
    obj = import_object(None, status, name=name, uid=uid or f"uid-{name}")
    store.upsert(slim_import(obj))


def of(name: str, uid: str = "") -> Any:
    return an_import(name=name, uid=uid or f"uid-{name}")


def test_a_name_that_is_in_a_status_is_taken(store: Store, targets: TargetNames) -> None:
    put(store, "first", phase="Export", importedVirtualMachineName="web")
    assert targets.rival(of("second"), "web") == "default/first"
    assert targets.claim(of("second"), "web") == "default/first"
    assert targets.rival(of("first"), "web") is None
    assert targets.rival(of("second"), "shop") is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Invalid", "Preflight"])
def test_who_is_not_under_way_keeps_no_name(store: Store, targets: TargetNames, phase: str) -> None:
    put(store, "first", phase=phase, importedVirtualMachineName="web")
    assert targets.claim(of("second"), "web") is None


def test_a_claim_counts_before_the_informer_shows_it(store: Store, targets: TargetNames) -> None:
    put(store, "first", phase="Preflight")
    assert targets.claim(of("first"), "web") is None
    assert targets.claim(of("second"), "web") == "default/first"
    assert targets.claim(of("first"), "web") is None, "its own claim is in nobody's way"


def test_a_claim_ends_with_its_import(store: Store, targets: TargetNames) -> None:
    for end in (
        lambda: targets.release("uid-first"),
        lambda: store.delete("default/first"),
        lambda: put(store, "first", uid="another of that name", phase="Preflight"),
        lambda: put(store, "first", phase="Failed"),
        lambda: targets.claim(of("first"), "shop"),
    ):
        put(store, "first", phase="Preflight")
        assert targets.claim(of("first"), "web") is None
        end()
        assert targets.rival(of("second"), "web") is None


def test_of_many_that_want_one_name_at_once_one_gets_it(store: Store, targets: TargetNames) -> None:
    many = [f"import-{number}" for number in range(16)]
    for name in many:
        put(store, name, phase="Preflight")
    together = threading.Barrier(len(many))

    def claim(name: str) -> str | None:
        together.wait(60)
        return targets.claim(of(name), "web")

    with ThreadPoolExecutor(len(many)) as pool:
        rivals = list(pool.map(claim, many))
    (winner,) = (name for name, rival in zip(many, rivals, strict=True) if rival is None)
    assert {rival for rival in rivals if rival} == {f"default/{winner}"}
