"""Brings CustomResourceDefinitions up to date: `python -m controller.definitions DIRECTORY`.

Helm installs a chart's definitions where there are none and never touches them again, and the old controller
has left its own, whose schema drops our fields. The chart runs this before each install and upgrade.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from controller import log as logging_setup
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from controller.kube.resource import Resource
from controller.runtime.clock import Clock, SystemClock

DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
SERVED_SECONDS: Final = 60.0  # an API server serves a new kind within a second or two
POLL_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class NotServed(Exception):
    """Surfaces when the API server has stored a definition but does not serve its kind in time."""


def bring_up_to_date(
    kube: KubeClient, definitions: Iterable[dict[str, Any]], clock: Clock, stop: threading.Event
) -> None:
    """Make the cluster's definitions equal the given ones, and return when their kinds are served.

    The spec of one that exists is replaced; its metadata and status (which versions are stored) stay. Objects
    are not touched. May be repeated and may run twice at once.

    Raises:
        KubeError: a definition cannot be read or written, or is refused.
        NotServed: a kind is not served within `SERVED_SECONDS`, or `stop` was set.
    """
    names = [_bring_up_to_date(kube, definition) for definition in definitions]
    deadline = clock.monotonic() + SERVED_SECONDS
    for name in names:
        while not _is_served(kube.get(DEFINITIONS, name)):
            if clock.monotonic() > deadline or stop.wait(POLL_SECONDS):
                raise NotServed(f"{name} is stored but not served")


def main(argv: Sequence[str] | None = None) -> int:
    """Bring the definitions of a directory (JSON, one each file) up to date; 1 when that fails."""
    parser = argparse.ArgumentParser(prog="python -m controller.definitions", description=__doc__)
    parser.add_argument("directory", type=Path, help="with one CustomResourceDefinition as JSON in each file")
    directory: Path = parser.parse_args(argv).directory
    logging_setup.configure()
    try:
        found = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
        if not found:
            raise FileNotFoundError(f"no definition in {directory}")
        with contextlib.closing(KubeClient.from_environment()) as kube:
            bring_up_to_date(kube, found, SystemClock(), threading.Event())
    except (KubeError, NotServed, OSError, ValueError) as exc:
        log.error("definitions not up to date", error=str(exc))  # noqa: TRY400  # a plain reason
        return 1
    return 0


def _bring_up_to_date(kube: KubeClient, wanted: dict[str, Any]) -> str:
    name = str(wanted["metadata"]["name"])
    while True:
        try:
            present = kube.get(DEFINITIONS, name)
            present["spec"] = wanted["spec"]
            kube.replace(DEFINITIONS, present)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # somebody else was faster; see what it is
                kube.create(DEFINITIONS, wanted)
                log.info("definition created", name=name)
                return name
        except Conflict:
            continue  # it has changed since it was read
        else:
            log.info("definition up to date", name=name)
            return name


def _is_served(definition: dict[str, Any]) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


if __name__ == "__main__":
    sys.exit(main())
