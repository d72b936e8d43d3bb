from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab import debian, toolchain
from tests.lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

PROGRAM = 'package main\n\nfunc main() { println("%s") }\n'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of a program `hello`, and a cache of the test's own."""
    compiled = subprocess.run([toolchain.go(), "env", "GOCACHE"], capture_output=True, text=True, check=True)
    monkeypatch.setenv("GOCACHE", compiled.stdout.strip())  # the compiler's own cache stays where it is
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(toolchain, "GO_SOURCES", tmp_path / "go")
    directory = tmp_path / "go/hello"
    directory.mkdir(parents=True)
    (directory / "go.mod").write_text("module lab/hello\n\ngo 1.24\n")
    (directory / "main.go").write_text(PROGRAM % "first")
    return directory


def said(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stderr.strip()


def test_a_program_is_built_again_only_when_its_sources_change(sources: Path) -> None:
    first = toolchain.go_program("hello")
    assert said(first) == "first"
    built = first.stat().st_mtime_ns
    assert toolchain.go_program("hello") == first
    assert first.stat().st_mtime_ns == built
    (sources / "main.go").write_text(PROGRAM % "second")
    assert said(toolchain.go_program("hello")) == "second"


def test_two_runs_at_once_build_a_program_once(sources: Path, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from tests.lab import toolchain\n"
        f"toolchain.GO_SOURCES = pathlib.Path({str(sources.parent)!r})\n"
        "print(toolchain.go_program('hello'))\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [run.communicate(timeout=240) for run in runs]
    assert answers[0][0] == answers[1][0]
    assert (
        sum("packages compiled" in progress or "building hello" in progress for _, progress in answers) == 1
    )
    assert len(list((tmp_path / "cache/harvester-vm-import-controller/bin").iterdir())) == 1


def test_a_program_that_does_not_build_is_reported_in_the_compiler_s_words(sources: Path) -> None:
    (sources / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(LabError, match="undefined: undefined"):
        toolchain.go_program("hello")


def test_the_assets_directory_is_looked_in_first(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources.exists()
    given = tmp_path / "assets"
    given.mkdir()
    (given / "hello").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    assert toolchain.go_program("hello") == given / "hello"


def test_a_missing_debian_program_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debian, "DEBIAN_PACKAGES", {"no-such-program": "no-such-package"})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="apt-get install --yes --no-install-recommends no-such-package"):
        debian.debian_programs()
