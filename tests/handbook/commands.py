"""The commands that the handbook tells people to type, as they stand there, and where each can be tried."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from tests.handbook.source import ROOT
from tests.lab.errors import LabError
from tests.lab.toolchain import go_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("charts/*/README.md")])
# Where a command can be tried that the end-to-end test cannot run, or why nowhere, by how it begins.
NEEDS_A_POD = "tests/cluster: it needs the controller's pod"
ELSEWHERE = {
    r"kubectl (logs|exec|port-forward) ": NEEDS_A_POD,
    r"kubectl (get|describe) (pods?|deploy) ": NEEDS_A_POD,
    r"curl http://localhost:9090/": NEEDS_A_POD,
    r"kubectl apply .*addon\.yaml": "tests/integration/test_chart_objects.py: it needs the kind Addon",
    r"kubectl get backingimages ": "nowhere: it needs Longhorn",
    r"sparse-sha256 ": "tests/unit/converters/test_digest.py: it needs the package installed",
    r"make ": "it is what runs the tests",
    r"docker ": "tests/cluster: buildah makes the same image",
}

_BLOCK = re.compile(r"^ *```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# With an object: without one a command is only called by its name.
_IN_TEXT = re.compile(r"`(kubectl\s[^`\s]+\s[^`]+)`")
_CONTINUED = re.compile(r"\\\n\s*")
_COMMENT = re.compile(r"\s+#.*")


def all_commands() -> list[str]:
    """Return every command of the handbook once: a line each, without its comment."""
    return sorted({command for page in PAGES for command in _commands(page.read_text())})


def where_else(command: str) -> str:
    """Return why the end-to-end test cannot try this command; empty: it does."""
    return next((why for pattern, why in ELSEWHERE.items() if re.match(pattern, command)), "")


def run(command: str, kubeconfig: Path, substitutes: Iterable[tuple[str, str]] = ()) -> str:
    """Run a command as a person would, from the top of the source tree, and return what it printed.

    Args:
        command: As the handbook has it.
        kubeconfig: Of the cluster.
        substitutes: What to put in the place of the handbook's placeholders, the first ones first.

    Raises:
        LabError: it failed; with what it said.
    """
    for placeholder, name in substitutes:
        command = command.replace(placeholder, name)
    programs = [str(go_program(name).parent) for name in ("kubectl", "helm")]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": ":".join([*programs, os.environ["PATH"]]),
            "KUBECONFIG": str(kubeconfig),
            "KUBECACHEDIR": str(kubeconfig.parent / "kubectl-cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def _commands(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        for line in _CONTINUED.sub("", block).splitlines():
            if line.strip().startswith("$ "):
                yield _COMMENT.sub("", line.strip().removeprefix("$ "))
    for command in _IN_TEXT.findall(_BLOCK.sub("", text)):
        yield " ".join(command.split())
