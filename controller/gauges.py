"""Figures that are true only at the moment of a scrape: of the stores, the transfers, the scratch volume.

What may not live here: anything that counts as it happens (see `metrics`), and decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller import interest
from controller.api import conditions
from controller.api.phase import TERMINAL, Phase
from controller.metrics import PREFIX
from controller.runtime.clock import Clock
from controller.runtime.store import Store
from controller.scratch import Scratch, ScratchError
from controller.transfers import TransferPool

BY_PHASE: Final = "phase"
"""Name of the index, over the imports' store, that the figures are read from."""

_UNDER_WAY: Final = tuple(phase for phase in Phase if phase not in TERMINAL)


@dataclass(frozen=True, slots=True, eq=False)  # a registry wants its collectors hashable
class Gauges(Collector):
    """Answers a scrape from what is in memory, and from two numbers of the file system.

    Attributes:
        imports: The informer's store of VirtualMachineImports, indexed by `BY_PHASE`.
        sources: The informers' stores of sources, by kind.
        transfers: The pool that reads disks.
        scratch: The volume that it writes to.
        acts: Whether this replica is the one that acts: a standby knows the imports as well, and a sum over
            both would count them twice.
        clock: For ages.
    """

    imports: Store
    sources: Mapping[str, Store]
    transfers: TransferPool
    scratch: Scratch
    acts: Callable[[], bool]
    clock: Clock

    def collect(self) -> Iterator[Metric]:
        """Yield all families; on a replica that does not act, those of imports and sources are all 0."""
        acts = self.acts()
        yield self._phases(acts=acts)
        yield self._longest(acts=acts)
        yield self._reasons(acts=acts)
        yield self._ready(acts=acts)
        yield self._transfers()
        yield self._rates()
        yield from self._scratch()

    def _phases(self, *, acts: bool) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}_imports", "Imports by phase.", labels=["phase"])
        for phase in Phase:
            family.add_metric([phase.value], self.imports.count(BY_PHASE, phase.value) if acts else 0)
        return family

    def _longest(self, *, acts: bool) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}_longest_in_phase_seconds",
            "How long the import that has been longest in a phase is in it, without phases that are ends.",
            labels=["phase"],
        )
        now = self.clock.now()
        for phase in _UNDER_WAY:
            found = self.imports.by_index(BY_PHASE, phase.value) if acts else []
            since = [obj["status"]["phaseStartTime"] for obj in found if obj["status"].get("phaseStartTime")]
            oldest = min(since, default="")  # the form of Kubernetes' times sorts as they do
            age = (now - conditions.parse_timestamp(oldest)).total_seconds() if oldest else 0.0
            family.add_metric([phase.value], max(0.0, age))
        return family

    def _reasons(self, *, acts: bool) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}_imports_under_way",
            "Imports that are not over, by the reason that their condition Succeeded gives.",
            labels=["reason"],
        )
        reasons: Counter[str] = Counter()
        for phase in _UNDER_WAY if acts else ():
            for obj in self.imports.by_index(BY_PHASE, phase.value):
                reasons[obj["status"].get(interest.REASON) or "New"] += 1
        for reason, number in sorted(reasons.items()):
            family.add_metric([reason], number)
        return family

    def _ready(self, *, acts: bool) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}_sources",
            "Sources by kind and by whether they can be used.",
            labels=["source_kind", "ready"],
        )
        for kind, store in self.sources.items():
            words: Counter[bool] = Counter()
            for obj in store.list() if acts else ():
                words[(obj.get("status") or {}).get("status") == "clusterReady"] += 1
            family.add_metric([kind, "true"], words[True])
            family.add_metric([kind, "false"], words[False])
        return family

    def _transfers(self) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}_transfers", "Disks in the transfer pool, by their state.", labels=["state"]
        )
        for state, number in self.transfers.counts().items():
            family.add_metric([state], number)
        return family

    def _rates(self) -> Metric:
        family = GaugeMetricFamily(
            f"{PREFIX}_transfer_bytes_per_second",
            "Bytes of virtual disks per second being read from sources.",
            labels=["source_kind"],
        )
        rates: Counter[str] = Counter()
        for key, rate in self.transfers.rates().items():
            rates[kind_of(key)] += rate
        for kind in self.sources:
            family.add_metric([kind], rates[kind])
        return family

    def _scratch(self) -> Iterator[Metric]:
        try:
            free, size = self.scratch.free_bytes(), self.scratch.size_bytes()
        except ScratchError:
            return  # readiness says so; a number would be a lie
        yield GaugeMetricFamily(
            f"{PREFIX}_scratch_free_bytes",
            "Bytes that can still be written to the scratch volume.",
            value=free,
        )
        yield GaugeMetricFamily(f"{PREFIX}_scratch_size_bytes", "Size of the scratch volume.", value=size)


def kind_of(source_key: str) -> str:
    """Return the kind of a source, of its key `Kind/namespace/name`."""
    return source_key.partition("/")[0]
