"""The composition root: the only place that constructs, wires, starts and stops."""

from __future__ import annotations

import functools
import platform
import threading
import uuid
from collections.abc import Callable
from typing import Final

import structlog

from controller import errors, interest, kinds
from controller.api import names
from controller.api.phase import Phase
from controller.config import Settings
from controller.connections import Connections
from controller.gauges import BY_PHASE, Gauges, kind_of
from controller.health import HealthServer
from controller.imageserver import ImageServer
from controller.kube.access import own_namespace
from controller.kube.client import KubeClient
from controller.kube.errors import KubeError
from controller.kube.events import EventRecorder
from controller.kube.lease import KubeLeaseStore
from controller.kube.resource import Resource
from controller.kube.watch import ResourceListWatch
from controller.metrics import Metrics
from controller.reconcile.importer import ImportReconciler
from controller.reconcile.source import SourceReconciler
from controller.runtime.clock import SystemClock
from controller.runtime.informer import SharedInformer
from controller.runtime.leader import LeaderElector
from controller.runtime.lease import LeaseTiming
from controller.runtime.listwatch import Object, object_key
from controller.runtime.workers import WorkerPool
from controller.runtime.workqueue import WorkQueue
from controller.scratch import Scratch, ScratchError
from controller.targets import TargetNames
from controller.transfers import DiskJob, TransferPool
from controller.vitals import ScratchProbe, Vitals
from converters.errors import ConversionError
from providers.errors import ProviderError

log = structlog.get_logger(__name__)

COMPONENT: Final = "vm-import-controller"
LEASE: Final = "harvester-vm-import-controller"
DEFAULT_NAMESPACE: Final = "harvester-system"  # of the lease, when not in a pod
SOURCE_WORKERS: Final = 4
RESYNC_SECONDS: Final = 600.0  # every import and source is looked at again, in case an event was lost
SHUTDOWN_SECONDS: Final = 18.0  # of the 25 that the contract gives; the rest is for logging out
LEAVE_SECONDS: Final = 5.0  # for a renewal that is under way

_BY_UID: Final = "uid"
_BY_SOURCE: Final = "source"


class App:
    """The controller, from settings to threads. `start`, then `stop`; once each."""

    def __init__(self, settings: Settings, *, give_up: Callable[[], None]) -> None:
        """Construct everything; nothing runs yet.

        Args:
            settings: What an operator has set.
            give_up: Called, by any thread, when this process should be stopped because it can be of no more
                use: it has lost the lease, or cannot serve images. `gave_up` is true from then on.

        Raises:
            controller.kube.errors.NotConfigured: there is no way to reach a cluster.
            OSError: the scratch directory or a port cannot be used.
        """
        self._settings = settings
        self._clock = SystemClock()
        self._stopping = threading.Event()
        self.metrics = Metrics(
            phases=[phase.value for phase in Phase],
            source_kinds=list(kinds.SOURCES),
            retry_reasons=_reasons(retryable=True),
            failure_reasons=_reasons(retryable=False),
        )
        self.gave_up = False
        self._give_up = give_up
        self._leaving = threading.Event()
        self._acting = threading.Event()
        self._threads = [threading.Thread(target=self._stand, name="leader-election", daemon=True)]
        cluster = KubeClient.from_environment(
            settings.kubeconfig or None, on_request=self.metrics.observe_api_request
        )
        self._lease_client, self._elector = None, None
        self._kube = cluster
        if settings.leader_elect:
            self._lease_client, self._elector = self._candidate()
            self._kube = cluster.guarded(self._elector.check)
        self.metrics.leader.set_function(self._leads)
        self._events = EventRecorder(
            cluster, component=COMPONENT, instance=platform.node(), clock=self._clock
        )
        self._import_queue = WorkQueue(clock=self._clock, metrics=self.metrics.workqueue("imports"))
        self._source_queue = WorkQueue(clock=self._clock, metrics=self.metrics.workqueue("sources"))
        guard = self._elector.check if self._elector else None
        scratch = Scratch(settings.scratch, guard=guard)
        self._connections = Connections(
            self._kube,
            allow_cross_namespace=settings.allow_cross_namespace,
            scratch=scratch,
            guard=guard,
        )
        self._transfers = TransferPool(
            scratch,
            self._clock,
            limit=settings.max_transfers,
            on_change=self._enqueue_uid,
            on_bytes=self._count_bytes,
        )
        self._scratch = scratch
        self.images = ImageServer(scratch, settings.image_host, settings.image_port)
        self._imports = self._informer("imports", kinds.IMPORTS, transform=interest.slim_import)
        self._sources = {
            kind: self._informer(kind.lower(), resource, transform=interest.without_managed_fields)
            for kind, resource in kinds.SOURCES.items()
        }
        made_by_us = f"{names.LABEL_IMPORTED}=true"
        self._products = [
            self._informer("images", kinds.IMAGES, made_by_us, interest.without_managed_fields),
            self._informer(
                "virtualmachines", kinds.VIRTUAL_MACHINES, made_by_us, interest.without_managed_fields
            ),
        ]
        self._wire()
        import_reconciler = ImportReconciler(
            kube=self._kube,
            connections=self._connections,
            scratch=scratch,
            transfers=self._transfers,
            images=self.images,
            targets=TargetNames(self._imports.store),
            events=self._events,
            clock=self._clock,
            settings=settings,
            metrics=self.metrics,
        )
        source_reconciler = SourceReconciler(
            kube=self._kube, connections=self._connections, events=self._events, clock=self._clock
        )
        self._workers = [
            WorkerPool(
                "sources", self._source_queue, source_reconciler.reconcile, SOURCE_WORKERS, clock=self._clock
            ),
            WorkerPool(
                "imports",
                self._import_queue,
                import_reconciler.reconcile,
                settings.workers,
                clock=self._clock,
            ),
        ]
        vitals = Vitals(
            workers=self._workers,
            informers=self._informers(),
            imports=self._imports,
            images=self.images,
            elector=self._elector,
            election=self._threads[0],
            scratch=ScratchProbe(scratch, self._clock),
            stopping=self._stopping,
            acting=self._acting,
            gave_up=lambda: self.gave_up,
        )
        self.health = HealthServer(settings.metrics_host, settings.metrics_port, self.metrics, vitals)

    def start(self) -> None:
        """Start what a standby needs; the rest begins when the imports are known and the lease is held."""
        self.health.start()
        self._events.start()
        for informer in self._informers():
            informer.start(self._stopping)
        self._threads[0].start()
        log.info(
            "controller started",
            metrics_port=self.health.port,
            scratch=str(self._settings.scratch),
        )

    def stop(self) -> None:
        """Stop taking work, checkpoint transfers, log out everywhere, and only then give the lease back.

        Within `SHUTDOWN_SECONDS`; while it lasts the lease is renewed. What has not ended by then keeps the
        lease from being given back: it expires after the process is gone.
        """
        log.info("controller stopping")
        self._stopping.set()
        deadline = self._clock.monotonic() + SHUTDOWN_SECONDS
        for queue in (self._import_queue, self._source_queue):
            queue.shut_down()
        ended = self._transfers.shut_down(timeout=self._left(deadline))
        for pool in self._workers:
            ended &= pool.shut_down(timeout=self._left(deadline))
        self._connections.close()
        self.images.stop()
        self._leave(release=ended)
        self._events.stop()
        for informer in self._informers():
            informer.join(timeout=1)
        self.health.stop()
        self._kube.close()
        if self._lease_client:
            self._lease_client.close()
        log.info("controller stopped")

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock.monotonic())

    def _candidate(self) -> tuple[KubeClient, LeaderElector]:
        """Return the candidate for the lease, and its own way to the cluster.

        A way of its own, because half of the renew deadline is as long as a renewal may wait for an answer.
        """
        settings = self._settings
        client = KubeClient.from_environment(
            settings.kubeconfig or None,
            pool_size=1,
            on_request=self.metrics.observe_api_request,
            answer_seconds=settings.renew_deadline / 2,
        )
        namespace = settings.leader_election_namespace or own_namespace() or DEFAULT_NAMESPACE
        elector = LeaderElector(
            KubeLeaseStore(client, namespace, LEASE),
            f"{platform.node()}_{uuid.uuid4()}",
            LeaseTiming(settings.lease_duration, settings.renew_deadline, settings.retry_period),
            on_leading=self._begin,
            on_lost=self._end,
            clock=self._clock,
        )
        return client, elector

    def _stand(self) -> None:
        """Be the thread that gets the lease and keeps it; a replica that knows no imports does not stand."""
        if not self._imports.wait_for_sync():
            return
        if self._elector is None:
            self._begin()
        else:
            self._elector.run(self._leaving)

    def _begin(self) -> None:
        """Act, from now on; in a thread of its own, since the lease has to be renewed meanwhile."""
        starter = threading.Thread(target=self._act, name="starter", daemon=True)
        self._threads.append(starter)
        starter.start()

    def _act(self) -> None:
        if self._stopping.is_set():
            return
        try:
            self.images.start()
        except (OSError, ScratchError) as exc:
            log.error("image server cannot start", error=str(exc))  # noqa: TRY400  # a plain reason
            self._end()
            return
        self._sweep_scratch()
        for pool in self._workers:
            pool.start()
        self._acting.set()

    def _end(self) -> None:
        self.gave_up = True
        self._give_up()

    def _leave(self, *, release: bool) -> None:
        """Stop renewing the lease; give it back if nothing of ours acts any more."""
        self._leaving.set()
        for thread in self._threads:
            thread.join(LEAVE_SECONDS)
            release &= not thread.is_alive()
        if self._elector and release:
            self._elector.release()

    def _leads(self) -> bool:
        return self._elector.is_leader() if self._elector else self._acting.is_set()

    def _sweep_scratch(self) -> None:
        """Remove what nobody goes on with, and all of imports whose finalizer was taken off by force."""
        try:
            for uid in self._scratch.sweep(self._imports.store.index_values(_BY_UID)):
                log.info("scratch of a vanished import removed", uid=uid)
        except ScratchError as exc:
            log.warning("scratch could not be swept", error=str(exc))

    def _informers(self) -> list[SharedInformer]:
        return [self._imports, *self._sources.values(), *self._products]

    def _informer(
        self,
        name: str,
        resource: Resource,
        label_selector: str = "",
        transform: Callable[[Object], Object] | None = None,
    ) -> SharedInformer:
        list_watch = ResourceListWatch(
            self._kube,
            resource,
            namespace=self._settings.namespace or None,
            label_selector=label_selector,
        )
        return SharedInformer(
            name, list_watch, transform=transform, resync_seconds=RESYNC_SECONDS, clock=self._clock
        )

    def _wire(self) -> None:
        """Connect events to keys. Handlers only enqueue."""
        store = self._imports.store
        store.add_index(_BY_UID, lambda obj: [obj["metadata"]["uid"]])
        store.add_index(_BY_SOURCE, interest.source_keys)
        store.add_index(BY_PHASE, lambda obj: [(obj.get("status") or {}).get("phase") or Phase.PREFLIGHT])
        self._imports.add_handler(
            on_add=self._import_added,
            on_update=self._import_updated,
            on_delete=lambda obj: self._import_queue.add(object_key(obj)),
        )
        for kind, informer in self._sources.items():
            informer.add_handler(
                on_add=functools.partial(self._source_added, kind),
                on_update=functools.partial(self._source_updated, kind),
                on_delete=functools.partial(self._source_added, kind),
            )
        for informer in self._products:
            informer.add_handler(
                on_update=self._product_updated,
                on_delete=self._product_changed,
            )
        self.metrics.registry.register(
            Gauges(
                imports=store,
                sources={kind: informer.store for kind, informer in self._sources.items()},
                transfers=self._transfers,
                scratch=self._scratch,
                acts=self._acting.is_set,
                clock=self._clock,
            )
        )

    def _import_added(self, obj: Object) -> None:
        """Enqueue an import unless it rests: thousands of finished ones must not delay a start."""
        if not interest.rests(obj):
            self._import_queue.add(object_key(obj))

    def _import_updated(self, old: Object, new: Object) -> None:
        """Enqueue what somebody else changed; our own writes of status need no second look."""
        if old is new:
            self._import_added(new)
        elif interest.asks(old) != interest.asks(new):
            self._import_queue.add(object_key(new))

    def _source_added(self, kind: str, obj: Object) -> None:
        self._source_queue.add(f"{kind}/{object_key(obj)}")

    def _source_updated(self, kind: str, old: Object, new: Object) -> None:
        key = f"{kind}/{object_key(new)}"
        before, after = old.get("status") or {}, new.get("status") or {}
        edited = old["metadata"].get("generation") != new["metadata"].get("generation")
        unpinned = before.get("tlsFingerprint") and not after.get("tlsFingerprint")
        if edited or unpinned:
            self._source_queue.add(key)
        if interest.offers(old) != interest.offers(new):
            for waiting in self._imports.store.by_index(_BY_SOURCE, key.lower()):
                self._import_queue.add(object_key(waiting))

    def _product_updated(self, old: Object, new: Object) -> None:
        """Enqueue what an import waits for; how far an image is, it asks for by itself."""
        if interest.tells(old) != interest.tells(new):
            self._product_changed(new)

    def _product_changed(self, obj: Object) -> None:
        self._enqueue_uid((obj["metadata"].get("labels") or {}).get(names.LABEL_IMPORT_UID, ""))

    def _enqueue_uid(self, uid: str) -> None:
        for obj in self._imports.store.by_index(_BY_UID, uid):
            self._import_queue.add(object_key(obj))

    def _count_bytes(self, job: DiskJob, count: int) -> None:
        self.metrics.bytes_transferred.labels(kind_of(job.source_key)).inc(count)


def _reasons(*, retryable: bool) -> list[str]:
    """Return the reasons of errors of one sort, so that their counters start at 0."""
    bases = errors.StepError, ProviderError, ConversionError, KubeError
    found = errors.kinds_of(*bases)
    return sorted({kind.reason for kind in found if kind.retryable is retryable})  # type: ignore[attr-defined]
