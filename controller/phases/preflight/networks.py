"""Checks of the network mapping."""

from __future__ import annotations

import re
from collections import Counter

from controller import builders, kinds
from controller.kube.errors import NotFound
from controller.phases.base import Context
from controller.phases.preflight.findings import listed, prediction, warning
from providers.model import Finding, SourceVM

_NETWORK_NAME = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)  # RFC 1123 subdomain


def check_networks(ctx: Context, vm: SourceVM | None) -> list[Finding]:
    """Check the network mapping: both ends exist, none is named twice, every card gets a place."""
    vmimport = ctx.vmimport
    findings = []
    mapped = Counter(entry.source for entry in vmimport.spec.networks)
    for name in (name for name, times in mapped.items() if times > 1):
        message = f"source network {name!r} is mapped {mapped[name]} times"
        findings.append(prediction("SourceNetworkDuplicate", message, "Keep one mapping for each network."))
    for destination in dict.fromkeys(entry.destination for entry in vmimport.spec.networks):
        findings += _check_destination(ctx, destination)
    if vm is None:
        return findings
    known = {name for nic in vm.nics for name in nic.networks} | set(vm.known_networks)
    findings += [
        prediction(
            "SourceNetworkNotFound",
            f"source network {name!r} does not exist; the VM is on {listed(_first_names(vm))}",
            "Correct spec.networkMapping[].sourceNetwork.",
        )
        for name in mapped
        if name not in known
    ]
    findings += [
        warning(
            "NetworkInterfaceLeftOut",
            f"network card {nic.key} ({listed(nic.networks[:1])}) is not mapped to a VM network and is left "
            "out: only one card can be on the management network",
            "Map its network to a VM network in spec.networkMapping.",
        )
        for nic in builders.plan_nics(vmimport, vm.nics).left_out
    ]
    return findings


def _check_destination(ctx: Context, destination: str) -> list[Finding]:
    if builders.is_pod_network(destination):
        return []
    parts = builders.qualified_network(destination, ctx.vmimport.namespace).split("/")
    if len(parts) != 2 or not all(_NETWORK_NAME.fullmatch(part) for part in parts):  # noqa: PLR2004
        message = f"destination network {destination!r} is malformed"
        return [
            prediction("DestinationNetworkMalformed", message, "Write it as name, namespace/name or mgmt.")
        ]
    try:
        ctx.kube.get(kinds.NETWORKS, parts[1], parts[0])
    except NotFound:
        message = f"destination network {'/'.join(parts)} does not exist"
        return [prediction("DestinationNetworkNotFound", message, "Create the network or name another one.")]
    return []


def _first_names(vm: SourceVM) -> list[str]:
    return [nic.networks[0] for nic in vm.nics if nic.networks]
