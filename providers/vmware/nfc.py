"""What an export lease says about its files: which URL is which disk, and where it really is. Pure.

Source of the forms: the API reference of `HttpNfcLeaseDeviceUrl`, and what vCenter 6.5-8 and ESXi send.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from providers import tls
from providers.errors import ExportFailed
from providers.vmware.endpoint import DEFAULT_PORT, Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

# `/vm-70/ParaVirtualSCSIController0:1`: class of the controller, its bus number, the unit on it.
_DEVICE_KEY = re.compile(r"/(?P<controller>[A-Za-z]+)(?P<bus>[0-9]+):(?P<unit>[0-9]+)$")
_KINDS = (("IDE", "ide"), ("AHCI", "sata"), ("SATA", "sata"), ("NVME", "nvme"), ("USB", "usb"), ("", "scsi"))


@dataclass(frozen=True, slots=True)
class DiskURL:
    """Where one disk can be read.

    Attributes:
        target: Path and query, as a request line has them. Holds the ticket: a secret while the lease lives.
        at_endpoint: Whether the host is the endpoint itself, whose certificate is known already.
        fingerprint: Of the leaf that the host shows, as the trusted endpoint tells; `None` when it does not.
    """

    host: str
    port: int
    target: str
    at_endpoint: bool
    fingerprint: str | None = None

    def __repr__(self) -> str:
        """Say where, not the ticket."""
        return f"DiskURL(https://{self.host}:{self.port}/...)"


def disk_urls(device_urls: Iterable[Any], endpoint: Endpoint) -> dict[str, DiskURL]:
    """Return the URL of every disk by the key that `SourceDisk.key` has (`scsi0:1`).

    Entries that are no disks (`nvram`, an inserted ISO) are left out.

    Raises:
        ExportFailed: a URL is none, or not HTTPS.
    """
    return {
        key: _resolve(entry, endpoint)
        for entry in device_urls
        if entry.disk is not False and (key := disk_key(entry.key) or disk_key(entry.importKey))
    }


def disk_keys(device_urls: Iterable[Any]) -> frozenset[str]:
    """Return the keys of the entries that are said to be disks, and not only might be."""
    keys = (disk_key(entry.key) or disk_key(entry.importKey) for entry in device_urls if entry.disk)
    return frozenset(key for key in keys if key)


def disk_key(device_key: str | None) -> str | None:
    """Return `scsi0:1` for `/vm-70/ParaVirtualSCSIController0:1`; `None` when it is no place of a disk."""
    match = _DEVICE_KEY.search(device_key or "")
    if match is None:
        return None
    controller = match["controller"].upper()
    kind = next(kind for part, kind in _KINDS if part in controller)
    return f"{kind}{int(match['bus'])}:{int(match['unit'])}"


def _resolve(entry: Any, endpoint: Endpoint) -> DiskURL:
    try:
        url = urlsplit(entry.url)
        # A lone ESXi host does not know by which name it was called, and writes `*`.
        if url.hostname == "*":
            host, port = endpoint.host, endpoint.port
        else:
            host, port = url.hostname or "", url.port or DEFAULT_PORT
    except ValueError as exc:
        raise ExportFailed(f"the export's URL of {entry.key} is not a URL") from exc
    if url.scheme != "https" or not host:
        raise ExportFailed(f"the export's URL of {entry.key} is not an https URL")
    return DiskURL(
        host=host,
        port=port,
        target=f"{url.path}?{url.query}" if url.query else url.path,
        at_endpoint=(host.lower(), port) == (endpoint.host.lower(), endpoint.port),
        fingerprint=_fingerprint(entry),
    )


def _fingerprint(entry: Any) -> str | None:
    if entry.sslCertificate:
        try:
            return tls.fingerprint_of(ssl.PEM_cert_to_DER_cert(entry.sslCertificate.strip() + "\n"))
        except ValueError as exc:
            raise ExportFailed(f"the export's certificate for {entry.key} is not PEM") from exc
    return tls.normalize_fingerprint(entry.sslThumbprint) if entry.sslThumbprint else None
