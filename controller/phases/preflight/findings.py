"""The three weights of what a check has to say, and how lists of names are said."""

from __future__ import annotations

from collections.abc import Iterable

from providers.model import Finding, Severity


def critical(identifier: str, message: str, remedy: str) -> Finding:
    """Return what stops the import whatever the user says: nothing can be done."""
    return Finding(identifier, Severity.CRITICAL, message, remedy)


def prediction(identifier: str, message: str, remedy: str) -> Finding:
    """Return what stops the import unless `skipPreflightChecks` overrules it."""
    return Finding(identifier, Severity.CRITICAL, message, remedy, prediction=True)


def warning(identifier: str, message: str, remedy: str) -> Finding:
    """Return what the user should know and what stops nothing."""
    return Finding(identifier, Severity.WARNING, message, remedy, prediction=True)


def listed(items: Iterable[str]) -> str:
    """Return names for people: `'a', 'b'`, or `none`."""
    return ", ".join(repr(item) for item in items) or "none"
