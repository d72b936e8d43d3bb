"""Quantities as Kubernetes writes them: `500m`, `2Gi`, `1e3`."""

from __future__ import annotations

from decimal import Decimal

from kubernetes.utils import quantity as kubernetes_quantity


def parse_quantity(text: str) -> Decimal:
    """Return the number that `text` means (Kubernetes docs, "Quantity").

    Raises:
        ValueError: it means none.
    """
    return Decimal(kubernetes_quantity.parse_quantity(text))
