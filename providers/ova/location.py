"""URLs: what users write, where a server may send us, and what lies beside a file. Pure.

A URL's query may be a secret (signed URLs). So no message and no `repr` here shows one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from providers.errors import ArchiveInvalid, InvalidEndpoint, RedirectRefused

_PORTS = {"http": 80, "https": 443}
_SAFE = "%/:=&?~+!$,;'@()*[]"  # what a request's target may hold as it is (RFC 3986)


@dataclass(frozen=True, slots=True)
class Location:
    """An address on a web server.

    Attributes:
        scheme: `http` or `https`.
        host: Name or address, without the brackets of IPv6.
        path: Quoted, as a request line has it.
        query: Likewise, without the question mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the URL of a source.

        Raises:
            InvalidEndpoint: not understood, another scheme, or with credentials in it (not repeated).
        """
        try:
            url = urlsplit(text.strip())
            host, port = url.hostname, url.port
        except ValueError as exc:
            raise InvalidEndpoint("the URL is not one such as https://files.example.com/web.ova") from exc
        if url.username is not None or url.password is not None:
            raise InvalidEndpoint("the URL carries credentials; they belong in the Secret")
        if url.scheme not in _PORTS:
            raise InvalidEndpoint(f"the URL's scheme is {url.scheme!r}; http and https are spoken")
        if not host or any(character.isspace() for character in host):
            raise InvalidEndpoint("the URL names no host")
        path, query = quote(url.path or "/", _SAFE), quote(url.query, _SAFE)
        return cls(url.scheme, host, port or _PORTS[url.scheme], path, query)

    @property
    def target(self) -> str:
        """Path and query, for the request."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        """Host, and port where it is not the usual one, as the header `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the URL without its query, for messages."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def may_have_credentials_of(self, origin: Location) -> bool:
        """Whether what is sent to `origin` may be sent here: to the same server, or its own HTTPS."""
        if self.host.lower() != origin.host.lower():
            return False
        upgraded = (origin.scheme, origin.port, self.scheme, self.port) == ("http", 80, "https", 443)
        return (self.scheme, self.port) == (origin.scheme, origin.port) or upgraded

    def redirected(self, header: str) -> Location:
        """Return where the header `Location` sends us.

        Raises:
            RedirectRefused: to no URL, to another scheme, or out of HTTPS.
        """
        try:
            found = Location.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", header))
        except (InvalidEndpoint, ValueError) as exc:
            raise RedirectRefused(
                f"{self} redirects to what is no http or https URL that can be followed"
            ) from exc
        if (self.scheme, found.scheme) == ("https", "http"):
            raise RedirectRefused(f"{self} redirects out of HTTPS, to {found.host}")
        return found

    def beside(self, name: str) -> Location:
        """Return the file of that name beside this one, or below its folder; the query goes along.

        Raises:
            ArchiveInvalid: the name leads elsewhere.
        """
        parts = name.split("/")
        if not name or ":" in parts[0] or "\\" in name or any(part in ("", ".", "..") for part in parts):
            raise ArchiveInvalid(f"the descriptor names a file {name!r}, which does not lie beside it")
        folder = self.path.rpartition("/")[0]
        return replace(self, path=f"{folder}/{quote(name)}")
