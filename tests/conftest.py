"""Fixtures that every kind of test may use: the lab's shared control plane, and a namespace per test."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.lab import crds, toolchain
from tests.lab.chart import CHART
from tests.lab.control_plane import ControlPlane
from tests.lab.controller import our_crds
from tests.lab.errors import LabError
from tests.lab.harvester import Harvester
from tests.lab.openstack import template
from tests.lab.openstack.cloud import OpenStackCloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.openstack.tenant import Tenant

# A busy machine is no reason for a property to fail; pytest's own timeout ends what hangs.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

CLOUD_TEST_SECONDS = 600  # the cloud starts in half a minute on two idle cores; this is for busy ones
PROGRAMS_OF_FIXTURE = {
    "control_plane": tuple(toolchain.PROGRAMS),
    "chart": ("helm",),
    "vcenter": ("vcsim",),
    "go_reader": ("reader",),
}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the collected tests need before the first of them, whose timeout a build would exceed."""
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    programs = [program for name in fixtures for program in PROGRAMS_OF_FIXTURE.get(name, ())]
    try:
        if programs:
            toolchain.prepare(programs)
        if "cloud" in fixtures:
            template.prepare()
    except LabError as exc:
        raise pytest.UsageError(str(exc)) from exc


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that happens to start the OpenStack time for that, unless it takes more by itself."""
    for item in items:
        if "cloud" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CLOUD_TEST_SECONDS))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let no skip pass unseen on a build server: there everything a test needs can be had."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and exitstatus == 0 and reporter and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, which may not happen in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Take back what a test does to the log of the process: commands and `configure` set it up."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, threading.excepthook = handlers, hook
    root.setLevel(level)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The one cluster of the test session, with Harvester's kinds and ours. Tests share it by namespaces."""
    with ControlPlane() as cluster:
        crds.install(cluster, our_crds())
        yield cluster


@pytest.fixture(scope="session")
def chart() -> Path:
    """Directory of the controller's chart; who asks for it, has helm."""
    return CHART


@pytest.fixture(scope="session")
def cloud() -> Iterator[OpenStackCloud]:
    """The one OpenStack of the test session. Tests share it by tenants, and undo what they do to services."""
    with OpenStackCloud() as running:
        yield running


@pytest.fixture
def tenant(cloud: OpenStackCloud) -> Iterator[Tenant]:
    """A project of the test's own in the OpenStack that all share."""
    with closing(cloud.new_tenant(f"tenant-{secrets.token_hex(4)}")) as tenant:
        yield tenant


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; deleted afterwards, without waiting for the end of it."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def harvester(control_plane: ControlPlane, namespace: str) -> Iterator[Harvester]:
    """A destination that looks after the test's namespace."""
    with Harvester(control_plane, namespaces=[namespace]) as destination:
        yield destination
    assert destination.errors == []
