"""Typed, read-only views of our custom resources, made from the API server's unstructured objects.

`VirtualMachineImport.status` stays the stored mapping: `controller.reconcile.status` alone makes the next
one, and every field that this version does not know survives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from controller.api.phase import Phase

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an object, its namespace already resolved against the referrer's."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `namespace/name`, as people write it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NetworkMapping:
    """One entry of `spec.networkMapping`; an empty model means unset (the Harvester UI writes `""`)."""

    source: str
    destination: str
    model: str | None


@dataclass(frozen=True, slots=True)
class DiskMapping:
    """One entry of `spec.diskMapping`."""

    source_disk: str
    storage_class: str | None
    bus: str | None
    skip: bool


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """`spec` of a VirtualMachineImport, defaults filled in."""

    source_kind: str
    source: Reference
    vm_name: str
    folder: str = ""
    networks: tuple[NetworkMapping, ...] = ()
    disks: tuple[DiskMapping, ...] = ()
    default_nic_model: str | None = None
    default_bus: str | None = None
    storage_class: str | None = None
    force_power_off: bool = False
    graceful_timeout_seconds: float = 60.0
    skip_preflight: bool = False
    target_name: str | None = None
    run_strategy: str = "RerunOnFailure"
    restore_source_power: bool = True
    override_cpu_cores: int | None = None
    override_memory: str | None = None

    @classmethod
    def from_object(cls, spec: Object, namespace: str) -> Self:
        """Read `spec` of an import in `namespace`; absent, null and `""` all mean the default."""
        source = spec.get("sourceCluster") or {}
        overrides = spec.get("overrides") or {}
        graceful = spec.get("gracefulShutdownTimeoutSeconds")
        restore = (spec.get("onFailure") or {}).get("restoreSourcePower")
        return cls(
            source_kind=source.get("kind") or "",
            source=Reference(source.get("namespace") or namespace, source.get("name") or ""),
            vm_name=spec.get("virtualMachineName") or "",
            folder=spec.get("folder") or "",
            networks=tuple(
                NetworkMapping(
                    entry.get("sourceNetwork") or "",
                    entry.get("destinationNetwork") or "",
                    entry.get("networkInterfaceModel") or None,
                )
                for entry in spec.get("networkMapping") or ()
            ),
            disks=tuple(
                DiskMapping(
                    entry.get("sourceDisk") or "",
                    entry.get("storageClass") or None,
                    entry.get("bus") or None,
                    bool(entry.get("skip")),
                )
                for entry in spec.get("diskMapping") or ()
            ),
            default_nic_model=spec.get("defaultNetworkInterfaceModel") or None,
            default_bus=spec.get("defaultDiskBusType") or None,
            storage_class=spec.get("storageClass") or None,
            force_power_off=bool(spec.get("forcePowerOff")),
            graceful_timeout_seconds=60.0 if graceful is None else float(graceful),
            skip_preflight=bool(spec.get("skipPreflightChecks")),
            target_name=spec.get("targetName") or None,
            run_strategy=spec.get("targetRunStrategy") or "RerunOnFailure",
            restore_source_power=True if restore is None else bool(restore),
            override_cpu_cores=overrides.get("cpuCores"),
            override_memory=overrides.get("memory") or None,
        )


@dataclass(frozen=True, slots=True)
class VirtualMachineImport:
    """A VirtualMachineImport as it was read from the API server."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    spec: ImportSpec
    raw_spec: Object = field(repr=False)
    status: Object = field(repr=False)
    raw: Object = field(repr=False)

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read an object of the API server."""
        meta = obj["metadata"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation") or 0),
            deleting=bool(meta.get("deletionTimestamp")),
            finalizers=tuple(meta.get("finalizers") or ()),
            spec=ImportSpec.from_object(obj.get("spec") or {}, meta["namespace"]),
            raw_spec=obj.get("spec") or {},
            status=obj.get("status") or {},
            raw=obj,
        )

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def phase(self) -> Phase | None:
        """The stored phase; `None` before the first pass, and for an object of the old controller."""
        value = self.status.get("phase")
        return Phase(value) if isinstance(value, str) and value in set(Phase) else None

    @property
    def wanted(self) -> dict[str, str]:
        """What the spec asks to be read, in the form of `status.source`."""
        spec = self.spec
        return {
            "kind": spec.source_kind,
            "namespace": spec.source.namespace,
            "name": spec.source.name,
            "virtualMachineName": spec.vm_name,
            "folder": spec.folder,
        }

    @property
    def reads(self) -> dict[str, str]:
        """What this run reads: `status.source`, and the spec as long as that is not written.

        An identifier such as `vm-123` means another machine at another source, so that an edit of the spec in
        the middle of a run must not turn it to another source.
        """
        return {**self.wanted, **(self.status.get("source") or {})}

    @property
    def run(self) -> str:
        """Identifier of this run of the import; all that a run makes carries it."""
        return str(self.status.get("runID") or "")

    @property
    def export_id(self) -> str:
        """What marks all that this run makes at its source."""
        return f"{self.uid}-{self.run}"

    @property
    def target_name(self) -> str:
        """Name of the VM that is made, decided in Preflight."""
        return str(self.status.get("importedVirtualMachineName") or "")

    @property
    def disks(self) -> list[dict[str, Any]]:
        """`status.diskImportStatus`, one entry per disk that is imported, in the order of the source."""
        return [dict(entry) for entry in self.status.get("diskImportStatus") or ()]


@dataclass(frozen=True, slots=True)
class Source:
    """A VmwareSource, OpenstackSource or OvaSource as it was read from the API server."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    endpoint: str
    credentials: Reference | None
    insecure: bool
    max_transfers: int | None
    max_bytes_per_second: int | None
    options: Mapping[str, str]
    tls_fingerprint: str | None
    status: Object = field(repr=False)
    raw: Object = field(repr=False)

    @classmethod
    def from_object(cls, obj: Object) -> Self:
        """Read an object of the API server; `kind` must be set on it."""
        meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
        reference = spec.get("credentials") or {}
        option_names = (
            "dc",
            "region",
            "uploadImageRetryCount",
            "uploadImageRetryDelay",
            "httpTimeoutSeconds",
        )
        return cls(
            kind=obj["kind"],
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation") or 0),
            endpoint=spec.get("endpoint") or spec.get("url") or "",
            credentials=(
                Reference(reference.get("namespace") or meta["namespace"], reference["name"])
                if reference.get("name")
                else None
            ),
            insecure=bool(spec.get("insecureSkipTLSVerify")),
            max_transfers=spec.get("maxConcurrentTransfers"),
            max_bytes_per_second=spec.get("maxBytesPerSecond"),
            options={name: str(spec[name]) for name in option_names if spec.get(name) not in (None, "")},
            tls_fingerprint=status.get("tlsFingerprint") or None,
            status=status,
            raw=obj,
        )

    @property
    def key(self) -> str:
        """`Kind/namespace/name`."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def ready(self) -> bool:
        """Whether the source was verified for the spec that is stored now."""
        return (
            self.status.get("status") == "clusterReady"
            and self.status.get("observedGeneration", self.generation) == self.generation
        )
