"""All metrics of the controller, with the prefix `vm_import_`, in a registry of their own.

What may not live here: serving them over HTTP (see `health`), and knowledge of what is counted. Label sets
known beforehand start at 0, so that a rate is right from its first increase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from controller import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PREFIX = "vm_import"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")

# A preflight takes a second, an export of a large disk a day.
_PHASE_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 8 * 3600, 24 * 3600)
# client-go's go by tens; these tell a loop that is busy (0.1 s) from one that is late.
_QUEUE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """The registry and its metrics; one per process. What is asked for at a scrape is in `gauges`.

    Attributes:
        phase_duration: Histogram by `phase`: seconds that imports spent in it.
        bytes_transferred: Counter by `source_kind`: bytes read from sources.
        retries: Counter by `reason`: steps that are tried again.
        failures: Counter by `reason`: imports that ended Failed or Invalid.
        api_requests: Counter by `verb` and `code`: requests to the Kubernetes API.
        leader: Gauge: 1 on the replica that acts.
    """

    def __init__(
        self,
        *,
        phases: Iterable[str] = (),
        source_kinds: Iterable[str] = (),
        retry_reasons: Iterable[str] = (),
        failure_reasons: Iterable[str] = (),
    ) -> None:
        """Start all label sets that are known beforehand at 0.

        Args:
            phases: Values of `phase`.
            source_kinds: Values of `source_kind`.
            retry_reasons: Values of `reason` of what is tried again; others begin with their first increase.
            failure_reasons: The same of what ends an import.
        """
        # A `_created` series beside every counter tells nobody anything.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self.registry = registry
        self.phase_duration = Histogram(
            "phase_duration_seconds",
            "Time imports spent in a phase.",
            ["phase"],
            namespace=PREFIX,
            registry=registry,
            buckets=_PHASE_BUCKETS,
        )
        self.bytes_transferred = Counter(
            "transferred_bytes",
            "Bytes read from sources.",
            ["source_kind"],
            namespace=PREFIX,
            registry=registry,
        )
        self.retries = Counter(
            "retries", "Steps tried again, by reason.", ["reason"], namespace=PREFIX, registry=registry
        )
        self.failures = Counter(
            "failures", "Imports that failed, by reason.", ["reason"], namespace=PREFIX, registry=registry
        )
        self.api_requests = Counter(
            "api_requests",
            "Requests to the Kubernetes API, by verb and HTTP status.",
            ["verb", "code"],
            namespace=PREFIX,
            registry=registry,
        )
        self.leader = Gauge(
            "leader", "Whether this replica is the one that acts.", namespace=PREFIX, registry=registry
        )
        self._queues = _QueueFamilies(registry)
        Info("build", "Version of the controller.", namespace=PREFIX, registry=registry).info(
            {"version": __version__}
        )
        ProcessCollector(registry=registry)
        for phase in phases:
            self.phase_duration.labels(phase)
        for kind in source_kinds:
            self.bytes_transferred.labels(kind)
        for reason in retry_reasons:
            self.retries.labels(reason)
        for reason in failure_reasons:
            self.failures.labels(reason)
        for verb in _VERBS:
            self.api_requests.labels(verb, "error")

    def observe_api_request(self, verb: str, code: str) -> None:
        """Count a request to the Kubernetes API (`KubeClient(on_request=...)`)."""
        self.api_requests.labels(verb, code).inc()

    def workqueue(self, name: str) -> WorkQueueMetrics:
        """Return the metrics of one work queue, all at 0."""
        return WorkQueueMetrics(name, self._queues)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format, to be served as `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _QueueFamilies:
    """client-go's work queue metrics, by the queue's `name`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        subsystem, labels = "workqueue", ["name"]
        self.depth = Gauge(
            "depth", "Current depth of the queue.", labels, PREFIX, subsystem, registry=registry
        )
        self.adds = Counter("adds", "Keys added.", labels, PREFIX, subsystem, registry=registry)
        self.queue_duration = Histogram(
            "queue_duration_seconds",
            "Time keys wait for a worker.",
            labels,
            PREFIX,
            subsystem,
            registry=registry,
            buckets=_QUEUE_BUCKETS,
        )
        self.work_duration = Histogram(
            "work_duration_seconds",
            "Time workers take for a key.",
            labels,
            PREFIX,
            subsystem,
            registry=registry,
            buckets=_QUEUE_BUCKETS,
        )
        self.retries = Counter("retries", "Delayed additions.", labels, PREFIX, subsystem, registry=registry)
        self.unfinished = Gauge(
            "unfinished_work_seconds",
            "Time spent so far on keys that are in work, summed.",
            labels,
            PREFIX,
            subsystem,
            registry=registry,
        )
        self.longest = Gauge(
            "longest_running_processor_seconds",
            "Time spent so far on the key that is longest in work.",
            labels,
            PREFIX,
            subsystem,
            registry=registry,
        )


class WorkQueueMetrics:
    """One queue's share of the metrics; what `runtime.workqueue.QueueMetrics` asks for."""

    def __init__(self, name: str, families: _QueueFamilies) -> None:
        self._depth = families.depth.labels(name)
        self._adds = families.adds.labels(name)
        self._queue_duration = families.queue_duration.labels(name)
        self._work_duration = families.work_duration.labels(name)
        self._retries = families.retries.labels(name)
        self._unfinished = families.unfinished.labels(name)
        self._longest = families.longest.labels(name)

    def add(self) -> None:
        """See `QueueMetrics.add`."""
        self._adds.inc()

    def latency(self, seconds: float) -> None:
        """See `QueueMetrics.latency`."""
        self._queue_duration.observe(seconds)

    def work_duration(self, seconds: float) -> None:
        """See `QueueMetrics.work_duration`."""
        self._work_duration.observe(seconds)

    def retry(self) -> None:
        """See `QueueMetrics.retry`."""
        self._retries.inc()

    def bind(
        self, depth: Callable[[], int], unfinished: Callable[[], float], longest: Callable[[], float]
    ) -> None:
        """See `QueueMetrics.bind`."""
        self._depth.set_function(depth)
        self._unfinished.set_function(unfinished)
        self._longest.set_function(longest)
