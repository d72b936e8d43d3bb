"""One scene for all tests that do not break it; the others make their own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.rights import asked_for
from tests.lab.scene import Scene, vmware_source


@pytest.fixture(scope="package")
def scene() -> Iterator[Scene]:
    """The whole lab with its controller, and a verified source in namespace `default`.

    Whatever the tests did with it, the controller never asked for what its chart does not grant.
    """
    with Scene(arguments=["--progress-seconds=1"], audit=True) as scene:
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        yield scene
        assert asked_for(scene.control_plane, refused=True) == set()


@pytest.fixture
def tenant(scene: Scene) -> Iterator[str]:
    """A namespace for one test, in the scene that all share."""
    name = f"tenant-{secrets.token_hex(4)}"  # not from the test's name, which another file may also have
    scene.control_plane.kubectl("create", "namespace", name)
    yield name
    scene.note_objects(name)
    scene.control_plane.kubectl("delete", "namespace", name, "--wait=false")
