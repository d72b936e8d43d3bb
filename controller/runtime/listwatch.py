"""The two calls by which a reflector sees an API: list a page, watch from a version.

The vocabulary between `runtime` and `kube`: `kube` implements it, tests fake it. No behaviour lives here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as decoded JSON; here only `metadata` is looked at."""


class EventType(StrEnum):
    """Types of watch events; the words are the API's. ERROR is missing: it is raised as an exception."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. A bookmark's object has nothing but `metadata.resourceVersion`."""

    type: EventType
    object: Object


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        items: The objects, each with `apiVersion` and `kind`.
        resource_version: Of the whole list, the same on each of its pages.
        continue_token: For the next page; empty on the last.
    """

    items: list[Object] = field(default_factory=list)
    resource_version: str = ""
    continue_token: str = ""


class Expired(Exception):  # the API's word
    """Surfaces when a resourceVersion or continue token is too old (410): only a new list helps.

    `kube.errors.Gone` is one; fakes raise it as it is.
    """


class ListWatch(Protocol):
    """One kind of object, perhaps in one namespace or under a selector.

    Errors carry `retryable: bool`, True when the same call, from the same resourceVersion, may succeed later,
    and perhaps `retry_after: float | None`, the seconds for which the server wants peace.
    """

    def list_page(self, limit: int, continue_token: str) -> Page:
        """Return one page as of now (never from an old cache); `limit` 0 is the whole list.

        Raises:
            Expired: the continue token is too old.
        """
        ...

    def watch(
        self, resource_version: str, timeout_seconds: int, stop: threading.Event
    ) -> Generator[WatchEvent, None, None]:
        """Yield what changes after `resource_version`, bookmarks included, until the server ends the stream.

        The iterator ends, without an error, within a second or so after `stop` is set, and when the server's
        time is over. It must be closed (`contextlib.closing`) when it is not read to its end.

        Raises:
            Expired: `resource_version` is too old; may also be raised in the middle.
        """
        ...


def object_key(obj: Object) -> str:
    """Return the key of an object: `namespace/name`, or `name` when it has no namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(key: str) -> tuple[str, str]:
    """Return `(namespace, name)` of a key; the namespace is empty for cluster-scoped objects."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def resource_version(obj: Object) -> str:
    """Return the object's resourceVersion: opaque, to be compared for equality only."""
    return str(obj["metadata"].get("resourceVersion", ""))
