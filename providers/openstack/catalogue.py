"""Where the services of a region answer, from Keystone's catalogue. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from providers.errors import RegionNotFound, ServiceMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Service(StrEnum):
    """The services that an import needs; the words are those of messages."""

    COMPUTE = "compute (Nova)"
    VOLUME = "block storage (Cinder)"
    IMAGE = "image (Glance)"
    NETWORK = "network (Neutron)"


# service-types.openstack.org: the official name first, then what catalogues hold for historical reasons.
_TYPES = {
    Service.COMPUTE: ("compute",),
    Service.VOLUME: ("block-storage", "volumev3", "block-store", "volumev2", "volume"),
    Service.IMAGE: ("image",),
    Service.NETWORK: ("network",),
}
_VERSIONS = {Service.COMPUTE: "v2.1", Service.VOLUME: "v3", Service.IMAGE: "v2", Service.NETWORK: "v2.0"}
_VERSIONED = re.compile(r"/v\d+(\.\d+)?(?P<rest>/.*)?$")


def service_urls(catalogue: Iterable[Mapping[str, Any]], region: str, project_id: str) -> dict[Service, str]:
    """Return the URL of each service, with its version and without a slash at its end.

    Args:
        catalogue: `token.catalog` of Keystone v3.
        region: The region; empty where there is only one.
        project_id: Cinder wants it in its path.

    Raises:
        RegionNotFound: the catalogue has no such region, or several to choose from; lists them.
        ServiceMissing: a service has no public endpoint in the region; names all that are missing.
    """
    entries = list(catalogue)
    regions = sorted({_region(endpoint) for entry in entries for endpoint in entry.get("endpoints") or ()})
    known = ", ".join(regions) or "none"
    if not region and len(regions) != 1:
        raise RegionNotFound(f"spec.region is empty, and the catalogue has several: {known}")
    region = region or regions[0]
    if region not in regions:
        raise RegionNotFound(f"there is no region {region!r}; the catalogue has {known}")
    found = {service: _find(entries, types, region) for service, types in _TYPES.items()}
    missing = [str(service) for service, url in found.items() if url is None]
    if missing:
        raise ServiceMissing(
            f"the catalogue has no public endpoint in region {region} for: {', '.join(missing)}"
        )
    return {service: versioned(service, url, project_id) for service, url in found.items() if url}


def versioned(service: Service, url: str, project_id: str) -> str:
    """Return the URL with the version that is spoken here, whatever version the catalogue names."""
    plain = url.rstrip("/")
    match = _VERSIONED.search(plain)
    rest = (match["rest"] or "") if match else ""
    base = plain[: match.start()] if match else plain
    if service is Service.VOLUME and not rest:
        rest = f"/{project_id}"
    return f"{base}/{_VERSIONS[service]}{rest}"


def service_type(service: Service) -> str:
    """Return the official name of a kind of service; the SDK goes by it."""
    return _TYPES[service][0]


def version_document(service: Service, url: str) -> str:
    """Return where a service tells of the version in its URL, from which it is taken.

    With a slash at its end: without one, Cinder redirects, to an address that it takes for its own.
    """
    version = f"/{_VERSIONS[service]}"
    return f"{url[: url.rindex(version)]}{version}/"


def _find(entries: list[Mapping[str, Any]], types: tuple[str, ...], region: str) -> str | None:
    for kind in types:
        for entry in entries:
            if entry.get("type") != kind:
                continue
            for endpoint in entry.get("endpoints") or ():
                if endpoint.get("interface") == "public" and _region(endpoint) == region:
                    return str(endpoint["url"])
    return None


def _region(endpoint: Mapping[str, Any]) -> str:
    return str(endpoint.get("region_id") or endpoint.get("region") or "")
