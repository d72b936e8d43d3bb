"""A pool on a scratch volume of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tenacity

from controller.runtime.clock import SystemClock
from controller.scratch import Scratch
from controller.transfers import TransferPool, reading
from tests.unit.transfers.streams import Crowd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def transfers(
    scratch: Scratch, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TransferPool]:
    monkeypatch.setattr(reading, "RETRY_WAIT", tenacity.wait_none())
    transfers = TransferPool(scratch, SystemClock(), limit=8, on_change=changes.append)
    yield transfers
    assert transfers.shut_down(timeout=60)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.release_all()
