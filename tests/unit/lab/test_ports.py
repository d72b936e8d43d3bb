"""Tests for the lab's free ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.lab.ports import BLOCK_PORTS, FIRST_PORT, free_ports

_ROOT = Path(__file__).parents[3]


def test_no_port_is_handed_out_twice_within_a_block() -> None:
    ports = free_ports(20) + free_ports(20)
    assert len(set(ports)) == 40


def test_a_port_in_use_is_passed_over() -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert port not in free_ports(BLOCK_PORTS - 1)


def test_another_process_gets_ports_of_another_block() -> None:
    ours = {_block(port) for port in free_ports(20)}  # first: a block is free again when its process ends
    program = "from tests.lab.ports import free_ports; print(*free_ports(20))"
    printed = subprocess.check_output([sys.executable, "-c", program], cwd=_ROOT, text=True)
    theirs = {_block(int(port)) for port in printed.split()}
    assert theirs.isdisjoint(ours)


def _block(port: int) -> int:
    return (port - FIRST_PORT) // BLOCK_PORTS
