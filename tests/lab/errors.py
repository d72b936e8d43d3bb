"""The one error of the lab: a component could not be had, started or reached; the message says what to do."""

from __future__ import annotations


class LabError(Exception):
    """Surfaces when the lab itself is at fault, so that a test never blames the controller for it."""
