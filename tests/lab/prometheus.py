"""A Prometheus that scrapes what it is told to, and `promtool`; unpacked, so that no service starts."""

from __future__ import annotations

import json
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.lab.debian import PROMETHEUS, PROMTOOL, unpacked_program
from tests.lab.errors import LabError
from tests.lab.ports import free_ports
from tests.lab.processes import LabProcess, wait_until

if TYPE_CHECKING:
    from types import TracebackType

JOB = "harvester-vm-import-controller"
SCRAPE_SECONDS = 1
READY_SECONDS = 180


def promtool(*words: str | Path, stdin: str | None = None) -> str:
    """Run `promtool` and return what it said.

    Raises:
        LabError: it found something wrong; with its words.
    """
    done = subprocess.run(
        [unpacked_program(*PROMTOOL), *words], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"promtool {words[0]} {words[1]}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Prometheus:
    """One Prometheus with the alert rules of the chart; inside a `with`.

    Attributes:
        url: Its API.
    """

    def __init__(self, target_port: int, rules: Path) -> None:
        """Prepare it.

        Args:
            target_port: Of the metrics to scrape, on loopback.
            rules: File with rule groups.
        """
        self._home = tempfile.TemporaryDirectory(prefix="lab-prometheus-")
        home = Path(self._home.name)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": JOB, "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}
            ],
        }
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = LabProcess(
            "prometheus",
            [
                unpacked_program(*PROMETHEUS),
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log=home / "prometheus.log",
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now.

        Raises:
            LabError: it is not valid; with Prometheus' words.
        """
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=60) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as exc:
            with exc:
                raise LabError(f"{expression}: {exc.read().decode()}") from exc

    def rules(self) -> list[dict[str, Any]]:
        """Return the state of all alert rules, as its API tells it."""
        with urllib.request.urlopen(f"{self.url}/api/v1/rules", timeout=60) as answer:
            groups = json.load(answer)["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def __enter__(self) -> Self:
        self.process.start()
        try:
            wait_until(
                self._scraped,
                what="the first scrape",
                timeout_seconds=READY_SECONDS,
                processes=[self.process],
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()
        self._home.cleanup()

    def _scraped(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10):
                pass
            return [series["value"][1] for series in self.query(f'up{{job="{JOB}"}}')] == ["1"]
        except OSError:  # not up yet, or (an HTTPError) up and not ready
            return False
