from __future__ import annotations

import pytest

from providers.errors import InvalidEndpoint
from providers.openstack.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "auth_url"),
    [
        ("https://devstack/identity", "https://devstack/identity/v3"),
        ("https://devstack/identity/v3/", "https://devstack/identity/v3"),
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000/v3"),
        ("http://10.0.0.1:5000/v2.0", "http://10.0.0.1:5000/v3"),
        (" cloud.example.com:13000 ", "https://cloud.example.com:13000/v3"),
        ("https://[2001:db8::1]:5000/v3", "https://[2001:db8::1]:5000/v3"),
    ],
)
def test_an_endpoint_is_completed(text: str, auth_url: str) -> None:
    assert Endpoint.parse(text).auth_url == auth_url


@pytest.mark.parametrize(
    "text", ["", "ftp://cloud", "https://", "https://a b", "https://cloud:port", "https://["]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidEndpoint):
        Endpoint.parse(text)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidEndpoint) as refused:
        Endpoint.parse("https://admin:hunter2@cloud")
    assert "hunter2" not in str(refused.value)
