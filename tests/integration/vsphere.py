"""A plain vSphere client for the tests of the lab's vCenter: pyVmomi and urllib3, and nothing of ours."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from pyVim import connect
from pyVmomi import vim

from tests.unit.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.vcenter import VCenter

READ_TIMEOUT_SECONDS = 30


@contextmanager
def session(vcenter: VCenter, *, password: str | None = None, log_out: bool = True) -> Iterator[Any]:
    """Log in, yield the ServiceInstance, and log out (or just hang up)."""
    address = urlsplit(vcenter.sdk_url)
    stub = connect.SmartStubAdapter(
        host=address.hostname, port=address.port, sslContext=trust(vcenter), connectionPoolTimeout=-1
    )
    try:
        service: Any = vim.ServiceInstance("ServiceInstance", stub)
        service.content.sessionManager.Login(vcenter.username, password or vcenter.password)
        yield service
        if log_out:
            service.content.sessionManager.Logout()
    finally:
        stub.DropConnections()


def trust(vcenter: VCenter) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=vcenter.ca_pem)


def find_vm(service: Any, path: str) -> Any:
    """Return the VM at the inventory path below `/DC0/vm`, or at a full one."""
    full = path if path.startswith("/") else f"/DC0/vm/{path}"
    found = service.content.searchIndex.FindByInventoryPath(full)
    assert found is not None, full
    return found


def wait_for(task: Any) -> Any:
    """Return the result of a task; raise the fault it ended with."""
    eventually(lambda: task.info.state in ("success", "error"))
    if task.info.state == "error":
        raise task.info.error
    return task.info.result


def ready(lease: Any) -> list[Any]:
    """Wait until a lease is ready and return its deviceUrls."""
    eventually(lambda: lease.state != vim.HttpNfcLease.State.initializing)
    assert lease.state == vim.HttpNfcLease.State.ready, lease.error
    return list(lease.info.deviceUrl)


@contextmanager
def get(vcenter: VCenter, url: str, **options: Any) -> Iterator[urllib3.BaseHTTPResponse]:
    """Ask for a file of a lease, trusting the lab's CA, without retries."""
    with urllib3.PoolManager(ssl_context=trust(vcenter)) as pool:
        timeout = urllib3.Timeout(connect=5, read=options.pop("read_timeout", READ_TIMEOUT_SECONDS))
        response = pool.request("GET", url, preload_content=False, retries=False, timeout=timeout, **options)
        try:
            yield response
        finally:
            response.close()


def fetch(vcenter: VCenter, url: str) -> bytes:
    with get(vcenter, url) as response:
        assert response.status == 200
        return response.read()


def to_raw(vmdk: Path) -> bytes:
    """Return what QEMU reads in a VMDK."""
    raw = vmdk.with_suffix(".raw")
    argv = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(vmdk), str(raw)]
    subprocess.run(argv, check=True, capture_output=True)
    return raw.read_bytes()
