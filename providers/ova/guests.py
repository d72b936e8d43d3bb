"""From what a descriptor calls the guest system to what Harvester wants to know of it. Pure."""

from __future__ import annotations

# Values: what Harvester's web UI offers for the label `harvesterhci.io/os` (harvester/dashboard,
# pkg/harvester/mixins/harvester-vm/index.js). Keys: parts of VMware's identifiers (`ubuntu64Guest`), of
# VirtualBox's (`Ubuntu_64`) and of descriptions (`Microsoft Windows Server 2019 (64-bit)`), lower-case
# letters only; the first that fits counts, so `opensuse` stands before `suse`, `darwin` before `win`.
_OS_LABELS: tuple[tuple[str, str | None], ...] = (
    ("darwin", None),
    ("windows", "windows"),
    ("winn", "windows"),  # winNetStandardGuest, winNTGuest
    ("winlonghorn", "windows"),
    ("winvista", "windows"),
    ("winxp", "windows"),
    ("ubuntu", "ubuntu"),
    ("debian", "debian"),
    ("fedora", "fedora"),
    ("rhel", "redhat"),
    ("redhat", "redhat"),
    ("oracle", "oracle"),
    ("opensuse", "openSUSE"),
    ("sles", "SLEs"),
    ("sled", "SLEs"),
    ("suse", "SLEs"),
    ("nld", "SLEs"),
    ("centos", "otherLinux"),
    ("almalinux", "otherLinux"),
    ("rocky", "otherLinux"),
    ("amazonlinux", "otherLinux"),
    ("photon", "otherLinux"),
    ("coreos", "otherLinux"),
    ("archlinux", "otherLinux"),
    ("gentoo", "otherLinux"),
    ("mandriva", "otherLinux"),
    ("turbolinux", "otherLinux"),
    ("otherlinux", "otherLinux"),
    ("linux", "linux"),
)
# CIM_OperatingSystem.OSType (DSP0004's schema), where only the number is given.
_BY_NUMBER = {
    36: "linux", 58: "windows", 67: "windows", 69: "windows", 70: "windows", 71: "windows", 72: "windows",
    73: "windows", 74: "windows", 76: "windows", 77: "windows", 79: "redhat", 80: "redhat", 82: "SLEs",
    83: "SLEs", 84: "SLEs", 85: "SLEs", 86: "SLEs", 87: "SLEs", 93: "ubuntu", 94: "ubuntu", 95: "debian",
    96: "debian", 97: "linux", 98: "linux", 99: "linux", 100: "linux", 101: "linux", 103: "windows",
    105: "windows", 106: "otherLinux", 107: "otherLinux", 108: "oracle", 109: "oracle", 111: "windows",
    112: "windows", 113: "windows", 114: "windows", 115: "windows", 116: "windows", 117: "windows",
    118: "windows", 119: "windows", 120: "windows", 121: "windows",
}  # fmt: skip


def os_label(words: str, number: int | None) -> str | None:
    """Return the value of `harvesterhci.io/os`; `None` when it is none that the UI knows.

    Args:
        words: The vendor's identifier, or a description.
        number: The standard's number, for descriptors without words.
    """
    plain = "".join(character for character in words.lower() if character.isalpha())
    for part, label in _OS_LABELS:
        if part in plain:
            return label
    return _BY_NUMBER.get(number or 0)


def clock_offset(label: str | None) -> str:
    """Return `localtime` for Windows, which keeps local time in the hardware clock; else `utc`."""
    return "localtime" if label == "windows" else "utc"
