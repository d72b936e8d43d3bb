"""Objects of the API, as the tests of pure functions need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from controller.api.types import VirtualMachineImport

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
UID = "7f3c1f0e-1111-4222-8333-444455556666"


def import_object(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "migration.harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImport",
        "metadata": {"namespace": "default", "name": "web", "uid": UID, "generation": 1, **metadata},
        "spec": {
            "virtualMachineName": "web",
            "sourceCluster": {"kind": "VmwareSource", "name": "vc", "namespace": "default"},
            **(spec or {}),
        },
        "status": status or {},
    }


def an_import(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> VirtualMachineImport:
    return VirtualMachineImport.from_object(import_object(spec, status, **metadata))
