"""What is known of one kind of object, in memory, with indexes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from controller.runtime.listwatch import Object, object_key

IndexFunction: TypeAlias = Callable[[Object], Iterable[str]]
Transform: TypeAlias = Callable[[Object], Object]
Objects: TypeAlias = list[Object]


@dataclass(frozen=True, slots=True)
class Changes:
    """What `Store.replace` made different."""

    added: list[Object] = field(default_factory=list)
    updated: list[tuple[Object, Object]] = field(default_factory=list)
    """`(old, new)` of each object that was known before, whether it differs or not."""
    deleted: list[Object] = field(default_factory=list)


class Staged:
    """Objects made ready by `Store.stage`, for one `Store.replace`. Opaque."""

    def __init__(self, objects: dict[str, Object]) -> None:
        self.objects = objects


class Store:
    """Objects by key (`object_key`) and by indexes; any number of threads.

    Each call sees and leaves the store whole: no reader meets half a `replace`, or an index that disagrees
    with the objects. What is handed out is the stored object, not a copy: **readers must not change it.**

    `transform` is applied once to each object before it is stored, to drop what nobody reads
    (`metadata.managedFields`); it may change the object in place and must leave name and namespace alone.
    """

    def __init__(self, *, transform: Transform | None = None) -> None:
        self._transform = transform
        self._lock = threading.RLock()
        self._objects: dict[str, Object] = {}
        self._functions: dict[str, IndexFunction] = {}
        self._indexes: dict[str, dict[str, dict[str, None]]] = {}  # index -> value -> ordered set of keys
        # What each object was indexed under (key -> index -> values): removing must not depend on the object
        # being as it was, nor on the function giving the same answer twice.
        self._values: dict[str, dict[str, tuple[str, ...]]] = {}

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index all objects, present and future, by the values that `function` returns for each.

        Raises:
            ValueError: there is an index of that name already.
        """
        with self._lock:
            if name in self._functions:
                raise ValueError(f"index {name!r} exists")
            found = {key: tuple(function(obj)) for key, obj in self._objects.items()}
            self._functions[name] = function
            self._indexes[name] = {}
            for key, values in found.items():
                self._values[key][name] = values
                self._index(name, key)

    def get(self, key: str) -> Object | None:
        """Return the object, or `None` when it is not known."""
        with self._lock:
            return self._objects.get(key)

    def keys(self) -> list[str]:
        """Return all keys, as of one moment."""
        with self._lock:
            return list(self._objects)

    def list(self) -> Objects:
        """Return all objects, as of one moment."""
        with self._lock:
            return list(self._objects.values())

    def by_index(self, name: str, value: str) -> Objects:
        """Return the objects for which the index function gave `value`.

        Raises:
            KeyError: there is no such index.
        """
        with self._lock:
            return [self._objects[key] for key in self._indexes[name].get(value, ())]

    def count(self, name: str, value: str) -> int:
        """Return how many objects `by_index` would return, without making the list.

        Raises:
            KeyError: there is no such index.
        """
        with self._lock:
            return len(self._indexes[name].get(value, ()))

    def index_values(self, name: str) -> set[str]:
        """Return all values that the index has now.

        Raises:
            KeyError: there is no such index.
        """
        with self._lock:
            return set(self._indexes[name])

    def __len__(self) -> int:
        with self._lock:
            return len(self._objects)

    def upsert(self, obj: Object) -> tuple[Object | None, Object]:
        """Store an object and return `(what was there before, what is stored now)`."""
        new = self._transform(obj) if self._transform else obj
        key = object_key(new)
        with self._lock:
            old = self._objects.get(key)
            self._put(key, new)
            return old, new

    def delete(self, key: str) -> Object | None:
        """Remove an object and return it; `None` when it was not known."""
        with self._lock:
            return self._remove(key)

    def stage(self, objects: Iterable[Object]) -> Staged:
        """Transform the objects of a new list, as they come, without touching the store.

        `objects` may well be a generator that fetches pages: nothing is locked meanwhile, and if it raises,
        nothing has happened.
        """
        transform = self._transform
        transformed = (transform(obj) for obj in objects) if transform else objects
        return Staged({object_key(obj): obj for obj in transformed})

    def replace(self, staged: Staged) -> Changes:
        """Make the store hold exactly the staged objects, at once; what is missing among them was deleted."""
        changes = Changes()
        with self._lock:
            changes.deleted.extend(obj for key, obj in self._objects.items() if key not in staged.objects)
            for obj in changes.deleted:
                self._remove(object_key(obj))
            for key, new in staged.objects.items():
                old = self._objects.get(key)
                self._put(key, new)
                if old is None:
                    changes.added.append(new)
                else:
                    changes.updated.append((old, new))
        return changes

    # Below, the caller holds the lock.

    def _put(self, key: str, obj: Object) -> None:
        # Index functions run before anything is changed: one that raises leaves the store as it was.
        values = {name: tuple(function(obj)) for name, function in self._functions.items()}
        self._remove(key)
        self._objects[key] = obj
        self._values[key] = values
        for name in values:
            self._index(name, key)

    def _remove(self, key: str) -> Object | None:
        old = self._objects.pop(key, None)
        for name, values in self._values.pop(key, {}).items():
            index = self._indexes[name]
            for value in values:
                keys = index.get(value, {})
                keys.pop(key, None)
                if not keys:
                    index.pop(value, None)
        return old

    def _index(self, name: str, key: str) -> None:
        for value in self._values[key][name]:
            self._indexes[name].setdefault(value, {})[key] = None
