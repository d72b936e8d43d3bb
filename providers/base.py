"""The protocol that every source speaks: what the controller may ask, and what it may rely on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from providers.model import PowerState, SourceDisk, SourceVM


class SourceKind(StrEnum):
    """The kinds of sources; the words are the kinds of our custom resources."""

    VMWARE = "VmwareSource"
    OPENSTACK = "OpenstackSource"
    OVA = "OvaSource"


@dataclass(frozen=True, slots=True)
class TLSPolicy:
    """How the source's certificates are checked.

    In order: `insecure` -> not at all. `ca_pem` -> must verify against it. `fingerprint` -> the leaf's
    SHA-256 must be this one. None of them -> system trust, and if that fails the leaf is accepted *once*
    and its fingerprint returned by `Provider.verify`, for the caller to pin (trust on first use). A CA
    comes before a fingerprint so that whoever adds one to the Secret has said all there is to say: a pin
    left over from an earlier first use no longer counts.

    Attributes:
        fingerprint: Lower-case hex SHA-256 of the DER leaf certificate, without colons.
    """

    ca_pem: str | None = None
    fingerprint: str | None = None
    insecure: bool = False


class Journal(Protocol):
    """Where a provider writes down what it holds open at its source, to outlive the process.

    A process that is killed closes nothing; its successor finds here what that was, and ends it. Entries are
    the provider's own words, may hold secrets (a session's cookie), and are durable when `add` returns. No
    method raises: a journal that fails makes crashes more expensive, and nothing else.
    """

    def inherited(self) -> Iterable[str]:
        """Return the entries of earlier processes for this source that were not removed yet."""
        ...

    def add(self, entry: str) -> None:
        """Write an entry down, before what it tells of is used."""
        ...

    def remove(self, entry: str) -> None:
        """Forget an entry: what it tells of is over. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Everything a provider needs to reach its source; `options` holds what is particular to the kind.

    `secret` is left out of `repr`, so that it cannot get into a log by accident.

    Attributes:
        options: VMware: `dc`. OpenStack: `region`, `uploadImageRetryCount`, `uploadImageRetryDelay`.
            OVA: `httpTimeoutSeconds`.
        journal: For what must not stay open at the source when the process is killed; `None` keeps nothing.
    """

    kind: SourceKind
    endpoint: str
    secret: Mapping[str, str] = field(repr=False)
    tls: TLSPolicy = TLSPolicy()
    options: Mapping[str, str] = field(default_factory=dict)
    journal: Journal | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Verified:
    """What `Provider.verify` learned.

    Attributes:
        tls_fingerprint: The leaf to pin, when it was trusted on first use; else `None`.
        message: One line for the condition: product and version.
    """

    tls_fingerprint: str | None = None
    message: str = ""


class DiskStream(Protocol):
    """The bytes of one disk, once, in order.

    Attributes:
        format: `vmdk` (streamOptimized), `raw`, `qcow2`, ...: a word of `converters.formats.DiskFormat`.
        length: Number of bytes to come, when the source tells.
        checksum: `(algorithm, hex digest)` of these bytes, when the source tells.
    """

    @property
    def format(self) -> str:
        """See the class."""
        ...

    @property
    def length(self) -> int | None:
        """See the class."""
        ...

    @property
    def checksum(self) -> tuple[str, str] | None:
        """See the class."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes as they arrive; a view is valid until the next step.

        Raises:
            providers.errors.TransferInterrupted: the bytes ended early, or none came for the idle time.
        """
        ...

    def report(self, fraction: float) -> None:
        """Tell the source how far the reader is (0..1); cheap, may be called at any rate."""
        ...

    def close(self) -> None:
        """End the stream; idempotent, callable from another thread, makes a blocked `chunks` end soon."""
        ...


class Provider(Protocol):
    """One source, connected lazily, usable from many threads at once.

    Every method raises only `providers.errors.ProviderError`s, and no call blocks longer than its network
    timeout (30 s unless said otherwise): waiting for a state is the caller's business.
    """

    @property
    def cuts_power(self) -> bool:
        """Whether `power_off` is harder than `request_shutdown`.

        Where it is not, the source has one way to stop a VM, and both ask for it: the source asks the guest,
        and switches the VM off itself when that takes too long. Constant.
        """
        ...

    def verify(self) -> Verified:
        """Log in and check that the source is what the spec says. No side effects at the source."""
        ...

    def inspect(self, name: str, folder: str = "") -> SourceVM:
        """Describe the VM that `name` (or an identifier of the provider) means. No side effects."""
        ...

    def power_state(self, vm: SourceVM) -> PowerState:
        """Return the power state now."""
        ...

    def request_shutdown(self, vm: SourceVM) -> None:
        """Have the guest asked to shut down; returns at once.

        Raises:
            GuestToolsNotRunning: the guest cannot be asked.
        """
        ...

    def power_off(self, vm: SourceVM) -> None:
        """Switch the VM off, hard where the source can (see `cuts_power`). Already off is success."""
        ...

    def power_on(self, vm: SourceVM) -> None:
        """Switch the VM on. Already on is success."""
        ...

    def open_disk(self, vm: SourceVM, disk: SourceDisk, export_id: str) -> DiskStream:
        """Start reading one disk of a VM that is off. Disks of one VM may be read at the same time.

        A source that has to prepare a disk first does one step of that, or looks how far it is, and raises.
        What it makes for that bears `export_id`, and the next call goes on from there, in this process or
        another.

        Args:
            vm: The VM.
            disk: One of its disks.
            export_id: Names the import and its run, uniquely for ever: letters, digits and `-`, at most 64.

        Raises:
            DiskNotReady: the disk is being prepared; ask again.
        """
        ...

    def discard_export(self, vm: SourceVM, export_id: str, *, complete: bool) -> None:
        """Give back whatever the export holds at the source (leases, snapshots, images); idempotent.

        What bears `export_id` is found at the source, whichever process has made it.

        Args:
            vm: The VM whose export ends.
            export_id: As for `open_disk`.
            complete: True when every disk was read, False when the export is given up.

        Raises:
            DiscardNotDone: the source is still removing something; to be called again.
        """
        ...

    def close(self) -> None:
        """Log out and drop connections. Idempotent."""
        ...
