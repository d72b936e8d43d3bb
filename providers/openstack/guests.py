"""From libosinfo's short names, which images carry in `os_distro`, to what Harvester wants to know. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from providers.openstack.facts import JSON

# Values: what Harvester's web UI offers for `harvesterhci.io/os`. Keys: values of Glance's `os_distro`
# (docs.openstack.org/glance/latest/admin/useful-image-properties.html).
_OS_LABELS = {
    "windows": "windows",
    "ubuntu": "ubuntu",
    "debian": "debian",
    "fedora": "fedora",
    "rhel": "redhat",
    "oraclelinux": "oracle",
    "opensuse": "openSUSE",
    "sled": "SLEs",
    "sles": "SLEs",
}


def os_label(hints: JSON) -> str | None:
    """Return the value of `harvesterhci.io/os`, if the image tells its system."""
    distribution = str(hints.get("os_distro") or "").lower()
    if distribution in _OS_LABELS:
        return _OS_LABELS[distribution]
    kind = str(hints.get("os_type") or "").lower()
    if kind == "windows":
        return "windows"
    return "otherLinux" if kind == "linux" else None


def guest_os(hints: JSON) -> str | None:
    """Return distribution (or type) and version, for people."""
    words = (hints.get("os_distro") or hints.get("os_type"), hints.get("os_version"))
    return " ".join(str(word) for word in words if word) or None


def clock_offset(hints: JSON) -> str:
    """Return `localtime` for Windows, as Nova itself does by `os_type`; else `utc`."""
    return "localtime" if os_label(hints) == "windows" else "utc"
