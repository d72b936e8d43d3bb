"""The way to the control API of the lab's vCenter: JSON over HTTP, on 127.0.0.1."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_SECONDS = 60
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to 127.0.0.1


@dataclass(frozen=True, slots=True)
class ControlAPI:
    """The API at a URL; `tail` tells what its program wrote last, for messages."""

    url: str
    tail: Callable[[], str]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the decoded answer.

        Raises:
            LabError: the API refuses, with its words; or does not answer.
        """
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data)
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                raise LabError(f"{method} {path}: {json.load(exc)['error']}") from exc
        except OSError as exc:
            raise LabError(f"{method} {path}: {exc}\n{self.tail()}") from exc
