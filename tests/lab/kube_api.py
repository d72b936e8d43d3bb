"""The API server's HTTP interface, bare: JSON in, JSON out. For the lab's own parts and for tests.

Quicker than kubectl, and independent of the client code that is under test.
"""

from __future__ import annotations

import copy
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import urllib3

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.pki import KeyPair

TIMEOUT = urllib3.Timeout(connect=30, read=60)
WATCH_SECONDS = 600
RETRY_SECONDS = 0.3
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused or could not be reached.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: `reason` of the Status object, such as `NotFound`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class KubeApi:
    """One user's access; usable from many threads."""

    def __init__(self, url: str, *, authority: Path, user: KeyPair) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(
            ca_certs=str(authority),
            cert_file=str(user.certificate),
            key_file=str(user.key),
            maxsize=8,
            retries=False,
            timeout=TIMEOUT,
        )
        self._stop: threading.Event | None = None

    def patient(self, stop: threading.Event) -> KubeApi:
        """Return the same access for somebody who outlives the API server: asks again until `stop` is set.

        A change may then have been made although its answer was lost.
        """
        twin = copy.copy(self)
        twin._stop = stop
        return twin

    def close(self) -> None:
        """Drop the connections; idempotent, and the access stays usable."""
        self._pool.clear()

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self._pool.request("GET", f"{self._url}/readyz").status == HTTPStatus.OK
        except urllib3.exceptions.HTTPError:
            return False

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Send one request and return the decoded answer.

        Raises:
            ApiError: the answer is not a success, or there is none.
        """
        while True:
            try:
                return self._request_once(method, path, body, content_type)
            except ApiError as exc:
                away = exc.status in {0, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
                if not away or self._stop is None or self._stop.wait(RETRY_SECONDS):
                    raise

    def _request_once(self, method: str, path: str, body: Any, content_type: str) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method, self._url + path, body=data, headers={"Content-Type": content_type}
            )
        except urllib3.exceptions.HTTPError as exc:
            raise ApiError(0, "Unreachable", str(exc)) from exc
        document: dict[str, Any] = json.loads(answer.data)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, document.get("reason", ""), document.get("message", ""))
        return document

    def get(self, path: str) -> dict[str, Any]:
        """Return an object."""
        return self.request("GET", path)

    def find(self, path: str) -> dict[str, Any] | None:
        """Return an object, or `None` if there is none."""
        try:
            return self.request("GET", path)
        except ApiError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        found: list[dict[str, Any]] = self.request("GET", path)["items"]
        return found

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a collection, beginning with what it holds, until the server ends the watch."""
        mark = "&" if "?" in path else "?"
        url = f"{self._url}{path}{mark}watch=true&timeoutSeconds={WATCH_SECONDS}"
        with self._pool.request("GET", url, preload_content=False, timeout=None) as answer:
            for line in answer:
                yield json.loads(line)

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object in the collection `path`."""
        return self.request("POST", path, manifest)

    def ensure(self, path: str, manifest: dict[str, Any]) -> None:
        """Create an object in the collection `path`; that it exists already is success."""
        try:
            self.create(path, manifest)
        except ApiError as exc:
            if exc.reason != "AlreadyExists":
                raise

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Change an object, or its subresource, by a JSON merge patch (RFC 7386)."""
        return self.request("PATCH", path, patch, content_type=MERGE_PATCH)

    def delete(self, path: str) -> None:
        """Delete an object; that it is gone already is success."""
        try:
            self.request("DELETE", path)
        except ApiError as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
