"""Names of resources and of objects, and the paths they have in the API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from controller.kube.errors import NotFound


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API; `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Value of `apiVersion` in its objects: `group/version`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the URL path of a collection (all namespaces when `namespace` is empty) or of one object.

        Raises:
            ValueError: one object of a namespaced resource is meant, but no namespace given.
            NotFound: nothing can have that name, or be in a namespace of that one. Asked for all the same,
                the server would answer for another path: two dots are the way to the directory above.
        """
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"{self.plural} {name!r}: a namespace is needed")
        if not (name is None or _is_path_segment(name)) or not (not namespace or _is_path_segment(namespace)):
            raise NotFound(f"{self.describe(namespace, name)}: nothing can be called so")
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def describe(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the words by which errors call it: `virtualmachines.kubevirt.io default/web`."""
        resource = f"{self.plural}.{self.group}" if self.group else self.plural
        place = "/".join(part for part in (namespace if self.namespaced else None, name) if part)
        return f"{resource} {place}" if place else resource


def _is_path_segment(name: str) -> bool:
    """Tell whether an object can have this name, as far as paths go; what else names must be, servers say.

    The rule is `IsValidPathSegmentName` of k8s.io/apimachinery, `pkg/api/validation/path/name.go`.
    """
    return name not in {"", ".", ".."} and not {"/", "%"} & set(name)
