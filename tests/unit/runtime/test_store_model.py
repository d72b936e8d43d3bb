"""The store against a dict."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.runtime.listwatch import object_key
from controller.runtime.store import Store

NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3)


def make(name: str, labels: list[str], version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "labels": labels}


class StoreModel(RuleBasedStateMachine):
    """Any order of calls; the index must always be what one would compute from the objects."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(transform=lambda item: {**item, "seen": True})
        self.store.add_index("label", lambda item: item["labels"])
        self.model: dict[str, dict[str, Any]] = {}
        self.version = 0

    def next(self, name: str, labels: list[str]) -> dict[str, Any]:
        self.version += 1
        return make(name, labels, self.version)

    @rule(name=NAMES, labels=LABELS)
    def upsert(self, name: str, labels: list[str]) -> None:
        item = self.next(name, labels)
        old, new = self.store.upsert(item)
        assert old == self.model.get(name)
        self.model[name] = {**item, "seen": True}
        assert new == self.model[name]

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        assert self.store.delete(name) == self.model.pop(name, None)

    @rule(contents=st.dictionaries(NAMES, LABELS))
    def replace(self, contents: dict[str, list[str]]) -> None:
        items = [self.next(name, labels) for name, labels in contents.items()]
        changes = self.store.replace(self.store.stage(items))
        assert {object_key(item) for item in changes.deleted} == self.model.keys() - contents.keys()
        assert {object_key(item) for item in changes.added} == contents.keys() - self.model.keys()
        assert all(old == self.model[object_key(new)] for old, new in changes.updated)
        self.model = {object_key(item): {**item, "seen": True} for item in items}

    @invariant()
    def objects_agree(self) -> None:
        assert {object_key(item): item for item in self.store.list()} == self.model
        assert set(self.store.keys()) == self.model.keys()
        assert len(self.store) == len(self.model)

    @invariant()
    def index_agrees(self) -> None:
        expected = {label for item in self.model.values() for label in item["labels"]}
        assert self.store.index_values("label") == expected
        for label in expected:
            found = [object_key(item) for item in self.store.by_index("label", label)]
            assert sorted(found) == sorted(k for k, item in self.model.items() if label in item["labels"])


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
