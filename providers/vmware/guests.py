"""From vSphere's guest identifiers to what Harvester and KubeVirt want to know of the guest. Pure."""

from __future__ import annotations

# Values: what Harvester's web UI offers for the label `harvesterhci.io/os` (harvester/dashboard,
# pkg/harvester/mixins/harvester-vm/index.js). Keys: prefixes of VirtualMachineGuestOsIdentifier, lower-case;
# the first that fits counts, so `opensuse` stands before `suse`. Systems without a value there get no label.
_OS_LABELS = (
    ("win", "windows"),
    ("ubuntu", "ubuntu"),
    ("debian", "debian"),
    ("fedora", "fedora"),
    ("rhel", "redhat"),
    ("redhat", "redhat"),
    ("oraclelinux", "oracle"),
    ("opensuse", "openSUSE"),
    ("sles", "SLEs"),
    ("sled", "SLEs"),
    ("sjds", "SLEs"),  # Sun Java Desktop System, a SLED
    ("suse", "SLEs"),
    ("nld", "SLEs"),  # Novell Linux Desktop
    ("oes", "SLEs"),  # Open Enterprise Server
    ("genericlinux", "linux"),
)
# Linux systems for which the UI has only "Other Linux" (its own example is CentOS).
_OTHER_LINUX = (
    "almalinux", "amazonlinux", "asianux", "centos", "coreos", "crx", "flatcar", "fusionos", "kylin",
    "mandrake", "mandriva", "miraclelinux", "pardus", "prolinux", "rockylinux", "turbolinux", "vmwarephoton",
)  # fmt: skip


def os_label(guest_id: str | None) -> str | None:
    """Return the value of `harvesterhci.io/os` for a guest identifier such as `ubuntu64Guest`."""
    identifier = (guest_id or "").lower()
    for prefix, label in _OS_LABELS:
        if identifier.startswith(prefix):
            return label
    if identifier.startswith(_OTHER_LINUX) or (identifier.startswith("other") and "linux" in identifier):
        return "otherLinux"
    return None


def clock_offset(guest_id: str | None) -> str:
    """Return `localtime` for Windows, which keeps local time in the hardware clock; else `utc`."""
    return "localtime" if os_label(guest_id) == "windows" else "utc"
