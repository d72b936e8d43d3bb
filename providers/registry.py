"""Which package speaks to which kind of source. Each is imported on first use: their libraries are heavy."""

from __future__ import annotations

from typing import assert_never

from providers.base import Provider, SourceConfig, SourceKind


def connect(config: SourceConfig) -> Provider:
    """Return the provider for `config`; nothing is sent before its first call.

    Raises:
        InvalidEndpoint: the endpoint cannot be understood.
        SecretIncomplete: the Secret lacks a key that this kind needs.
    """
    match config.kind:
        case SourceKind.VMWARE:
            from providers.vmware.provider import VmwareProvider  # noqa: PLC0415  # pyVmomi takes 0.2 s, 50 MB

            return VmwareProvider(config)
        case SourceKind.OPENSTACK:
            from providers.openstack.provider import OpenstackProvider  # noqa: PLC0415  # the SDK: 0.4 s, 20 MB

            return OpenstackProvider(config)
        case SourceKind.OVA:
            from providers.ova.provider import OvaProvider  # noqa: PLC0415  # as above

            return OvaProvider(config)
        case _:
            assert_never(config.kind)
