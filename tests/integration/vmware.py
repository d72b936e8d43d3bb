"""What tests of the VMware provider share: a provider for the lab's vCenter, bytes for its disks, threads."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.errors import ProviderError
from providers.vmware.provider import VmwareProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from providers.model import SourceDisk, SourceVM
    from tests.lab.vcenter import VCenter

T = TypeVar("T")

MIB = 1 << 20
EXPORT = "0c5e7c0e-8f0f-4a55-9df7-8a1d4bb1a0a1-a1b2c3"


def provider_for(
    vcenter: VCenter, tls: TLSPolicy | None = None, *, dc: str = "DC0", password: str | None = None
) -> VmwareProvider:
    """Return a provider that has not connected yet; by default it trusts the lab's CA."""
    secret = {"username": vcenter.username, "password": password or vcenter.password}
    policy = tls or TLSPolicy(ca_pem=vcenter.ca_pem)
    return VmwareProvider(SourceConfig(SourceKind.VMWARE, vcenter.sdk_url, secret, policy, {"dc": dc}))


def disk_file(path: Path, size: int = MIB, seed: int = 0) -> Path:
    """Write bytes that stand for a VMDK: the provider hands them on and does not look at them."""
    path.write_bytes(random.Random(seed).randbytes(size))  # noqa: S311  # the same at every run
    return path


def read(provider: VmwareProvider, vm: SourceVM, disk: SourceDisk) -> bytes:
    with closing(provider.open_disk(vm, disk, EXPORT)) as stream:
        return b"".join(stream.chunks())


def persistently(action: Callable[[], T]) -> T:
    """Repeat what may be repeated until it succeeds."""
    pause = threading.Event()
    for _ in range(400):
        try:
            return action()
        except ProviderError as exc:
            if not exc.retryable:
                raise
            pause.wait(min(getattr(exc, "retry_after", 0.02), 1.0))
    raise AssertionError("it never came to an end")


def in_background(action: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Run `action` in a thread; return it with the list that will hold what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except ProviderError as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised
