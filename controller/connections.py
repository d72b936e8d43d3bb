"""Live connections to sources: one per source, shared by all imports that use it.

A connection is made from the source's spec and its Secret, read live, and replaced when either changes. An
import that already uses a connection keeps it until it is released, or until it refuses: rotating a password
must not cut off the export that runs on a session which is still good.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from controller import kinds
from controller.api import names
from controller.api.types import Reference, Source
from controller.errors import ReferenceNotPermitted, SecretNotFound, SourceNotFound
from controller.fence import Guard, GuardedProvider
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.patience import PatientProvider
from controller.runtime.clock import Clock, SystemClock
from controller.scratch import Scratch, ScratchError
from providers import registry
from providers.base import Provider, SourceConfig, SourceKind, TLSPolicy
from providers.errors import (
    AuthenticationFailed,
    CertificateChanged,
    CertificateNotTrusted,
    ProviderError,
    SecretIncomplete,
    Unreachable,
)

log = structlog.get_logger(__name__)

_LETS_NOBODY_IN: Final = (AuthenticationFailed, CertificateChanged, CertificateNotTrusted)

CA_KEYS: Final = {"VmwareSource": "caCert", "OpenstackSource": "ca_cert", "OvaSource": "ca.crt"}
"""Key of the CA certificate (PEM) in the Secret, by kind of source."""


@dataclass(slots=True)
class _Connection:
    """A provider, what it was made from, and who uses it."""

    identity: str
    provider: Provider
    users: set[str] = field(default_factory=set)


class Connections:
    """Finds sources and their Secrets, and keeps a provider for each source. Safe for many threads.

    Errors are those of `controller.errors`, `controller.kube.errors` and `providers.errors`.
    """

    def __init__(
        self,
        kube: KubeClient,
        *,
        allow_cross_namespace: bool,
        scratch: Scratch | None = None,
        guard: Guard | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            kube: Where sources and Secrets are.
            allow_cross_namespace: Do without the consent of those in other namespaces.
            scratch: Where it is noted what is open at sources, so that the next process can end it.
            guard: Called before every deed at a source; see `controller.fence`.
            clock: Says how long a source that does not answer is spared; see `controller.patience`.
        """
        self._kube = kube
        self._scratch = scratch
        self._guard = guard
        self._clock = clock or SystemClock()
        self._allow_cross_namespace = allow_cross_namespace
        self._lock = threading.Lock()
        self._current: dict[str, _Connection] = {}
        self._retired: dict[str, list[_Connection]] = {}
        self._doubted: set[str] = set()  # keys of sources

    def source(self, kind_word: str, reference: Reference, referrer_namespace: str) -> Source:
        """Return the source that an import means, read live.

        Raises:
            SourceNotFound: there is no such kind, or no such object (yet).
            ReferenceNotPermitted: it is in another namespace and does not consent.
        """
        kind = kinds.source_kind(kind_word)
        if kind is None:
            raise SourceNotFound(f"there is no kind of source called {kind_word!r}")
        try:
            obj = self._kube.get(kinds.SOURCES[kind], reference.name, reference.namespace)
        except NotFound as exc:
            raise SourceNotFound(f"{kind} {reference} does not exist") from exc
        self._check_consent(obj, kind, reference, referrer_namespace)
        return Source.from_object({**obj, "kind": kind})

    def provider(self, source: Source, *, user: str | None = None) -> Provider:
        """Return the provider of `source`; `user` (an import's UID) keeps the same one until `release`.

        Without a user it is always the one for the spec and Secret as they are now.

        Raises:
            SecretNotFound: the Secret does not exist (yet).
            ReferenceNotPermitted: it is in another namespace and does not consent.
            SecretIncomplete: it is no text, or a key is missing.
        """
        with self._lock:
            for connection in self._all(source.key):
                if user and user in connection.users:
                    return connection.provider
        try:
            return self._connection(source.key, self.config(source), user).provider
        except SecretIncomplete as exc:
            raise SecretIncomplete(f"Secret {source.credentials}: {exc}") from exc

    def config(self, source: Source) -> SourceConfig:
        """Return what a provider of `source` is made from; raises as `provider`."""
        secret = self._secret(source)
        ca = secret.pop(CA_KEYS[source.kind], None)
        return SourceConfig(
            kind=SourceKind(source.kind),
            endpoint=source.endpoint,
            secret=secret,
            tls=TLSPolicy(
                ca_pem=ca.strip() or None if ca else None,
                fingerprint=None if ca else source.tls_fingerprint,
                insecure=source.insecure,
            ),
            options=source.options,
            journal=_Journal(self._scratch, source.key) if self._scratch else None,
        )

    def identity(self, source: Source) -> str:
        """Return a digest of what a connection to `source` would be made from now; raises as `provider`."""
        return _identity(self.config(source))

    def release(self, user: str) -> None:
        """Note that the import with this UID needs no connection any more; close those nobody uses."""
        with self._lock:
            idle = []
            for connection in (c for key in self._keys() for c in self._all(key)):
                connection.users.discard(user)
            for key, retired in list(self._retired.items()):
                idle += [connection for connection in retired if not connection.users]
                self._retired[key] = [connection for connection in retired if connection.users]
        _close(idle)

    def refused(self, user: str, error: BaseException) -> bool:
        """Note an error of the import with this UID; return whether it gets another connection now.

        It does when the one that it keeps from before a change of source or Secret lets nobody in any more:
        the change was the way in.
        """
        useless = []
        with self._lock:
            if isinstance(error, (*_LETS_NOBODY_IN, Unreachable)):
                self._doubted |= {key for key in self._keys() if any(user in c.users for c in self._all(key))}
            if not isinstance(error, _LETS_NOBODY_IN):
                return False
            for key, retired in list(self._retired.items()):
                useless += [connection for connection in retired if user in connection.users]
                self._retired[key] = [connection for connection in retired if user not in connection.users]
        _close(useless)
        return bool(useless)

    def doubted(self, source_key: str) -> bool:
        """Tell whether, since this was asked last, an import could not get through to the source."""
        with self._lock:
            doubted = source_key in self._doubted
            self._doubted.discard(source_key)
        return doubted

    def forget(self, source_key: str) -> None:
        """Close the connections of a source that was deleted."""
        with self._lock:
            self._doubted.discard(source_key)
            gone = self._retired.pop(source_key, [])
            current = self._current.pop(source_key, None)
        _close([*gone, *([current] if current else [])])

    def close(self) -> None:
        """Log out everywhere."""
        with self._lock:
            everything = [connection for key in self._keys() for connection in self._all(key)]
            self._current.clear()
            self._retired.clear()
        _close(everything)

    def _connection(self, key: str, config: SourceConfig, user: str | None) -> _Connection:
        """Return the current connection; who is to keep it does so before another can take its place."""
        identity = _identity(config)
        with self._lock:
            current = self._current.get(key)
            if current and current.identity == identity:
                current.users |= {user} if user else set()
                return current
            provider: Provider = PatientProvider(registry.connect(config), self._clock)
            fresh = _Connection(identity, GuardedProvider(provider, self._guard) if self._guard else provider)
            fresh.users |= {user} if user else set()
            self._current[key] = fresh
            idle = []
            if current and current.users:
                self._retired.setdefault(key, []).append(current)
            elif current:
                idle.append(current)
        _close(idle)
        return fresh

    def _keys(self) -> set[str]:
        return {*self._current, *self._retired}

    def _all(self, key: str) -> list[_Connection]:
        current = self._current.get(key)
        return [*([current] if current else []), *self._retired.get(key, ())]

    def _secret(self, source: Source) -> dict[str, str]:
        reference = source.credentials
        if reference is None:
            if source.kind == "OvaSource":
                return {}
            raise SecretNotFound("spec.credentials.name is empty: no Secret is named")
        try:
            secret = self._kube.get(kinds.SECRETS, reference.name, reference.namespace)
        except NotFound as exc:
            raise SecretNotFound(f"Secret {reference} does not exist") from exc
        self._check_consent(secret, "Secret", reference, source.namespace)
        return _decode(secret)

    def _check_consent(
        self, obj: Mapping[str, Any], kind: str, reference: Reference, referrer_namespace: str
    ) -> None:
        if self._allow_cross_namespace or reference.namespace == referrer_namespace:
            return
        annotation = (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_ALLOW_FROM, "")
        allowed = {entry.strip() for entry in annotation.split(",")}
        if "*" not in allowed and referrer_namespace not in allowed:
            raise ReferenceNotPermitted(
                f"{kind} {reference} may not be used from namespace {referrer_namespace}: annotate it with "
                f"{names.ANNOTATION_ALLOW_FROM}={referrer_namespace}"
            )


@dataclass(frozen=True, slots=True)
class _Journal:
    """One source's part of the notes in scratch; see `providers.base.Journal`."""

    scratch: Scratch
    source_key: str

    def inherited(self) -> list[str]:
        try:
            return self.scratch.left_open(self.source_key)
        except ScratchError as exc:
            log.warning("what was left open at a source is not known", source=self.source_key, error=str(exc))
            return []

    def add(self, entry: str) -> None:
        try:
            self.scratch.note_open(self.source_key, entry)
        except ScratchError as exc:
            log.warning("what is open at a source is not noted", source=self.source_key, error=str(exc))

    def remove(self, entry: str) -> None:
        try:
            self.scratch.note_closed(self.source_key, entry)
        except ScratchError as exc:
            log.warning("what was open at a source stays noted", source=self.source_key, error=str(exc))


def _decode(secret: Mapping[str, Any]) -> dict[str, str]:
    values = {}
    for key, encoded in (secret.get("data") or {}).items():
        try:
            # A trailing newline is what `--from-file` and editors leave behind; no password ends in one.
            values[key] = base64.b64decode(encoded).decode().rstrip("\r\n")
        except ValueError:
            raise SecretIncomplete(f"key {key!r} is not text") from None
    return values


def _identity(config: SourceConfig) -> str:
    """Return a digest of all that a connection depends on; it reveals nothing of the Secret."""
    parts = (
        config.kind,
        config.endpoint,
        *(f"{key}={value}" for key, value in sorted(config.secret.items())),
        *(f"{key}={value}" for key, value in sorted(config.options.items())),
        repr(config.tls),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _close(connections: list[_Connection]) -> None:
    for connection in connections:
        try:
            connection.provider.close()
        except ProviderError as exc:
            log.warning("could not log out of a source", reason=exc.reason)
