"""The export of one VM: a lease that all its disks share, and the streams that are open on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from providers import tls
from providers.errors import (
    CertificateChanged,
    CertificateNotTrusted,
    ExportFailed,
    SourceChanged,
    TransferInterrupted,
)
from providers.vmware import identity
from providers.vmware.lease import Lease
from providers.vmware.stream import NfcDiskStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from providers.base import TLSPolicy
    from providers.model import SourceDisk, SourceVM
    from providers.vmware.nfc import DiskURL
    from providers.vmware.session import Session


class ExportSession:
    """Opens the lease with the first disk and keeps it for the others; opens a new one when it died.

    Promises: never two leases of one VM at once; a disk can be opened again without disturbing the others;
    after `discard` no lease is held and every stream has ended, also those that were just being opened.
    """

    def __init__(self, session: Session, policy: TLSPolicy, vm: SourceVM) -> None:
        self._session = session
        self._policy = policy
        self._vm = vm
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._streams: set[NfcDiskStream] = set()
        self._fractions: dict[str, float] = {}
        self._discarded = threading.Event()

    @property
    def discarded(self) -> bool:
        """Whether `discard` was called, be it without success: then no disk can be opened any more."""
        return self._discarded.is_set()

    def open_disk(self, disk: SourceDisk) -> NfcDiskStream:
        """Start reading one disk.

        Raises:
            ExportFailed: the lease offers no such disk.
            SourceChanged: it offers disks that the description of the VM lacks.
            TransferInterrupted: refused, or the export was discarded meanwhile.
            CertificateNotTrusted: the host that holds the disk shows a certificate that nothing vouches for.
            ProviderError: as `Lease.open` raises.
        """
        with self._lock:
            if self._discarded.is_set():
                raise TransferInterrupted("the export was given up")
            lease = self._living_lease()
            url = lease.urls.get(disk.key)
            if url is None:
                offered = ", ".join(sorted(lease.urls)) or "none"
                raise ExportFailed(f"the export holds no disk {disk.key} ({disk.name}); it holds {offered}")
        stream = self._connect(url, f"disk {disk.key} ({disk.name})", disk)
        with self._lock:
            if self._discarded.is_set():
                stream.close()
                raise TransferInterrupted("the export was given up")
            self._streams = {each for each in self._streams if not each.closed} | {stream}
        stream.request(url.target, self._session.cookie if url.at_endpoint else None)
        return stream

    def discard(self, *, complete: bool) -> None:
        """End all streams and give the lease back; idempotent, and to be repeated when it raises."""
        self._discarded.set()
        with self._lock:
            for stream in self._streams:
                stream.close()
            self._streams.clear()
            if self._lease is not None:
                self._lease.end(complete=complete)
                self._lease = None

    def _living_lease(self) -> Lease:
        if self._lease is None or not self._lease.alive():
            if self._lease is not None:
                self._lease.end(complete=False)
                self._lease = None
            identity.read(self._session, "export the VM", self._vm)
            lease = Lease.open(self._session, self._vm.id, self._discarded)
            unknown = sorted(lease.disks - {disk.key for disk in self._vm.disks})
            if unknown:
                lease.end(complete=False)
                raise SourceChanged(
                    f"the VM has disks that it did not have when its import began: {', '.join(unknown)}; "
                    "start the import again"
                )
            self._lease = lease
        return self._lease

    def _connect(self, url: DiskURL, what: str, disk: SourceDisk) -> NfcDiskStream:
        """Try what may vouch for the host one after the other; each in a connection of its own."""
        refusals = []
        for context in self._contexts(url):
            try:
                return NfcDiskStream.connect(
                    what, url, context, lambda fraction: self._progress(disk, fraction)
                )
            except (CertificateChanged, CertificateNotTrusted) as exc:
                if url.at_endpoint:
                    raise
                refusals.append(str(exc))
        raise CertificateNotTrusted(f"{what} on host {url.host}: {'; '.join(refusals)}")

    def _contexts(self, url: DiskURL) -> Iterator[ssl.SSLContext]:
        """Yield the checks of which one must pass.

        The endpoint itself is held to what it was held to at login. Another host (an ESXi host has a name
        and a certificate of its own) is trusted when the endpoint, over its trusted channel, told its
        fingerprint; else, or when that is outdated, when it shows the pinned certificate (the endpoint under
        another of its names), or by the CA of the policy or of the system.
        """
        known = self._session.trust.context
        if url.at_endpoint or self._policy.insecure:
            yield known
            return
        if url.fingerprint:
            yield tls.PinnedContext.of(url.fingerprint)
        if isinstance(known, tls.PinnedContext):
            yield known
        yield tls.verifying_context(self._policy.ca_pem)

    def _progress(self, disk: SourceDisk, fraction: float) -> None:
        self._fractions[disk.key] = max(0.0, min(fraction, 1.0))
        total = sum(each.size_bytes for each in self._vm.disks) or 1
        read = sum(each.size_bytes * self._fractions.get(each.key, 0.0) for each in self._vm.disks)
        lease = self._lease
        if lease is not None:
            lease.progress(int(100 * read / total))
