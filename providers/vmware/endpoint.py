"""The endpoint of a `VmwareSource`: what users write, and what it is completed to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from providers.errors import InvalidEndpoint

DEFAULT_PORT = 443
DEFAULT_PATH = "/sdk"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the vSphere API answers; always HTTPS.

    Attributes:
        host: Name or address, without the brackets of IPv6.
        path: Path of the SOAP service, without a slash at its end.
    """

    host: str
    port: int = DEFAULT_PORT
    path: str = DEFAULT_PATH

    @classmethod
    def parse(cls, text: str) -> Self:
        """Complete a URL, a URL without a path, `host:port` or a bare host.

        Raises:
            InvalidEndpoint: not understood, not HTTPS, or with credentials in it (which are not repeated).
        """
        text = text.strip()
        if _is_ipv6(text):
            text = f"[{text}]"
        try:
            url = urlsplit(text if "://" in text else f"https://{text}")
            host, port = url.hostname, url.port
        except ValueError as exc:
            raise InvalidEndpoint(
                "the endpoint is not a URL such as https://vcenter.example.com/sdk"
            ) from exc
        if url.username is not None or url.password is not None:
            raise InvalidEndpoint("the endpoint carries credentials; they belong in the Secret")
        if url.scheme != "https":
            raise InvalidEndpoint(f"the endpoint's scheme is {url.scheme!r}; only https is spoken")
        if not host or any(character.isspace() for character in host):
            raise InvalidEndpoint(f"the endpoint {text!r} names no host")
        return cls(host, port or DEFAULT_PORT, url.path.rstrip("/") or DEFAULT_PATH)

    @property
    def authority(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6  # noqa: PLR2004  # the protocol's name
    except ValueError:
        return False
