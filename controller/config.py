"""Settings of the controller, from flags and environment; what each means stands in its field's comment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator can set.

    Attributes:
        kubeconfig: Path of a kubeconfig; empty means in-cluster, then `~/.kube/config`.
        namespace: Watch only this namespace; empty means all.
        scratch: Directory for the raw images on their way.
        image_address: Address under which Harvester reaches our image server: a host, or `host:port`.
        image_host: Address that the image server listens on.
        image_port: Port of the image server; 0 picks a free one.
        metrics_host: Address that metrics and health listen on.
        metrics_port: Port of metrics and health; 0 picks a free one.
        workers: Imports that are worked on at the same time.
        max_transfers: Disks that are read at the same time, over all sources.
        max_transfers_per_source: The same for one source, where its `maxConcurrentTransfers` says nothing.
        progress_seconds: How often progress is written into status at most.
        allow_cross_namespace: Let objects use Secrets and sources of other namespaces without their consent.
        leader_elect: Act only while holding the lease; else act at once, as the only replica.
        leader_election_namespace: Where the lease is; empty means the pod's own, then `harvester-system`.
        lease_duration: Seconds that a standby waits for a sign of life of the leader.
        renew_deadline: Seconds after its last sign of life in which a leader still acts.
        retry_period: Seconds between attempts to get or renew the lease.
        debug: Log more.
    """

    kubeconfig: str = ""
    namespace: str = ""
    scratch: Path = Path("/tmp/vm-import-controller")  # noqa: S108  # the old controller's place, kept
    image_address: str = "harvester-vm-import-controller.harvester-system.svc"
    image_host: str = "0.0.0.0"  # noqa: S104  # a pod's port, guarded by secret URLs and NetworkPolicy
    image_port: int = 8080
    metrics_host: str = "0.0.0.0"  # noqa: S104  # as above
    metrics_port: int = 9090
    workers: int = 8
    max_transfers: int = 8
    max_transfers_per_source: int = 4
    progress_seconds: float = 10.0
    allow_cross_namespace: bool = False
    leader_elect: bool = True
    leader_election_namespace: str = ""
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    debug: bool = False

    @classmethod
    def from_arguments(cls, argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Self:
        """Read flags, then environment, then defaults. `SVC_ADDRESS` and `DEBUG` are the old names.

        Raises:
            SystemExit: a flag is unknown or malformed; argparse has told the user.
        """
        default = cls()
        parser = argparse.ArgumentParser(
            prog="vm-import-controller",
            description="Imports virtual machines from VMware, OpenStack and OVA files into Harvester.",
        )
        parser.add_argument("--kubeconfig", default=environ.get("KUBECONFIG", default.kubeconfig))
        parser.add_argument("--namespace", default=environ.get("WATCH_NAMESPACE", default.namespace))
        parser.add_argument(
            "--scratch", type=Path, default=Path(environ.get("SCRATCH_DIR", str(default.scratch)))
        )
        parser.add_argument("--image-address", default=environ.get("SVC_ADDRESS", default.image_address))
        parser.add_argument("--image-host", default=default.image_host)
        parser.add_argument("--image-port", type=int, default=default.image_port)
        parser.add_argument("--metrics-host", default=default.metrics_host)
        parser.add_argument("--metrics-port", type=int, default=default.metrics_port)
        parser.add_argument("--workers", type=int, default=default.workers)
        parser.add_argument("--max-transfers", type=int, default=default.max_transfers)
        parser.add_argument("--max-transfers-per-source", type=int, default=default.max_transfers_per_source)
        parser.add_argument("--progress-seconds", type=float, default=default.progress_seconds)
        parser.add_argument("--allow-cross-namespace-references", action="store_true")
        # Names and defaults of the times are those of Kubernetes' own components.
        parser.add_argument(
            "--leader-elect", type=_boolean, nargs="?", const=True, default=default.leader_elect
        )
        parser.add_argument("--leader-election-namespace", default=default.leader_election_namespace)
        parser.add_argument("--leader-elect-lease-duration", type=float, default=default.lease_duration)
        parser.add_argument("--leader-elect-renew-deadline", type=float, default=default.renew_deadline)
        parser.add_argument("--leader-elect-retry-period", type=float, default=default.retry_period)
        parser.add_argument("--debug", action="store_true", default=_is_set(environ.get("DEBUG")))
        flags = parser.parse_args(argv)
        for name in ("workers", "max_transfers", "max_transfers_per_source"):
            if getattr(flags, name) < 1:
                parser.error(f"--{name.replace('_', '-')} must be at least 1")
        if not flags.progress_seconds >= 1:
            parser.error("--progress-seconds must be at least 1: every write is a write to etcd")
        times = (
            flags.leader_elect_retry_period,
            flags.leader_elect_renew_deadline,
            flags.leader_elect_lease_duration,
        )
        if not 0 < times[0] < times[1] < times[2]:
            parser.error(
                "--leader-elect-retry-period must be positive and less than --leader-elect-renew-deadline, "
                "and that less than --leader-elect-lease-duration"
            )
        return cls(
            kubeconfig=flags.kubeconfig,
            namespace=flags.namespace,
            scratch=flags.scratch,
            image_address=flags.image_address,
            image_host=flags.image_host,
            image_port=flags.image_port,
            metrics_host=flags.metrics_host,
            metrics_port=flags.metrics_port,
            workers=flags.workers,
            max_transfers=flags.max_transfers,
            max_transfers_per_source=flags.max_transfers_per_source,
            progress_seconds=flags.progress_seconds,
            allow_cross_namespace=flags.allow_cross_namespace_references,
            leader_elect=flags.leader_elect,
            leader_election_namespace=flags.leader_election_namespace,
            lease_duration=flags.leader_elect_lease_duration,
            renew_deadline=flags.leader_elect_renew_deadline,
            retry_period=flags.leader_elect_retry_period,
            debug=flags.debug,
        )

    def image_url(self, path: str, bound_port: int) -> str:
        """Return the URL under which Harvester fetches `path` from the image server."""
        address = self.image_address
        return f"http://{address if ':' in address else f'{address}:{bound_port}'}{path}"


def _boolean(word: str) -> bool:
    """Return the value of `--flag=true` or `--flag=false`, as Kubernetes' own programs write it."""
    if word.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() == "true"


def _is_set(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on"}
