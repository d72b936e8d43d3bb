"""What tests of the OVA provider share: a provider for the lab's web server, and small packages."""

from __future__ import annotations

import io
import random
from contextlib import closing
from typing import TYPE_CHECKING

from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.ova.provider import OvaProvider
from tests.lab import streamvmdk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.model import SourceDisk, SourceVM
    from tests.lab.ova import Content
    from tests.lab.ova_server import OvaServer

MIB = 1 << 20
EXPORT = "0b6f5f7e-1111-4222-8333-444455556666-abc123"


def provider_for(
    server: OvaServer, name: str = "web.ova", tls: TLSPolicy | None = None, **options: str
) -> OvaProvider:
    """Return a provider that has not connected yet; by default it trusts the lab's CA."""
    secret = {"username": server.username, "password": server.password} if server.username else {}
    policy = tls or TLSPolicy(ca_pem=server.ca_pem or None)
    return OvaProvider(SourceConfig(SourceKind.OVA, server.url(name), secret, policy, options))


def vmdk(size: int = 3 * MIB, seed: int = 0) -> bytes:
    """Return a streamOptimized VMDK of noise."""
    out = io.BytesIO()
    data = random.Random(seed).randbytes(size // 3).ljust(size, b"\0")  # noqa: S311  # the same at every run
    streamvmdk.encode(data, out)
    return out.getvalue()


def read(provider: OvaProvider, vm: SourceVM, disk: SourceDisk) -> bytes:
    with closing(provider.open_disk(vm, disk, EXPORT)) as stream:
        return b"".join(stream.chunks())


def read_all(provider: OvaProvider, name: str = "") -> dict[str, bytes]:
    """Look at a package and read all of its disks, one after the other."""
    vm = provider.inspect(name)
    return {disk.name: read(provider, vm, disk) for disk in vm.disks}


def only_disks(members: Mapping[str, Content]) -> dict[str, Content]:
    """Return the members that are disks."""
    return {name: content for name, content in members.items() if not name.endswith((".ovf", ".mf", ".cert"))}
