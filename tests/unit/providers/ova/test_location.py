from __future__ import annotations

import pytest

from providers.errors import ArchiveInvalid, InvalidEndpoint
from providers.ova.location import Location


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("https://files.example.com/a.ova", "files.example.com", "/a.ova"),
        (" http://files:8080/dir/a%20b.ova?sig=x%2By&e=1 ", "files:8080", "/dir/a%20b.ova?sig=x%2By&e=1"),
        ("https://[2001:db8::1]/größe 1.ova#top", "[2001:db8::1]", "/gr%C3%B6%C3%9Fe%201.ova"),
        ("https://files.example.com:443", "files.example.com", "/"),
    ],
)
def test_a_url_is_read_as_people_write_it(text: str, authority: str, target: str) -> None:
    found = Location.parse(text)

    assert (found.authority, found.target) == (authority, target)


@pytest.mark.parametrize(
    "text",
    ["", "a.ova", "ftp://x/a.ova", "file:///a.ova", "https://", "https://x:y/", "https://[", "https://a b/"],
)
def test_what_is_no_web_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidEndpoint):
        Location.parse(text)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidEndpoint, match="belong in the Secret") as raised:
        Location.parse("https://ann:hush@x/a.ova")
    assert "hush" not in str(raised.value)


def test_a_query_is_in_no_message() -> None:
    found = Location.parse("https://x/a.ova?token=hush")

    assert "hush" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("target", "may"),
    [
        ("https://HOST/other", True),
        ("https://host:444/", False),
        ("https://host.example.com/", False),
        ("http://host/", False),
    ],
)
def test_credentials_are_for_their_own_server(target: str, may: bool) -> None:  # noqa: FBT001
    assert Location.parse(target).may_have_credentials_of(Location.parse("https://host/a.ova")) is may


def test_credentials_follow_their_server_into_https() -> None:
    origin = Location.parse("http://host/a.ova")

    assert Location.parse("https://host/a.ova").may_have_credentials_of(origin)
    assert not Location.parse("https://host:8443/a.ova").may_have_credentials_of(origin)


def test_a_file_beside_another_keeps_the_query() -> None:
    found = Location.parse("https://x/dir/a.ovf?token=t").beside("disks/größe 1.vmdk")

    assert found.target == "/dir/disks/gr%C3%B6%C3%9Fe%201.vmdk?token=t"


@pytest.mark.parametrize(
    "name", ["", "/a", "../a", "a/../b", "a//b", "./a", "http://x/a", "c:a", "a\\b", "a/"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ArchiveInvalid, match="does not lie beside"):
        Location.parse("https://x/dir/a.ovf").beside(name)
