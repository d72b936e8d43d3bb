from __future__ import annotations

import pytest
from pyVmomi import vim

from providers.vmware.guests import clock_offset, os_label

NOT_LINUX = (
    "darwin", "dos", "eComStation", "freebsd", "netware", "openServer", "os2", "otherGuest", "solaris",
    "unixWare", "vmkernel", "win",
)  # fmt: skip


@pytest.mark.parametrize(
    ("guest_id", "label"),
    [
        ("windows2019srv_64Guest", "windows"),
        ("winNetEnterpriseGuest", "windows"),
        ("win31Guest", "windows"),
        ("ubuntu64Guest", "ubuntu"),
        ("debian11_64Guest", "debian"),
        ("fedora64Guest", "fedora"),
        ("rhel9_64Guest", "redhat"),
        ("oracleLinux8_64Guest", "oracle"),
        ("opensuse64Guest", "openSUSE"),
        ("sles15_64Guest", "SLEs"),
        ("suse64Guest", "SLEs"),
        ("centos7_64Guest", "otherLinux"),
        ("rockylinux_64Guest", "otherLinux"),
        ("other5xLinux64Guest", "otherLinux"),
        ("otherLinuxGuest", "otherLinux"),
        ("genericLinuxGuest", "linux"),
        ("freebsd13_64Guest", None),
        ("otherGuest64", None),
        ("darwin21_64Guest", None),
        ("", None),
        (None, None),
    ],
)
def test_a_guest_has_the_label_that_harvesters_ui_knows(guest_id: str | None, label: str | None) -> None:
    assert os_label(guest_id) == label


def test_every_windows_that_vsphere_knows_keeps_local_time() -> None:
    known = [name for name in vim.vm.GuestOsDescriptor.GuestOsIdentifier.values if name.startswith("win")]

    assert len(known) > 30
    assert {clock_offset(name) for name in known} == {"localtime"}


def test_every_linux_that_vsphere_knows_has_a_label() -> None:
    known = [
        name for name in vim.vm.GuestOsDescriptor.GuestOsIdentifier.values if not name.startswith(NOT_LINUX)
    ]

    assert len(known) > 80
    assert [name for name in known if os_label(name) is None] == []
