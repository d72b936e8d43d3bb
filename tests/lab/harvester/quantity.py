"""Kubernetes quantities ("512Mi", "2", "500m") as numbers."""

from __future__ import annotations

import math
import re
from fractions import Fraction

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_FACTORS = {"": Fraction(1), "m": Fraction(1, 1000)}
_FACTORS |= {suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)}
_FACTORS |= {f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}


def parse(text: str | float) -> int:
    """Return the number, rounded up to a whole one.

    Raises:
        ValueError: it is not a quantity.
    """
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity")
    return math.ceil(Fraction(match[1]) * _FACTORS[match[2]])
