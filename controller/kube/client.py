"""A client for objects as they are: unstructured in, unstructured out, typed errors, a timeout on everything.

Nothing is retried here: whoever calls has a queue or a back-off, and knows what a repetition would mean.
"""

from __future__ import annotations

import copy
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import urllib3
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from controller import __version__
from controller.kube import watch as kube_watch
from controller.kube.access import configured_client
from controller.kube.errors import Gone, KubeError, ServerUnavailable, from_response
from controller.runtime.listwatch import Page

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from controller.kube.resource import Resource
    from controller.runtime.listwatch import WatchEvent

USER_AGENT = f"harvester-vm-import-controller/{__version__}"
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0  # a page of 500 objects from a busy etcd takes about 2 s
POOL_SIZE = 32  # connections kept: 8 informers, 16 workers, Events, lease, and some to spare
LIST_PAGE_SIZE = 500

KubeObject: TypeAlias = dict[str, Any]
KubeObjects: TypeAlias = list[KubeObject]

_READS = frozenset({"get", "list", "watch"})
_MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"


class Propagation(StrEnum):
    """What becomes of the objects that a deleted one owns."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


class KubeClient:
    """Requests to one API server, as one user. Thread-safe; one per process is enough.

    Every method raises only `kube.errors.KubeError`s (and what a guard raises, see `guarded`), and returns or
    raises within the connect and read timeouts (5 s, 30 s), watches excepted. Objects returned are the
    caller's own.
    """

    def __init__(
        self,
        api_client: Any,
        *,
        on_request: Callable[[str, str], None] | None = None,
        answer_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        """Use `from_environment`, unless there is a configured `kubernetes.client.ApiClient` already.

        Args:
            api_client: Authenticates and connects.
            on_request: Called after each request with its verb (as RBAC calls it) and HTTP status, or `error`
                when there was no answer.
            answer_seconds: How long to wait for an answer, and for a connection if that is less than 5 s.
        """
        self._api = api_client
        self._api.user_agent = USER_AGENT
        self._on_request = on_request
        self._answer_seconds = answer_seconds
        self._guard: Callable[[], None] | None = None
        self._interrupter = kube_watch.Interrupter()

    @classmethod
    def from_environment(
        cls,
        kubeconfig: str | None = None,
        *,
        context: str | None = None,
        impersonate: str | None = None,
        pool_size: int = POOL_SIZE,
        on_request: Callable[[str, str], None] | None = None,
        answer_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> Self:
        """Connect to `kubeconfig`, else $KUBECONFIG, else as the pod's account, else to ~/.kube/config.

        Args:
            kubeconfig: Path of a kubeconfig file.
            context: Its context to use; its current one when not given.
            impersonate: User to act as, `system:serviceaccount:<namespace>:<name>` for instance.
            pool_size: Connections to keep open.
            on_request: See the constructor.
            answer_seconds: See the constructor.

        Raises:
            NotConfigured: nothing usable was found. No connection is made yet.
        """
        api_client = configured_client(kubeconfig, context, pool_size)
        if impersonate:
            api_client.set_default_header("Impersonate-User", impersonate)
        return cls(api_client, on_request=on_request, answer_seconds=answer_seconds)

    def guarded(self, guard: Callable[[], None]) -> Self:
        """Return the same access with a fence: each write calls `guard` first. Closing either closes both."""
        twin = copy.copy(self)
        twin._guard = guard  # noqa: SLF001  # our own
        return twin

    def close(self) -> None:
        """Drop all idle connections. Open watches end by their stop events."""
        self._api.close()

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> KubeObject:
        """Read one object.

        Raises:
            NotFound: there is none.
            KindNotFound: it is not known whether there is one.
        """
        return self._call("get", "GET", resource, namespace, name)

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> KubeObjects:
        """Read all objects, page by page; of all namespaces when none is given."""
        items: KubeObjects = []
        token, limit = "", LIST_PAGE_SIZE
        while True:
            try:
                page = self.list_page(
                    resource,
                    namespace,
                    limit=limit,
                    continue_token=token,
                    label_selector=label_selector,
                    field_selector=field_selector,
                )
            except Gone:
                if not token:
                    raise
                items, token, limit = [], "", 0  # the pages took too long; the whole at once cannot
                continue
            items += page.items
            token = page.continue_token
            if not token:
                return items

    def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        limit: int = 0,
        continue_token: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> Page:
        """Read one page of objects as of now, each with `apiVersion` and `kind`; `limit` 0 is all of them.

        Raises:
            Gone: the continue token is too old.
        """
        query = {
            "limit": str(limit) if limit else "",
            "continue": continue_token,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        answer = self._call("list", "GET", resource, namespace, query=query)
        items = answer.get("items") or []
        for item in items:  # typed lists of the core API leave them out
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        metadata = answer.get("metadata") or {}
        return Page(items, metadata.get("resourceVersion", ""), metadata.get("continue", ""))

    def create(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Create `obj` in the namespace of its metadata, and return what was stored.

        Raises:
            AlreadyExists: there is one of that name.
            Invalid: schema, CEL rules or a webhook reject it.
        """
        metadata = obj["metadata"]
        # The name is not part of the path, but of what errors say.
        return self._call(
            "create", "POST", resource, metadata.get("namespace"), body=obj, called=metadata.get("name")
        )

    def replace(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Write all of `obj` (but its status, where that is a subresource), and return what was stored.

        Raises:
            Conflict: it has changed since `obj` was read.
            NotFound: it has been deleted.
        """
        return self._replace(resource, obj, "")

    def replace_status(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Write the status of `obj` and nothing else; like `replace` otherwise."""
        return self._replace(resource, obj, "status")

    def patch(
        self, resource: Resource, name: str, patch: KubeObject, namespace: str | None = None
    ) -> KubeObject:
        """Apply a JSON merge patch (RFC 7386: `None` removes a field), and return what was stored.

        With `metadata.resourceVersion` in the patch it is refused (`Conflict`) if the object has changed.
        """
        return self._patch(resource, name, patch, namespace, "")

    def patch_status(
        self, resource: Resource, name: str, patch: KubeObject, namespace: str | None = None
    ) -> KubeObject:
        """Apply a JSON merge patch to the status subresource; like `patch` otherwise."""
        return self._patch(resource, name, patch, namespace, "status")

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation | None = None,
    ) -> None:
        """Ask for deletion; the object stays as long as it has finalizers.

        Args:
            resource: What it is.
            name: Its name.
            namespace: Its namespace.
            uid: Delete only this very object, not another that took its name.
            resource_version: Delete only if it has not changed since.
            propagation: What becomes of what it owns; the kind's own default when not given.

        Raises:
            NotFound: there is none.
            Conflict: `uid` or `resource_version` is another.
        """
        options: KubeObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {field: value for field, value in preconditions.items() if value is not None}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation is not None:
            options["propagationPolicy"] = str(propagation)
        self._call("delete", "DELETE", resource, namespace, name, body=options)

    def watch(
        self,
        resource: Resource,
        resource_version: str,
        timeout_seconds: int,
        stop: threading.Event,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Generator[WatchEvent, None, None]:
        """Yield what changes after `resource_version`, bookmarks included.

        See `runtime.listwatch.ListWatch.watch` for how it ends, and `kube.watch.stream` for its errors. The
        request is made when the first event is asked for; until it is answered, `stop` is not looked at.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
        }
        doing = f"watch {resource.describe(namespace)}"
        path, idle = resource.path(namespace), kube_watch.IDLE_SECONDS
        response = self._open("watch", "GET", path, doing, query=query, read_timeout=idle)
        yield from kube_watch.stream(response, doing, stop, self._interrupter)

    def _replace(self, resource: Resource, obj: KubeObject, subresource: str) -> KubeObject:
        namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
        return self._call("update", "PUT", resource, namespace, name, subresource=subresource, body=obj)

    def _patch(
        self, resource: Resource, name: str, patch: KubeObject, namespace: str | None, subresource: str
    ) -> KubeObject:
        return self._call(
            "patch",
            "PATCH",
            resource,
            namespace,
            name,
            subresource=subresource,
            body=patch,
            content_type=_MERGE_PATCH,
        )

    def _call(
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str | None = None,
        name: str | None = None,
        *,
        subresource: str = "",
        query: dict[str, str] | None = None,
        body: KubeObject | None = None,
        content_type: str = _JSON,
        called: str | None = None,
    ) -> KubeObject:
        """Make a request and return the decoded answer, always an object."""
        what = resource.describe(namespace, name or called)
        doing = f"{verb} {what} {subresource}".rstrip()
        response = self._open(
            verb,
            method,
            resource.path(namespace, name, subresource),
            doing,
            query=query,
            body=body,
            content_type=content_type,
        )
        try:
            decoded = json.loads(response.data)
        except urllib3.exceptions.HTTPError as exc:
            raise ServerUnavailable(f"{doing}: answer cut short: {exc}") from exc
        except ValueError as exc:
            raise ServerUnavailable(f"{doing}: answer is not JSON", status=response.status) from exc
        if not isinstance(decoded, dict):
            raise ServerUnavailable(f"{doing}: answer is not an object", status=response.status)
        return decoded

    def _open(
        self,
        verb: str,
        method: str,
        path: str,
        doing: str,
        *,
        query: dict[str, str] | None = None,
        body: KubeObject | None = None,
        content_type: str = _JSON,
        read_timeout: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Make a request and return the answer, its body not read yet, if it is a success."""
        if self._guard is not None and verb not in _READS:
            self._guard()
        code = "error"
        try:
            headers = {"Accept": _JSON, **({"Content-Type": content_type} if body is not None else {})}
            _, url, headers, _, _ = self._api.param_serialize(
                method,
                path,
                query_params=[(field, value) for field, value in (query or {}).items() if value],
                header_params=headers,
                auth_settings=["BearerToken"],
            )
            # The body goes in here, not above: there it would be walked and copied, and is JSON already.
            answering = self._answer_seconds
            timeouts = (min(CONNECT_TIMEOUT_SECONDS, answering), read_timeout or answering)
            answer = self._api.call_api(method, url, headers, body, _request_timeout=timeouts)
            response: urllib3.BaseHTTPResponse = answer.response
            code = str(response.status)
            if response.status < 300:  # noqa: PLR2004  # 2xx
                return response
            raise from_response(doing, response.status, response.data, response.headers)
        except KubeError:
            raise
        except (urllib3.exceptions.HTTPError, kubernetes_client.ApiException, OSError) as exc:
            raise ServerUnavailable(f"{doing}: no answer: {_plain(exc)}") from exc
        except kubernetes_config.ConfigException as exc:  # the token file could not be read again
            raise ServerUnavailable(f"{doing}: no credentials: {exc}") from exc
        finally:
            if self._on_request is not None:
                self._on_request(verb, code)


def _plain(exc: Exception) -> str:
    """Return what an exception says, without the connection object that urllib3 puts in front."""
    text = str(exc.reason) if isinstance(exc, kubernetes_client.ApiException) else str(exc)
    return text.rpartition("object at 0x")[2].partition(">: ")[2] or text
