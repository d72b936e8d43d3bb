"""The page of all fields, `docs/fields.md`, from the CRDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.handbook.source import ROOT
from tests.lab.controller import our_crds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE = ROOT / "docs/fields.md"

_HEAD = """\
<!-- Written by `make docs` from the CRDs of the chart; do not edit. -->

# Fields

Every field of the four kinds of `migration.harvesterhci.io/v1beta1`, as their CRDs define them (`kubectl
explain vmimport.spec` shows the same). In enumerations an empty text means: not set. Examples:
[manifests/examples](../manifests/examples).
"""


def render() -> str:
    """Return the page."""
    lines = [_HEAD]
    for crd in our_crds():
        (version,) = crd["spec"]["versions"]
        names = crd["spec"]["names"]
        schema = version["schema"]["openAPIV3Schema"]
        lines.append(f"\n## {names['kind']}\n\n")
        if schema.get("description"):
            lines.append(f"{_line(schema['description'])}\n\n")
        short = ", ".join(f"`{name}`" for name in (names["plural"], *names.get("shortNames", ())))
        lines.append(f"For kubectl: {short}.\n")
        for part in ("spec", "status"):
            lines.append(f"\n### {names['kind']}: {part}\n\n| field | type | meaning |\n|---|---|---|\n")
            lines += [_row(*row) for row in _fields(schema["properties"][part], "")]
    return "".join(lines)


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    required = set(schema.get("required") or ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield f"`{path}`", _type(field), _meaning(field, required=name in required)
        yield from _fields(field, f"{path}.")
        if field.get("items", {}).get("properties"):
            yield from _fields(field["items"], f"{path}[].")


def _type(field: Mapping[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", "any"))


def _meaning(field: Mapping[str, Any], *, required: bool) -> str:
    parts = ["**Required.**"] if required else []
    parts += [_sentence(field["description"])] if field.get("description") else []
    if field.get("enum"):
        parts.append("One of " + ", ".join(f"`{word}`" for word in field["enum"] if word) + ".")
    if "default" in field:
        parts.append(f"Default `{field['default']}`.")
    limits = [f"{words} {field[key]}" for key, words in _LIMITS.items() if key in field]
    parts += [f"{', '.join(limits).capitalize()}."] if limits else []
    parts += [
        _sentence(rule["message"])
        for rule in field.get("x-kubernetes-validations") or ()
        if rule.get("message")
    ]
    return " ".join(parts)


_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "maxLength": "characters at most",
    "maxItems": "entries at most",
    "pattern": "pattern",
}


def _sentence(text: str) -> str:
    words = _line(text)
    return words if words.endswith(".") else f"{words}."


def _line(text: str) -> str:
    return " ".join(text.split())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"
