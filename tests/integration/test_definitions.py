"""Bringing definitions up to date, as the chart's Job does it, with a kind of the test's own."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from controller import definitions
from tests.lab.crds import CRD_API, CRD_PATH
from tests.lab.kube_api import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.control_plane import ControlPlane

pytestmark = pytest.mark.integration


@pytest.fixture
def plural(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The plural of a kind that nobody else has."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    name = f"probes{secrets.token_hex(3)}"
    yield name
    control_plane.api.delete(f"{CRD_PATH}/{name}.example.com")


def write(directory: Path, plural: str, **properties: Any) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    spec = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": plural, "singular": plural, "kind": plural.capitalize()},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    }
    definition = {
        "apiVersion": CRD_API,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": spec,
    }
    (directory / "probe.json").write_text(json.dumps(definition))


def test_a_kind_that_is_new_is_served_when_the_command_ends(
    control_plane: ControlPlane, plural: str, tmp_path: Path
) -> None:
    write(tmp_path, plural)
    assert definitions.main([str(tmp_path)]) == 0
    assert control_plane.api.items(f"/apis/example.com/v1/{plural}") == []


def test_one_that_exists_gets_the_new_schema_and_keeps_what_others_wrote_on_it(
    control_plane: ControlPlane, plural: str, tmp_path: Path
) -> None:
    path = f"{CRD_PATH}/{plural}.example.com"
    write(tmp_path, plural)
    assert definitions.main([str(tmp_path)]) == 0
    control_plane.api.merge(path, {"metadata": {"annotations": {"example.com/kept": "yes"}}})
    write(tmp_path, plural, size={"type": "integer"})
    assert definitions.main([str(tmp_path)]) == 0
    stored = control_plane.api.get(path)
    schema = stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["spec"]["properties"] == {"size": {"type": "integer"}}
    assert stored["metadata"]["annotations"] == {"example.com/kept": "yes"}


def test_a_definition_that_is_refused_ends_the_command_with_an_error_and_changes_nothing(
    control_plane: ControlPlane, plural: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, plural, size={"type": "no such type"})
    assert definitions.main([str(tmp_path)]) == 1
    assert "no such type" in capfd.readouterr().err
    with pytest.raises(ApiError):
        control_plane.api.get(f"{CRD_PATH}/{plural}.example.com")


def test_an_empty_directory_is_a_mistake_and_not_a_success(tmp_path: Path) -> None:
    assert definitions.main([str(tmp_path)]) == 1
