from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.runtime.listwatch import object_key, split_key
from controller.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


def obj(name: str, *, namespace: str = "ns", version: int = 1, owner: str = "") -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": str(version)},
        "owner": owner,
    }


def by_owner(item: dict[str, Any]) -> list[str]:
    return [item["owner"]] if item["owner"] else []


@pytest.fixture
def store() -> Store:
    store = Store()
    store.add_index("owner", by_owner)
    return store


def test_keys_are_namespace_and_name_and_just_the_name_for_cluster_scoped_objects() -> None:
    assert object_key(obj("web")) == "ns/web"
    assert object_key({"metadata": {"name": "node"}}) == "node"
    assert split_key("ns/web") == ("ns", "web")
    assert split_key("node") == ("", "node")


def test_upsert_returns_what_was_there_before(store: Store) -> None:
    first, second = obj("a"), obj("a", version=2)
    assert store.upsert(first) == (None, first)
    assert store.upsert(second) == (first, second)
    assert store.get("ns/a") is second
    assert store.keys() == ["ns/a"]


def test_delete_returns_what_was_there(store: Store) -> None:
    first = obj("a")
    store.upsert(first)
    assert store.delete("ns/a") is first
    assert store.delete("ns/a") is None
    assert len(store) == 0


def test_an_index_follows_every_change(store: Store) -> None:
    store.upsert(obj("a", owner="x"))
    store.upsert(obj("b", owner="x"))
    store.upsert(obj("a", owner="y"))
    assert [object_key(o) for o in store.by_index("owner", "x")] == ["ns/b"]
    assert [object_key(o) for o in store.by_index("owner", "y")] == ["ns/a"]
    store.delete("ns/b")
    assert store.by_index("owner", "x") == []
    assert store.index_values("owner") == {"y"}
    assert (store.count("owner", "y"), store.count("owner", "z")) == (len(store.by_index("owner", "y")), 0)


def test_an_index_added_late_knows_what_is_there(store: Store) -> None:
    store.upsert(obj("a"))
    store.add_index("name", lambda item: [item["metadata"]["name"]])
    assert len(store.by_index("name", "a")) == 1
    store.delete("ns/a")
    assert store.by_index("name", "a") == []


def test_an_index_name_is_taken_once_and_an_unknown_one_is_an_error(store: Store) -> None:
    with pytest.raises(ValueError, match="owner"):
        store.add_index("owner", by_owner)
    with pytest.raises(KeyError):
        store.by_index("nonsense", "x")


def test_an_object_changed_by_a_reader_is_still_found_out_of_its_index(store: Store) -> None:
    item = obj("a", owner="x")
    store.upsert(item)
    item["owner"] = "changed by somebody who must not"
    store.delete("ns/a")
    assert store.by_index("owner", "x") == []


def test_an_index_function_that_raises_leaves_the_store_as_it_was(store: Store) -> None:
    store.upsert(obj("a", owner="x"))
    broken = obj("a", version=2)
    del broken["owner"]
    with pytest.raises(KeyError):
        store.upsert(broken)
    assert [o["metadata"]["resourceVersion"] for o in store.by_index("owner", "x")] == ["1"]


def test_replace_infers_deletions(store: Store) -> None:
    gone, kept = obj("gone", owner="x"), obj("kept")
    store.upsert(gone)
    store.upsert(kept)
    newer, new = obj("kept", version=5), obj("new", owner="x")
    changes = store.replace(store.stage([newer, new]))
    assert changes.deleted == [gone]
    assert changes.updated == [(kept, newer)]
    assert changes.added == [new]
    assert sorted(store.keys()) == ["ns/kept", "ns/new"]
    assert store.by_index("owner", "x") == [new]


def test_a_list_that_fails_half_way_changes_nothing(store: Store) -> None:
    store.upsert(obj("a"))

    def half() -> Iterator[dict[str, Any]]:
        yield obj("b")
        raise TimeoutError

    with pytest.raises(TimeoutError):
        store.stage(half())
    assert store.keys() == ["ns/a"]


def test_transform_is_applied_once_to_all_that_is_stored() -> None:
    def drop_payload(item: dict[str, Any]) -> dict[str, Any]:
        del item["payload"]  # a second time would raise
        return item

    store = Store(transform=drop_payload)
    store.upsert({**obj("a"), "payload": "x" * 1000})
    store.replace(store.stage([{**obj("a"), "payload": "x"}, {**obj("b"), "payload": "x"}]))
    assert all("payload" not in item for item in store.list())
