"""Reading properties through the PropertyCollector: explicit paths, paging, and no access by attribute.

Reading a managed object's property as a Python attribute is one call each, and raises when the property is
unset. Here a key that is missing from a dict means unset (or hidden from the account, in listings).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.vmware.session import Session

PAGE_SIZE = 1000  # objects in one answer

_Collector = vmodl.query.PropertyCollector
Properties = dict[str, Any]


def read(session: Session, what: str, obj: Any, paths: Sequence[str]) -> Properties:
    """Return those of `paths` that are set on one object.

    Raises:
        PermissionDenied: the account may not read one of them.
        SourceVMNotFound: the object is a VM and is gone.
    """
    return session.call(what, lambda: read_now(session, obj, paths))


def read_now(session: Session, obj: Any, paths: Sequence[str]) -> Properties:
    """Do what `read` does inside an action of `Session.call`, raising pyVmomi's own faults."""
    filters = [_filter([_of(obj, [])], {type(obj): paths})]
    for _, found, missing in _retrieve(session.content, filters):
        for fault in missing:
            if isinstance(fault, vim.fault.NoPermission):
                raise fault
        return found
    return {}


def read_many(
    session: Session, what: str, objects: Sequence[Any], paths: dict[Any, Sequence[str]]
) -> list[tuple[Any, Properties]]:
    """Return the set properties of several objects of the kinds in `paths`, in the server's order."""
    if not objects:
        return []
    filters = [_filter([_of(obj, []) for obj in objects], paths)]
    return session.call(what, lambda: [(o, p) for o, p, _ in _retrieve(session.content, filters)])


def walk(
    session: Session, what: str, root: Any, steps: Sequence[tuple[Any, str]], paths: dict[Any, Sequence[str]]
) -> list[tuple[Any, Properties]]:
    """Return the properties of `root` and of everything reached from it.

    Args:
        session: Where to ask.
        what: What is being done, for errors.
        root: Where to start.
        steps: `(kind, property)`: from an object of this kind go to what this property refers to; all steps
            are tried again on what they found.
        paths: Which properties of which kinds to return; objects of other kinds are passed through.
    """
    names = [f"{kind.__name__}.{path}" for kind, path in steps]
    again = [_Collector.SelectionSpec(name=name) for name in names]
    selection = [
        _Collector.TraversalSpec(name=name, type=kind, path=path, skip=False, selectSet=again)
        for name, (kind, path) in zip(names, steps, strict=True)
    ]
    filters = [_filter([_of(root, selection)], paths)]
    return session.call(what, lambda: [(o, p) for o, p, _ in _retrieve(session.content, filters)])


def _of(obj: Any, selection: list[Any]) -> Any:
    return _Collector.ObjectSpec(obj=obj, skip=False, selectSet=selection)


def _filter(objects: list[Any], paths: dict[Any, Sequence[str]]) -> Any:
    wanted = [
        _Collector.PropertySpec(type=kind, all=False, pathSet=list(path)) for kind, path in paths.items()
    ]
    # An object that disappears between listing and reading is left out of listings. The read of a single
    # object must say so instead.
    return _Collector.FilterSpec(
        objectSet=objects, propSet=wanted, reportMissingObjectsInResults=len(objects) > 1
    )


def _retrieve(content: Any, filters: list[Any]) -> list[tuple[Any, Properties, list[Any]]]:
    """Return `(object, properties, faults of unreadable ones)`; a lost session is raised as it is."""
    collector = content.propertyCollector
    page = collector.RetrievePropertiesEx(filters, _Collector.RetrieveOptions(maxObjects=PAGE_SIZE))
    found = []
    while page is not None:
        for entry in page.objects or ():
            missing = [m.fault for m in entry.missingSet or ()]
            for fault in missing:
                if isinstance(fault, vim.fault.NotAuthenticated):
                    raise fault
            found.append((entry.obj, {p.name: p.val for p in entry.propSet or ()}, missing))
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found
