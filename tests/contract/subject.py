"""What the tests of the contract have to know of a provider's lab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from providers import registry
from providers.base import Provider, SourceConfig


@dataclass(frozen=True, slots=True)
class Subject:
    """A source in the lab, with one VM that is off.

    Attributes:
        config: Of the source, with good credentials.
        nowhere: An endpoint of the same kind where nobody listens.
        vm_name: The VM; no other has a name like it.
        contents: The raw bytes of each of its disks, in their order.
        stall: From now on the bytes of a disk stop coming after some of them.
        mend: Ends that.
    """

    config: SourceConfig
    nowhere: str
    vm_name: str
    contents: tuple[Path, ...]
    stall: Callable[[], object]
    mend: Callable[[], None]

    def connect(self) -> Provider:
        """Return a provider that has not connected yet."""
        return registry.connect(self.config)

    def connect_with_password(self, password: str) -> Provider:
        """Return a provider with another password."""
        return registry.connect(replace(self.config, secret={**self.config.secret, "password": password}))

    def connect_nowhere(self) -> Provider:
        """Return a provider for an endpoint where nobody listens."""
        return registry.connect(replace(self.config, endpoint=self.nowhere))
