"""XML of unknown origin into a tree of limited size, and reading it by local names. Pure.

Namespaces are left aside on purpose: writers of OVF bind any prefix they like, and several of them to the
wrong version of the schema. No name here means two things in two namespaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # the types: defusedxml parses

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from providers.errors import DescriptorInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 4 * 1024 * 1024  # a VM of 60 disks takes 100 KB
MAX_DEPTH = 64  # OVF needs 6, nested collections and vendors' sections some more
MAX_ELEMENTS = 100_000
MAX_TEXT = 1024  # characters of what means something here; vendors' settings may be longer


class _LimitedBuilder(TreeBuilder):
    """Builds a tree and stops at the limits."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._count = 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH:
            raise DescriptorInvalid(f"the OVF descriptor is nested more than {MAX_DEPTH} deep")
        if self._count > MAX_ELEMENTS:
            raise DescriptorInvalid(f"the OVF descriptor has more than {MAX_ELEMENTS} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def parse(data: bytes) -> Element:
    """Return the root element.

    Raises:
        DescriptorInvalid: no well-formed XML, beyond a limit, or with a document type (entities are declared
            there; OVF has none).
    """
    if len(data) > MAX_BYTES:
        raise DescriptorInvalid(f"the OVF descriptor has {len(data)} bytes, more than {MAX_BYTES}")
    parser = DefusedXMLParser(target=_LimitedBuilder(), forbid_dtd=True)
    try:
        parser.feed(data)
        root = parser.close()
    except DefusedXmlException as exc:
        raise DescriptorInvalid("the OVF descriptor declares a document type, which is refused") from exc
    except ParseError as exc:
        line, column = exc.position
        raise DescriptorInvalid(f"the OVF descriptor is not XML, line {line}, column {column}") from exc
    except (ValueError, LookupError, AssertionError) as exc:
        raise DescriptorInvalid("the OVF descriptor is in an encoding that cannot be read") from exc
    if not isinstance(root, Element):
        raise DescriptorInvalid("the OVF descriptor is empty")
    return root


def local(tag: str) -> str:
    """Return the name without its namespace."""
    return tag.rpartition("}")[2]


def kind(element: Element) -> str:
    """Return what an element is: its name; of oVirt's `<Section xsi:type="ovf:X_Type">` the type."""
    name = local(element.tag)
    if name in ("Section", "Content"):
        return attribute(element, "type").rpartition(":")[2].removesuffix("_Type") or name
    return name


def attribute(element: Element, name: str) -> str:
    """Return an attribute by local name, stripped; empty when it is not there, or longer than `MAX_TEXT`."""
    found = next((value.strip() for key, value in element.attrib.items() if local(key) == name), "")
    return found if len(found) <= MAX_TEXT else ""


def children(element: Element, *names: str) -> Iterator[Element]:
    """Yield the children that are one of these."""
    return (child for child in element if kind(child) in names)


def child(element: Element, *names: str) -> Element | None:
    """Return the first child that is one of these."""
    return next(children(element, *names), None)


def text(element: Element | None, name: str = "", limit: int = MAX_TEXT) -> str:
    """Return the text of an element, or of its first child of that name, stripped.

    Empty when there is none, or when it is longer than `limit`.
    """
    found = child(element, name) if element is not None and name else element
    content = (found.text or "").strip() if found is not None else ""
    return content if len(content) <= limit else ""
