from __future__ import annotations

import pytest

from providers.errors import InvalidEndpoint
from providers.vmware.endpoint import Endpoint


@pytest.mark.parametrize(
    ("written", "completed"),
    [
        ("vcenter.example.com", Endpoint("vcenter.example.com", 443, "/sdk")),
        (" vcenter.example.com:8443 ", Endpoint("vcenter.example.com", 8443, "/sdk")),
        ("https://vcenter", Endpoint("vcenter", 443, "/sdk")),
        ("https://vcenter/", Endpoint("vcenter", 443, "/sdk")),
        ("https://vcenter/sdk/", Endpoint("vcenter", 443, "/sdk")),
        ("https://VCenter:444/other/sdk", Endpoint("vcenter", 444, "/other/sdk")),
        ("10.0.0.1", Endpoint("10.0.0.1", 443, "/sdk")),
        ("fe80::1", Endpoint("fe80::1", 443, "/sdk")),
        ("https://[fe80::1]:444/sdk", Endpoint("fe80::1", 444, "/sdk")),
    ],
)
def test_an_endpoint_is_completed(written: str, completed: Endpoint) -> None:
    assert Endpoint.parse(written) == completed


@pytest.mark.parametrize(
    "written",
    [
        "",
        "https://",
        "http://vcenter/sdk",
        "ftp://vcenter",
        "https://vc:port/sdk",
        "two words",
        "https://[::",
    ],
)
def test_what_is_no_https_url_is_refused(written: str) -> None:
    with pytest.raises(InvalidEndpoint):
        Endpoint.parse(written)


def test_credentials_in_the_endpoint_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidEndpoint) as refusal:
        Endpoint.parse("https://root:s3cret@vcenter/sdk")

    assert "s3cret" not in str(refusal.value)


def test_an_ipv6_authority_has_brackets() -> None:
    assert Endpoint.parse("fe80::1").authority == "[fe80::1]:443"
