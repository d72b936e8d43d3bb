"""The Dockerfile beside what it must agree with: the lock file, the packages, the chart."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CHART = ROOT / "charts/harvester-vm-import-controller"


def copied() -> set[str]:
    """Return what of the source tree goes into the build."""
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_packages_are_installed_only_with_the_hashes_of_the_lock_file() -> None:
    installs = [line for line in re.sub(r"\\\n", "", DOCKERFILE).splitlines() if "pip install" in line]
    first, second = (part for line in installs for part in line.split("&&") if "pip install" in part)
    assert {"--require-hashes", "--only-binary"} <= set(first.split())
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(second.split())


def test_all_that_is_copied_exists_and_is_let_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied() == let_through
    assert all((ROOT / name).exists() for name in copied())


def test_every_package_of_the_project_is_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} <= copied()


def test_the_image_s_user_is_the_chart_s() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    context = values["podSecurityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in DOCKERFILE
    assert f"controller:x:{context['runAsUser']}:{context['runAsGroup']}:" in DOCKERFILE


def test_the_base_is_an_argument_of_both_stages() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
