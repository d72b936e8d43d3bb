"""A provider on the lab's OpenStack, and doing with it what the controller does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.errors import NotYet
from providers.model import PowerState, SourceDisk, SourceVM
from providers.openstack.provider import OpenstackProvider

if TYPE_CHECKING:
    from providers.openstack.download import GlanceStream
    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant

EXPORT = "0c5e7c0e-8f0f-4a55-9df7-8a1d4bb1a0a1-a1b2c3"
SECONDS = 240.0  # only a failing test waits that long
GIB = 1 << 30


def secret_of(tenant: Tenant, **changes: str) -> dict[str, str]:
    return {
        "username": tenant.username,
        "password": tenant.password,
        "project_name": tenant.project,
        "domain_name": tenant.domain,
        **changes,
    }


def provider_for(
    cloud: OpenStackCloud,
    secret: dict[str, str],
    *,
    endpoint: str | None = None,
    region: str | None = None,
    tls: TLSPolicy | None = None,
    patience: tuple[int, int] | None = None,
) -> OpenstackProvider:
    options = {"region": cloud.region if region is None else region}
    if patience is not None:
        count, delay = patience
        options |= {"uploadImageRetryCount": str(count), "uploadImageRetryDelay": str(delay)}
    return OpenstackProvider(
        SourceConfig(
            SourceKind.OPENSTACK,
            endpoint or cloud.auth_url,
            secret,
            tls or TLSPolicy(),
            options,
        )
    )


def persistently(action: Callable[[], GlanceStream | None]) -> GlanceStream | None:
    """Repeat what the source is not done with, as often as it wants."""
    pause = threading.Event()
    end = time.monotonic() + SECONDS
    while True:
        try:
            return action()
        except NotYet as exc:
            if time.monotonic() > end:
                raise
            pause.wait(min(exc.retry_after, 1.0))


def stopped(provider: OpenstackProvider, name: str) -> SourceVM:
    """Describe a server, stop it, and wait until it is off."""
    vm = provider.inspect(name)
    provider.request_shutdown(vm)
    wait_for_power(provider, vm, PowerState.OFF)
    return vm


def until(condition: Callable[[], object]) -> None:
    """Return when a condition holds; looked at three times a second, for it costs the cloud some requests."""
    pause = threading.Event()
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        pause.wait(0.3)


def wait_for_power(provider: OpenstackProvider, vm: SourceVM, wanted: PowerState) -> None:
    until(lambda: provider.power_state(vm) is wanted)


def opened(provider: OpenstackProvider, vm: SourceVM, disk: SourceDisk, export: str = EXPORT) -> GlanceStream:
    stream = persistently(lambda: provider.open_disk(vm, disk, export))
    assert stream is not None
    return stream


def holds(provider: OpenstackProvider, vm: SourceVM, disk: SourceDisk, content: bytes) -> bool:
    """Read a disk to its end; tell whether it begins with the content and is zero from there on."""
    position = 0
    with closing(opened(provider, vm, disk)) as stream:
        for chunk in stream.chunks():
            expected = content[position : position + len(chunk)]
            if chunk != expected.ljust(len(chunk), b"\0"):
                return False
            position += len(chunk)
    return position == disk.size_bytes


def discard(provider: OpenstackProvider, vm: SourceVM, export: str = EXPORT) -> None:
    persistently(lambda: provider.discard_export(vm, export, complete=False))
