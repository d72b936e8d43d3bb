"""The rows of a `VirtualHardwareSection`: `Item`, and `StorageItem` and `EthernetPortItem` of OVF 2. Pure.

Source: DSP0243 8.1-8.4; resource types of CIM_ResourceAllocationSettingData (DSP1041 and its kin).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from providers.errors import DescriptorInvalid
from providers.ova import units
from providers.ova.xmltree import attribute, children, kind, local, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

CPU, MEMORY, IDE, SCSI, ETHERNET = 3, 4, 5, 6, 10
DISK, OTHER_STORAGE, USB, LOGICAL_DISK, ETHERNET_PORT = 17, 20, 23, 31, 33
CONTROLLERS = frozenset({IDE, SCSI, OTHER_STORAGE, USB})
MAX_ITEMS = 1024  # of one machine; vSphere's largest has about 300
_RANGES = ("min", "max")  # rows that say between what a quantity may be chosen


@dataclass(frozen=True, slots=True)
class Item:
    """One row.

    Attributes:
        fields: Texts by name in lower case, of an element that comes more than once the first.
        id: `InstanceID`.
        type: `ResourceType`.
        settings: Vendors' `Config key="..." value="..."`.
    """

    fields: Mapping[str, str]
    id: str
    type: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """Return a field; empty when it is not there."""
        return self.fields.get(name.lower(), "")

    @property
    def subtype(self) -> str:
        """`ResourceSubType`, lower-case."""
        return self.get("ResourceSubType").lower()

    @property
    def label(self) -> str:
        """What people call it."""
        return self.get("ElementName") or self.get("Caption") or f"item {self.id}"

    def number(self, name: str) -> int | None:
        """Return a field that is a number; `None` when it is none."""
        value = self.get(name)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None  # noqa: PLR2004


def items(hardware: Element, configuration: str) -> tuple[Item, ...]:
    """Return the rows of one configuration.

    A row that names configurations counts in those only, and takes the place of the row with the same
    InstanceID that names none (DSP0243, "DeploymentOptionSection").

    Raises:
        DescriptorInvalid: a row has no resource type, or there are too many.
    """
    chosen: dict[str, tuple[bool, Item]] = {}
    rows = children(hardware, "Item", "StorageItem", "EthernetPortItem")
    for number, element in enumerate(rows, start=1):
        if number > MAX_ITEMS:
            raise DescriptorInvalid(f"a machine has more than {MAX_ITEMS} hardware items")
        if attribute(element, "bound").lower() in _RANGES:
            continue
        wanted = attribute(element, "configuration").split()
        if wanted and configuration not in wanted:
            continue
        item = _item(element, number)
        specific, _ = chosen.get(item.id, (False, item))
        if wanted or not specific:
            if item.id in chosen and bool(wanted) == specific:
                raise DescriptorInvalid(f"two hardware items have the InstanceID {item.id!r}")
            chosen[item.id] = bool(wanted), item
    return tuple(item for _, item in chosen.values())


def _item(element: Element, number: int) -> Item:
    fields: dict[str, str] = {}
    settings: dict[str, str] = {}
    for entry in element:
        if kind(entry) in ("Config", "ExtraConfig"):
            settings[attribute(entry, "key")] = attribute(entry, "value")
        else:
            fields.setdefault(local(entry.tag).lower(), text(entry))
    identifier = fields.get("instanceid") or f"#{number}"
    what = f"the ResourceType of hardware item {identifier}"
    return Item(fields, identifier, units.whole_number(fields.get("resourcetype", ""), what), settings)
