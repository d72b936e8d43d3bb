"""The destination: a Harvester that fetches images, binds volumes and really boots the virtual machines.

What each part does is what Harvester 1.6 does there, read in its sources, as far as an importer can tell:
`images` and `fetch` (Longhorn's backing images and CDI), `volumes`, `machines` and `domain` (KubeVirt),
`admission` (Harvester's and KubeVirt's webhooks). `destination.Harvester` puts them together.
"""

from __future__ import annotations

from tests.lab.harvester.destination import Harvester
from tests.lab.harvester.fetch import Request

__all__ = ["Harvester", "Request"]
