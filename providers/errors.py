"""What can go wrong at a source, as types with a reason.

Every error has `reason` (CamelCase, part of the API: it stands in conditions) and `retryable`. The
converters' errors have the same shape and no common base: the two packages do not know each other. A
library's own exception never leaves the folder of its provider: it is raised again as one of these, `from`
the original. Messages name what is wrong and never contain a secret.
"""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """Base of all errors of a source.

    Attributes:
        reason: CamelCase word for conditions and Events.
        retryable: Whether the same call may succeed later without anybody changing a spec.
    """

    reason: ClassVar[str] = "SourceError"
    retryable: ClassVar[bool] = True


class Unreachable(ProviderError):
    """Surfaces when no connection can be made, or one breaks and short retries did not help."""

    reason = "Unreachable"


class AuthenticationFailed(ProviderError):
    """Surfaces when the source refuses the credentials. Retried slowly: accounts lock."""

    reason = "AuthenticationFailed"


class PermissionDenied(ProviderError):
    """Surfaces when the account may not do what the import needs; the message names the privilege."""

    reason = "PermissionDenied"


class SecretIncomplete(ProviderError):
    """Surfaces when the Secret lacks a key; the message names it."""

    reason = "SecretIncomplete"


class InvalidEndpoint(ProviderError):
    """Surfaces when the endpoint cannot be understood as a URL of this kind of source."""

    reason = "InvalidEndpoint"
    retryable = False


class CertificateNotTrusted(ProviderError):
    """Surfaces when the CA in the Secret did not sign the certificate, or it belongs to another name."""

    reason = "CertificateNotTrusted"


class CertificateChanged(ProviderError):
    """Surfaces when the certificate is not the one pinned in `status.tlsFingerprint`."""

    reason = "CertificateChanged"


class DatacenterNotFound(ProviderError):
    """Surfaces when `spec.dc` names no datacenter; the message lists those that exist."""

    reason = "DatacenterNotFound"


class SourceVMNotFound(ProviderError):
    """Surfaces when no VM has the name (the message lists similar ones), or it is another VM's by now."""

    reason = "SourceVMNotFound"
    retryable = False


class SourceVMNotUnique(ProviderError):
    """Surfaces when several VMs have the name; the message lists them by an identifier that is unique."""

    reason = "SourceVMNotUnique"
    retryable = False


class GuestToolsNotRunning(ProviderError):
    """Surfaces when the guest cannot be asked to shut down."""

    reason = "GuestToolsNotRunning"


class SourceBusy(ProviderError):
    """Surfaces when another task, export or question holds the VM; it goes by itself or by an operator."""

    reason = "SourceBusy"


class InvalidPowerState(ProviderError):
    """Surfaces when a call needs the VM off (or on) and it is not: somebody switched it meanwhile."""

    reason = "InvalidPowerState"


class ExportFailed(ProviderError):
    """Surfaces when the source reports that an export failed; the message carries its own words."""

    reason = "ExportFailed"


class UnsupportedDisk(ProviderError):
    """Surfaces when the source offers a disk in no form that can be read."""

    reason = "UnsupportedDisk"
    retryable = False


class TransferInterrupted(ProviderError):
    """Surfaces when the bytes of a disk stop coming: cut, stalled or refused. The disk is read again."""

    reason = "TransferInterrupted"


class RegionNotFound(ProviderError):
    """Surfaces when the cloud has no such region; the message lists those that exist."""

    reason = "RegionNotFound"


class ServiceMissing(ProviderError):
    """Surfaces when the cloud lacks a service that an import needs; the message names it."""

    reason = "ServiceMissing"


class QuotaExceeded(ProviderError):
    """Surfaces when the source refuses to make what an export needs, for want of quota; in its own words."""

    reason = "SourceQuotaExceeded"


class ExportTimedOut(ProviderError):
    """Surfaces when the source prepares a disk for longer than the source object allows."""

    reason = "ExportTimedOut"
    retryable = False


class NotYet(ProviderError):
    """Base of what is no failure: the source works on it, and the same call will succeed later.

    Attributes:
        retry_after: Seconds after which to ask again.
    """

    retry_after: float = 2.0

    def __init__(self, message: str, retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DiskNotReady(NotYet):
    """Surfaces while the source prepares a disk for reading; the message says what it does."""

    reason = "PreparingDisk"


class DiscardNotDone(NotYet):
    """Surfaces while the source removes what an export has made there; the message says what is left."""

    reason = "DiscardingExport"


class DigestMismatch(TransferInterrupted):
    """Surfaces when a disk's file came with other bytes than its source says. It is read again at once."""

    reason = "ChecksumMismatch"


class SourceCorrupt(ProviderError):
    """Surfaces when a file had the same wrong bytes twice: it is wrong at the source, not on the way."""

    reason = "ChecksumMismatch"
    retryable = False


class SourceChanged(ProviderError):
    """Surfaces when a file, or the VM's disks, are others than when it was described: import it anew."""

    reason = "SourceChanged"
    retryable = False


class SourceFileNotFound(ProviderError):
    """Surfaces when there is nothing at the URL (yet)."""

    reason = "FileNotFound"


class RedirectRefused(ProviderError):
    """Surfaces when a server sends us to where we do not go: out of HTTPS, to another scheme, in circles."""

    reason = "RedirectRefused"


class ArchiveInvalid(ProviderError):
    """Surfaces when an OVA is no tar archive with a descriptor, or contradicts itself."""

    reason = "ArchiveInvalid"
    retryable = False


class DescriptorInvalid(ProviderError):
    """Surfaces when an OVF descriptor cannot be understood as one; the message names the place."""

    reason = "DescriptorInvalid"
    retryable = False


class ManifestInvalid(ProviderError):
    """Surfaces when the manifest of an OVA is none; the message names the line."""

    reason = "ManifestInvalid"
    retryable = False
