"""Free TCP ports on loopback."""

from __future__ import annotations

import itertools
import socket
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_PORTS = 800
FIRST_PORT = 10_000
END_PORT = 32_768  # where Linux's own range begins, unless it is told otherwise
_LOCK = threading.Lock()
_CLAIM = socket.socket(socket.AF_UNIX)


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on now.

    They stay free until their user binds them, also while it is away for a restart: they are below those that
    Linux hands out for connections and for port 0, from a block that belongs to this process alone, and come
    up again only after all others of it.
    """
    with _LOCK:
        return list(itertools.islice(filter(_is_free, _ports()), count))


@cache
def _ports() -> Iterator[int]:
    return itertools.cycle(_block())


def _block() -> range:
    """Claim a block as long as this process lives, by a name that only one socket of the machine can have."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = low if low >= FIRST_PORT + BLOCK_PORTS else END_PORT
    for start in range(FIRST_PORT, end - BLOCK_PORTS + 1, BLOCK_PORTS):
        try:
            _CLAIM.bind(f"\0migration-lab-ports-{start}")
        except OSError:
            continue
        return range(start, start + BLOCK_PORTS)
    raise RuntimeError(f"no block of {BLOCK_PORTS} ports is left from {FIRST_PORT} to {end}")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
