from __future__ import annotations

import hashlib
import ssl

import pytest
from pyVmomi import vim

from providers.errors import ExportFailed
from providers.vmware.endpoint import Endpoint
from providers.vmware.nfc import disk_key, disk_urls

VCENTER = Endpoint("vcenter.example.com", 8443)


def device_url(key: str, url: str = "https://esx1/nfc/ticket/disk-0.vmdk", **more: object) -> object:
    return vim.HttpNfcLease.DeviceUrl(**{"key": key, "importKey": "", "url": url, "disk": True} | more)


@pytest.mark.parametrize(
    ("device_key", "key"),
    [
        ("/vm-70/ParaVirtualSCSIController0:1", "scsi0:1"),
        ("/vm-70/VirtualLsiLogicController2:15", "scsi2:15"),
        ("/vm-70/VirtualLsiLogicSASController1:0", "scsi1:0"),
        ("/vm-70/VirtualBusLogicController0:0", "scsi0:0"),
        ("/8/VirtualLsiLogicController0:0", "scsi0:0"),  # ESXi: a bare number
        ("/vm-70/VirtualIDEController1:0", "ide1:0"),
        ("/vm-70/VirtualAHCIController0:3", "sata0:3"),
        ("/vm-70/VirtualNVMEController0:0", "nvme0:0"),
        ("/vm-70/VirtualUSBXHCIController0:1", "usb0:1"),
        ("/vm-70/nvram", None),
        ("", None),
        (None, None),
    ],
)
def test_a_device_key_says_which_disk_it_is(device_key: str | None, key: str | None) -> None:
    assert disk_key(device_key) == key


def test_disks_are_told_by_key_whatever_their_order_and_file_names() -> None:
    urls = disk_urls(
        [
            device_url(
                "/vm-7/ParaVirtualSCSIController0:1", "https://esx1/nfc/t/disk-0.vmdk", targetId="disk-0.vmdk"
            ),
            device_url("/vm-7/nvram", "https://esx1/nfc/t/disk-1.nvram", disk=False),
            device_url("/vm-7/VirtualIDEController1:0", "https://esx1/nfc/t/disk-2.iso", disk=False),
            device_url(
                "/vm-7/ParaVirtualSCSIController0:0", "https://esx1/nfc/t/disk-3.vmdk", targetId="disk-0.vmdk"
            ),
        ],
        VCENTER,
    )

    assert {key: url.target for key, url in urls.items()} == {
        "scsi0:1": "/nfc/t/disk-0.vmdk",
        "scsi0:0": "/nfc/t/disk-3.vmdk",
    }


def test_the_import_key_counts_where_the_key_says_nothing() -> None:
    urls = disk_urls([device_url("52ab", importKey="/web/ParaVirtualSCSIController0:0")], VCENTER)

    assert list(urls) == ["scsi0:0"]


def test_a_star_means_the_endpoints_host_and_port() -> None:
    urls = disk_urls(
        [device_url("/8/VirtualIDEController0:0", "https://*/ha-nfc/t/disk-0.vmdk?x=1")], VCENTER
    )

    url = urls["ide0:0"]
    assert (url.host, url.port, url.target, url.at_endpoint) == (
        "vcenter.example.com",
        8443,
        "/ha-nfc/t/disk-0.vmdk?x=1",
        True,
    )


@pytest.mark.parametrize("host", ["esx1", "vcenter.example.com", "vcenter.example.com:443"])
def test_only_the_endpoints_own_host_and_port_is_the_endpoint(host: str) -> None:
    urls = disk_urls(
        [device_url("/vm-7/VirtualIDEController0:0", f"https://{host}/nfc/t/disk-0.vmdk")], VCENTER
    )

    assert not urls["ide0:0"].at_endpoint


def test_a_thumbprint_is_kept_in_one_form() -> None:
    urls = disk_urls([device_url("/vm-7/VirtualIDEController0:0", sslThumbprint="AB:CD:" * 10)], VCENTER)

    assert urls["ide0:0"].fingerprint == "abcd" * 10


@pytest.mark.parametrize(
    "url", ["http://esx1/nfc/t/disk-0.vmdk", "https://[::", "disk-0.vmdk", "https:///nfc/x"]
)
def test_an_url_that_is_not_https_ends_the_export(url: str) -> None:
    with pytest.raises(ExportFailed):
        disk_urls([device_url("/vm-7/VirtualIDEController0:0", url)], VCENTER)


def test_the_ticket_in_a_url_is_never_shown() -> None:
    (url,) = disk_urls(
        [device_url("/vm-7/VirtualIDEController0:0", "https://esx1/nfc/s3cret/disk")], VCENTER
    ).values()

    assert "s3cret" not in repr(url)


def test_a_certificate_in_the_lease_counts_before_its_thumbprint() -> None:
    der = b"any bytes: only their digest counts"
    pem = f"  {ssl.DER_cert_to_PEM_cert(der)}\n"
    more = {"sslCertificate": pem, "sslThumbprint": "AB:CD:" * 10}

    urls = disk_urls([device_url("/vm-7/VirtualIDEController0:0", **more)], VCENTER)

    assert urls["ide0:0"].fingerprint == hashlib.sha256(der).hexdigest()


def test_a_certificate_that_is_none_ends_the_export() -> None:
    with pytest.raises(ExportFailed, match="not PEM"):
        disk_urls([device_url("/vm-7/VirtualIDEController0:0", sslCertificate="MIIB")], VCENTER)
