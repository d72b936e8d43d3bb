"""The network cards of a server, from Neutron's ports. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.model import NICModel, SourceNIC

if TYPE_CHECKING:
    from providers.openstack.facts import JSON, ServerFacts

# Glance's `hw_vif_model` (nova.network.model); vmxnet*, netfront and the like have no equal in KubeVirt.
_MODELS = {
    "virtio": NICModel.VIRTIO,
    "e1000": NICModel.E1000,
    "e1000e": NICModel.E1000E,
    "ne2k_pci": NICModel.NE2K_PCI,
    "pcnet": NICModel.PCNET,
    "rtl8139": NICModel.RTL8139,
}


def to_nics(facts: ServerFacts) -> tuple[SourceNIC, ...]:
    """Return one card per port, in the order of attachment, however many addresses it has."""
    model = _MODELS.get(str(facts.hints.get("hw_vif_model") or "").lower())
    return tuple(
        SourceNIC(
            key=str(port["id"]),
            networks=_network_names(facts, port),
            model=model,
            mac=str(port["mac_address"]).lower() if port.get("mac_address") else None,
        )
        for port in in_order(facts)
    )


def in_order(facts: ServerFacts) -> list[JSON]:
    """Sort ports as they were attached.

    Neutron does not tell. Nova's `addresses` does: it lists networks, and the addresses of each, in the order
    of its own list of cards. A network that several cards are on makes that order incomplete, and a port
    without address is not in it: there the time of the port's creation decides.
    """
    places: dict[str, int] = {}
    for addresses in (facts.server.get("addresses") or {}).values():
        for address in addresses:
            places.setdefault(str(address.get("OS-EXT-IPS-MAC:mac_addr")).lower(), len(places))
    unknown = len(places)

    def order(port: JSON) -> tuple[int, str, str]:
        place = places.get(str(port.get("mac_address")).lower(), unknown)
        return place, str(port.get("created_at") or ""), str(port.get("id"))

    return sorted(facts.ports, key=order)


def _network_names(facts: ServerFacts, port: JSON) -> tuple[str, ...]:
    """Return the network's name and UUID; for a network of others that is not to be seen, Nova's label."""
    identifier = str(port.get("network_id") or "")
    name = facts.networks.get(identifier) or _label(facts, port)
    return tuple(dict.fromkeys(word for word in (name, identifier) if word))


def _label(facts: ServerFacts, port: JSON) -> str | None:
    mac = str(port.get("mac_address")).lower()
    for label, addresses in (facts.server.get("addresses") or {}).items():
        if any(str(address.get("OS-EXT-IPS-MAC:mac_addr")).lower() == mac for address in addresses):
            return str(label)
    return None
