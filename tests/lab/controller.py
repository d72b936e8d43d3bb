"""The controller under test: the real program, in a process of its own, with its rights in a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.lab import chart, crds
from tests.lab.errors import LabError
from tests.lab.ports import free_ports
from tests.lab.processes import LabProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.lab.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]
NAMESPACE = chart.NAMESPACE
ACCOUNT = chart.RELEASE
READY_SECONDS = 120
_OF_STACKS = re.compile(r"$|(Current t|T)hread 0x|  File ")
STOP_SECONDS = 25  # what the contract gives it after SIGTERM


def install(control_plane: ControlPlane) -> None:
    """Give the cluster Harvester's kinds and ours, and the controller the account and rights of its chart."""
    crds.install(control_plane, our_crds())
    control_plane.kubectl("create", "namespace", NAMESPACE)
    control_plane.apply(chart.manifests(templates=chart.RIGHTS))


def our_crds() -> list[dict[str, Any]]:
    """Return our CustomResourceDefinitions, as they stand in `manifests/crds`."""
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "manifests/crds").glob("*.yaml"))]


class Controller:
    """One running controller; inside a `with`, or by `start` and `stop`, any number of times.

    Its ports stay the same over restarts, as those of a Service do.

    Attributes:
        kubeconfig: With the token of its ServiceAccount.
        scratch: Its scratch directory.
        log: File with its log, one JSON object per line, over all its starts.
    """

    def __init__(
        self, control_plane: ControlPlane, *, arguments: Sequence[str] = (), scratch: Path | None = None
    ) -> None:
        self._secrecy = control_plane.secrecy
        self._home = Path(tempfile.mkdtemp(prefix="lab-controller-"))
        self.scratch = scratch or self._home / "scratch"
        self.log = self._home / "controller.log"
        self.image_port, self.metrics_port = free_ports(2)
        self.kubeconfig = control_plane.kubeconfig_for_service_account(NAMESPACE, ACCOUNT)
        self.argv = [
            sys.executable,
            *("-m", "controller"),
            f"--kubeconfig={self.kubeconfig}",
            f"--scratch={self.scratch}",
            *("--image-host=127.0.0.1", "--image-address=127.0.0.1", f"--image-port={self.image_port}"),
            *("--metrics-host=127.0.0.1", f"--metrics-port={self.metrics_port}"),
            *arguments,
        ]
        self.process = LabProcess(
            "controller", self.argv, log=self.log, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        )

    def start(self) -> None:
        """Start it and return when it says that it is ready."""
        self.process.start()
        self._secrecy.follow(self.process.pid, self.scratch)
        wait_until(
            self._ready, what="the controller", timeout_seconds=READY_SECONDS, processes=[self.process]
        )

    def stop(self) -> None:
        """Ask it to end, as Kubernetes does; idempotent.

        Raises:
            LabError: it had not ended in time and was killed, or it crashed.
        """
        running = self.process.running
        self.show()
        self.process.stop(STOP_SECONDS)
        ended = self.process.returncode or 0
        if running and ended < 0:
            name = signal.Signals(-ended).name  # SIGKILL: not within STOP_SECONDS of SIGTERM
            raise LabError(f"the controller was ended by {name}\n{self.process.tail()}")

    def show(self) -> None:
        """Keep what it tells the world now, where no secret may stand: metrics, and stacks in its log."""
        if self.process.running:
            with contextlib.suppress(OSError):  # it has not come up, or is not to be reached
                self._secrecy.keep("metrics", self.get("/metrics"))
                self.dump_stacks()

    def dump_stacks(self) -> None:
        """Have it write where each of its threads stands (SIGUSR1)."""
        os.kill(self.process.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()

    def pause(self) -> None:
        """Stop all its threads (SIGSTOP)."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.process.pid, signal.SIGCONT)

    def lines(self) -> list[dict[str, Any]]:
        """Return its log, decoded; lines that are no JSON and no dump of stacks come as `{"text": line}`."""
        decoded = []
        for line in self.log.read_text().splitlines():
            try:
                decoded.append(json.loads(line))
            except ValueError:
                if not _OF_STACKS.match(line):
                    decoded.append({"text": line})
        return decoded

    def get(self, path: str) -> str:
        """Return what its metrics and health port answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def close(self) -> None:
        """Stop it and remove its files. Idempotent."""
        self.stop()
        if self.log.exists():
            self._secrecy.keep("log", self.log.read_text(errors="replace"))
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> bool:
        try:
            return self.get("/readyz").startswith("ok\n")
        except OSError:
            return False
