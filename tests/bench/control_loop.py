"""The control loop under ten thousand imports: sync, memory, latency, requests."""

from __future__ import annotations

import re
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from controller import kinds
from controller.api import names
from controller.kube.client import KubeClient
from tests.bench.figures import Figure
from tests.bench.memory import resident_mib
from tests.lab import controller as lab_controller
from tests.lab.control_plane import ControlPlane
from tests.lab.controller import Controller
from tests.lab.harvester.machines import BootPolicy
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, Scene, import_path, vm_import, vmware_source

IMPORTS = 10_000
WAITING = 500  # of them wait for a source that does not exist; the others have ended
WRITERS = 16
RUNS = 5
RATE = 50.0  # imports applied per second
APPLIED = 500
SETTLE_SECONDS = 20.0
NAMESPACE = "bench"
COLLECTION = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/virtualmachineimports"
PHASE = re.compile(r'^vm_import_imports\{phase="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)
BUCKET = re.compile(
    r'^vm_import_workqueue_queue_duration_seconds_bucket\{le="([^"]+)",name="imports"\} ([\d.e+]+)$',
    re.MULTILINE,
)
DEPTH = re.compile(r'^vm_import_workqueue_depth\{name="imports"\} ([\d.e+]+)$', re.MULTILINE)
REQUESTS = re.compile(r'^vm_import_api_requests_total\{code="(\w+)",verb="(\w+)"\} ([\d.e+]+)$', re.MULTILINE)


def run() -> list[Figure]:
    """Fill a cluster with imports, start the controller on it, then apply more at a steady rate."""
    with ControlPlane() as control_plane:
        lab_controller.install(control_plane)
        control_plane.kubectl("create", "namespace", NAMESPACE)
        _fill(control_plane)
        syncs = [_time_to_sync(control_plane) for _ in range(RUNS)]
        controller = Controller(control_plane)
        controller.start()
        try:
            wait_until(
                lambda: _phases(controller).get("Preflight", 0) >= WAITING,
                what="the waiting imports to have been seen",
                timeout_seconds=300,
            )
            wait_until(lambda: _depth(controller) == 0, what="an empty queue", timeout_seconds=300)
            threading.Event().wait(SETTLE_SECONDS)
            resident = resident_mib(controller.process.pid)
            before = _buckets(controller)
            delays = _apply_at_rate(control_plane)
            waits = _buckets(controller)
            share = {edge: waits[edge] - before.get(edge, 0) for edge in waits}
        finally:
            controller.close()
    return [
        Figure(
            "control-loop: sync",
            round(statistics.median(syncs), 1),
            15,
            "s",
            f"start of the process until it is ready, with {IMPORTS} imports; median of {RUNS}; beside: what "
            "is expected of a controller-runtime controller",
        ),
        Figure(
            "control-loop: memory",
            round(resident),
            350,
            "MiB",
            f"resident, steady, with {IMPORTS} imports; beside: expectation",
        ),
        Figure(
            "control-loop: apply to first status, median",
            round(1000 * statistics.median(delays)),
            1000,
            "ms",
            f"{APPLIED} imports applied at {RATE:.0f}/s on top; beside: expectation",
        ),
        Figure(
            "control-loop: apply to first status, p99",
            round(1000 * statistics.quantiles(delays, n=100)[98]),
            5000,
            "ms",
            "the same; beside: expectation",
        ),
        Figure(
            "control-loop: enqueue to start, p99",
            round(1000 * quantile(share, 0.99), 1),
            100,
            "ms",
            "the work queue's own histogram over the same time, interpolated; beside: expectation",
        ),
    ]


def requests_per_import() -> list[Figure]:
    """Count the requests to the API server that whole imports take."""
    count = 10
    with Scene(arguments=["--progress-seconds=10"], policy=BootPolicy(boot=False)) as scene:
        scene.control_plane.apply(vmware_source(scene.vcenter, "default"))
        for number in range(count):
            scene.add_guest_vm(f"vm-{number}")
        wait_until(
            lambda: "clusterReady" in scene.control_plane.kubectl("get", "vmwaresource"),
            what="the source",
            timeout_seconds=60,
        )
        before = _requests(scene.controller)
        for number in range(count):
            scene.control_plane.apply([vm_import("default", f"vm-{number}", f"vm-{number}")])
        for number in range(count):
            scene.wait_for_phase(f"vm-{number}", "Succeeded")
        after = _requests(scene.controller)
    return [
        Figure(
            "requests: per import",
            round((after - before) / count, 1),
            100,
            "requests",
            "to the API server by the controller, without watches, over the life of an import with two "
            f"small disks; mean of {count} at once; beside: expectation",
        )
    ]


def quantile(cumulative: dict[float, float], wanted: float) -> float:
    """Return a quantile of a Prometheus histogram, interpolated as `histogram_quantile` does."""
    total = max(cumulative.values())
    lower, below = 0.0, 0.0
    for edge in sorted(cumulative):
        if cumulative[edge] >= wanted * total:
            inside = cumulative[edge] - below
            return (
                lower if edge == float("inf") else lower + (edge - lower) * (wanted * total - below) / inside
            )
        lower, below = edge, cumulative[edge]
    return lower


def _fill(control_plane: ControlPlane) -> None:
    api = control_plane.api

    def store(number: int) -> None:
        name = f"import-{number:05}"
        wanted = _waiting(name)
        if number >= WAITING:
            wanted["metadata"]["finalizers"] = [names.FINALIZER]
        api.create(COLLECTION, wanted)
        if number >= WAITING:
            status = {"phase": "Succeeded", "importStatus": "virtualMachineRunning", "observedGeneration": 1}
            api.merge(f"{import_path(NAMESPACE, name)}/status", {"status": status})

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(store, range(IMPORTS)))


def _waiting(name: str) -> dict[str, Any]:
    return vm_import(NAMESPACE, name, "a-vm", source="missing")


def _time_to_sync(control_plane: ControlPlane) -> float:
    """Return the seconds from the start of the process until it is ready: it knows all and leads."""
    controller = Controller(control_plane)
    try:
        started = time.monotonic()
        controller.start()
        return time.monotonic() - started
    finally:
        controller.close()


def _apply_at_rate(control_plane: ControlPlane) -> list[float]:
    """Create imports at `RATE`; return how long each waited for its first status, in seconds."""
    client = KubeClient.from_environment(str(control_plane.kubeconfig))
    version = client.list_page(kinds.IMPORTS, NAMESPACE, limit=1).resource_version
    created: dict[str, float] = {}
    seen: dict[str, float] = {}
    stop = threading.Event()

    def look() -> None:
        for event in client.watch(kinds.IMPORTS, version, 600, stop, namespace=NAMESPACE):
            name = event.object["metadata"].get("name", "")
            if name.startswith("applied-") and (event.object.get("status") or {}).get("phase"):
                seen.setdefault(name, time.monotonic())

    def create(name: str) -> None:
        control_plane.api.create(COLLECTION, _waiting(name))
        created[name] = time.monotonic()

    watcher = threading.Thread(target=look)
    watcher.start()
    start = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(APPLIED):
            stop.wait(max(0.0, start + number / RATE - time.monotonic()))
            pool.submit(create, f"applied-{number:04}")
    wait_until(lambda: len(seen) == APPLIED, what="a status of every import", timeout_seconds=120)
    stop.set()
    watcher.join()
    return [max(0.0, seen[name] - created[name]) for name in created]


def _phases(controller: Controller) -> dict[str, float]:
    return {phase: float(count) for phase, count in PHASE.findall(controller.get("/metrics"))}


def _depth(controller: Controller) -> float:
    return float(DEPTH.findall(controller.get("/metrics"))[0])


def _buckets(controller: Controller) -> dict[float, float]:
    return {float(edge): float(count) for edge, count in BUCKET.findall(controller.get("/metrics"))}


def _requests(controller: Controller) -> float:
    return sum(
        float(count) for _, verb, count in REQUESTS.findall(controller.get("/metrics")) if verb != "watch"
    )
