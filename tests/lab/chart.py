"""The controller's Helm chart, as `helm` renders it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab.errors import LabError
from tests.lab.toolchain import go_program

if TYPE_CHECKING:
    from collections.abc import Sequence

CHART = Path(__file__).parents[2] / "charts/harvester-vm-import-controller"
RELEASE = "harvester-vm-import-controller"  # so that everything has this name
NAMESPACE = "harvester-system"
RIGHTS = ("serviceaccount", "rbac")  # templates of the account and its rights


def helm(*words: str | Path, kubeconfig: Path | None = None) -> str:
    """Run helm and return what it printed.

    Raises:
        LabError: helm failed; with what it said.
    """
    command = [go_program("helm"), *words, *(("--kubeconfig", kubeconfig) if kubeconfig else ())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"helm {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def rendered(*words: str | Path, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Return what `helm template` makes of the chart, with more words for it."""
    return helm("template", release, CHART, "--namespace", namespace, *words)


def manifests(
    *words: str | Path, templates: Sequence[str] = (), namespace: str = NAMESPACE
) -> list[dict[str, Any]]:
    """Return the objects that `helm template` makes, of some of the chart's templates if any are named."""
    chosen = [word for name in templates for word in ("--show-only", f"templates/{name}.yaml")]
    documents = yaml.safe_load_all(rendered(*words, *chosen, namespace=namespace))
    return [document for document in documents if document]
