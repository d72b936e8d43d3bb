from __future__ import annotations

from typing import Any

import pytest

from providers.errors import RegionNotFound, ServiceMissing
from providers.openstack.catalogue import Service, service_urls, versioned

URLS = {
    "compute": "http://nova:8774/v2.1",
    "volumev3": "http://cinder:8776/v3/p1",
    "image": "http://glance:9292",
    "network": "http://neutron:9696/",
}


def catalogue(urls: dict[str, str], region: str = "RegionOne") -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "endpoints": [
                {"interface": "admin", "region_id": region, "url": "http://not-for-us"},
                {"interface": "public", "region_id": region, "url": url},
            ],
        }
        for kind, url in urls.items()
    ]


def test_each_service_is_found_with_its_version() -> None:
    assert service_urls(catalogue(URLS), "RegionOne", "p1") == {
        Service.COMPUTE: "http://nova:8774/v2.1",
        Service.VOLUME: "http://cinder:8776/v3/p1",
        Service.IMAGE: "http://glance:9292/v2",
        Service.NETWORK: "http://neutron:9696/v2.0",
    }


@pytest.mark.parametrize(
    ("service", "url", "expected"),
    [
        (Service.COMPUTE, "https://cloud/compute", "https://cloud/compute/v2.1"),
        (Service.COMPUTE, "https://cloud/v2/p1", "https://cloud/v2.1/p1"),
        (Service.VOLUME, "https://cloud/volume/v3/", "https://cloud/volume/v3/p1"),
        (Service.VOLUME, "https://cloud/volume/v2/p1", "https://cloud/volume/v3/p1"),
        (Service.VOLUME, "https://cloud/volume", "https://cloud/volume/v3/p1"),
        (Service.IMAGE, "https://cloud/image/v1", "https://cloud/image/v2"),
        (Service.NETWORK, "https://cloud/v2.0", "https://cloud/v2.0"),
    ],
)
def test_the_version_is_the_one_that_is_spoken(service: Service, url: str, expected: str) -> None:
    assert versioned(service, url, "p1") == expected


@pytest.mark.parametrize(("missing", "named"), [("network", "Neutron"), ("volumev3", "Cinder")])
def test_a_service_that_is_missing_is_named(missing: str, named: str) -> None:
    urls = {kind: url for kind, url in URLS.items() if kind != missing}
    with pytest.raises(ServiceMissing, match=named):
        service_urls(catalogue(urls), "RegionOne", "p1")


def test_a_region_that_does_not_exist_is_told_with_those_that_do() -> None:
    entries = catalogue(URLS) + catalogue(URLS, "RegionTwo")
    with pytest.raises(RegionNotFound, match="'RegionTen'; the catalogue has RegionOne, RegionTwo"):
        service_urls(entries, "RegionTen", "p1")
    with pytest.raises(RegionNotFound, match="several: RegionOne, RegionTwo"):
        service_urls(entries, "", "p1")


def test_the_only_region_need_not_be_named() -> None:
    assert service_urls(catalogue(URLS), "", "p1") == service_urls(catalogue(URLS), "RegionOne", "p1")


def test_an_empty_catalogue_has_no_region() -> None:
    with pytest.raises(RegionNotFound, match="none"):
        service_urls([], "RegionOne", "p1")
