"""The endpoint of an `OpenstackSource`: what users write, and what it is completed to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from providers.errors import InvalidEndpoint

_PORTS = {"http": 80, "https": 443}
_VERSION = re.compile(r"/v\d(\.\d)?$")
_EXAMPLE = "such as https://cloud.example.com:5000/v3"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a certificate and a credential are for.

    Attributes:
        host: Name or address, without the brackets of IPv6.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Take the origin out of a URL.

        Raises:
            InvalidEndpoint: it is no HTTP URL with a host.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise InvalidEndpoint(f"{url!r} is not a URL {_EXAMPLE}") from exc
        if parts.scheme not in _PORTS:
            raise InvalidEndpoint(f"the scheme of {url!r} is {parts.scheme!r}; http and https are spoken")
        if not host or any(character.isspace() for character in host):
            raise InvalidEndpoint(f"{url!r} names no host")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])

    @property
    def authority(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Keystone answers.

    Attributes:
        auth_url: Ends in `/v3`, the only version there is since 2018.
    """

    origin: Origin
    auth_url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Complete a URL with or without a version; a bare host means https.

        Raises:
            InvalidEndpoint: not understood, or with credentials in it (which are not repeated).
        """
        text = text.strip()
        url = text if "://" in text else f"https://{text}"
        try:
            parts = urlsplit(url)
        except ValueError as exc:
            raise InvalidEndpoint(f"the endpoint is not a URL {_EXAMPLE}") from exc
        if "@" in parts.netloc:
            raise InvalidEndpoint("the endpoint carries credentials; they belong in the Secret")
        origin = Origin.of(url)
        path = _VERSION.sub("", parts.path.rstrip("/")).rstrip("/")
        return cls(origin, f"{origin.scheme}://{parts.netloc}{path}/v3")
