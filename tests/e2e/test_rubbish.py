"""What people mistype: refused when it is applied, or told in status; never a traceback in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.e2e.tenants import wait_for_reason
from tests.lab.errors import LabError
from tests.lab.kube_api import ApiError
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMESPACE: Final = "rubbish"
SECONDS: Final = 180
MOST: Final = 9223372036854775807  # an int64
PLURALS: Final = {
    "VirtualMachineImport": "virtualmachineimports",
    "VmwareSource": "vmwaresources",
    "OpenstackSource": "openstacksources",
    "OvaSource": "ovasources",
}
GOOD: Final[Mapping[str, Mapping[str, Any]]] = {
    "VirtualMachineImport": vm_import(NAMESPACE, "x", "web")["spec"],
    "VmwareSource": {"endpoint": "https://vc.invalid/sdk", "dc": "DC0", "credentials": {"name": "login"}},
    "OpenstackSource": {"endpoint": "https://os.invalid", "region": "R", "credentials": {"name": "login"}},
    "OvaSource": {"url": "https://files.invalid/a.ova"},
}


def an_import(**spec: Any) -> tuple[str, dict[str, Any]]:
    return "VirtualMachineImport", spec


def from_source(**reference: Any) -> tuple[str, dict[str, Any]]:
    return an_import(sourceCluster={"kind": "VmwareSource", "name": "vcenter", **reference})


def mapped(source: str, destination: str) -> tuple[str, dict[str, Any]]:
    return an_import(networkMapping=[{"sourceNetwork": source, "destinationNetwork": destination}])


# A `None` leaves a field out.
REFUSED: Final = {
    "no source": (an_import(sourceCluster=None), "spec.sourceCluster: Required value"),
    "no name of a VM": (an_import(virtualMachineName=None), "spec.virtualMachineName: Required value"),
    "a source without a name": (from_source(name=""), "spec.sourceCluster.name"),
    "an unknown kind of source": (
        from_source(kind="ProxmoxSource"),
        "must be VmwareSource, OpenstackSource or OvaSource",
    ),
    "a negative time": (an_import(gracefulShutdownTimeoutSeconds=-1), "greater than or equal to 0"),
    "a number as text": (an_import(gracefulShutdownTimeoutSeconds="60"), "must be of type integer"),
    "a number beyond any": (an_import(gracefulShutdownTimeoutSeconds=10**30), "must be of type integer"),
    "a truth as text": (an_import(forcePowerOff="yes"), "must be of type boolean"),
    "an unknown bus": (an_import(defaultDiskBusType="ide"), 'supported values: "", "sata"'),
    "an unknown card": (an_import(defaultNetworkInterfaceModel="vmxnet3"), 'supported values: "", "e1000"'),
    "an unknown strategy": (an_import(targetRunStrategy="Sometimes"), 'supported values: "", "RerunOn'),
    "a name that is none": (an_import(targetName="My VM"), "must be lower-case letters, digits"),
    "memory that is none": (an_import(overrides={"memory": "lots"}), "must be a quantity of at least 10Mi"),
    "memory without its unit": (an_import(overrides={"memory": "4096"}), "a quantity of at least 10Mi"),
    "memory below zero": (an_import(overrides={"memory": "-1Gi"}), "must be a quantity of at least 10Mi"),
    "no CPU": (an_import(overrides={"cpuCores": 0}), "greater than or equal to 1"),
    "too many CPUs": (an_import(overrides={"cpuCores": MOST}), "less than or equal to 1024"),
    "an exception for no disk": (an_import(diskMapping=[{"skip": True}]), "sourceDisk: Required value"),
    "a mapping to nowhere": (
        an_import(networkMapping=[{"sourceNetwork": "a"}]),
        "destinationNetwork: Required value",
    ),
    "a mapping that is none": (an_import(networkMapping="a:b"), "must be of type array"),
    "a file that is none": (("OvaSource", {"url": "ftp://x/a.ova"}), "must start with http:// or https://"),
    "a negative silence": (("OvaSource", {"httpTimeoutSeconds": -1}), "greater than or equal to 0"),
    "no endpoint": (("VmwareSource", {"endpoint": ""}), "spec.endpoint"),
    "no transfers": (("VmwareSource", {"maxConcurrentTransfers": 0}), "greater than or equal to 1"),
    "a rate of nothing": (("OpenstackSource", {"maxBytesPerSecond": 1}), "greater than or equal to 1048576"),
    "no region": (("OpenstackSource", {"region": None}), "spec.region: Required value"),
}
TOLD: Final = {
    "a source in another namespace's clothes": (from_source(namespace="No Such/Place"), "SourceNotFound"),
    "a source above": (from_source(name=".."), "SourceNotFound"),
    "a source with a path": (from_source(name="../vcenter"), "SourceNotFound"),
    "a source of spaces": (from_source(name="my vcenter"), "SourceNotFound"),
    "a class above": (an_import(storageClass=".."), "StorageClassNotFound"),
    "a class of spaces": (an_import(storageClass="Fast Disks"), "StorageClassNotFound"),
    "a class of a disk": (
        an_import(diskMapping=[{"sourceDisk": "scsi0:0", "storageClass": "a/b"}]),
        "StorageClassNotFound",
    ),
    "a network of spaces": (mapped("Servers", "My Network"), "DestinationNetworkMalformed"),
    "a network above": (mapped("Servers", "../x"), "DestinationNetworkMalformed"),
    "a network without a name": (mapped("", "mgmt"), "SourceNetworkNotFound"),
    "no VM": (an_import(virtualMachineName=""), "SourceVMNotFound"),
    "a VM above": (an_import(virtualMachineName="../../x"), "SourceVMNotFound"),
    "a VM of lines": (an_import(virtualMachineName="a\nb\0c"), "SourceVMNotFound"),
    "a long VM": (an_import(virtualMachineName="x" * 1024), "SourceVMNotFound"),
    "a folder above": (an_import(folder="../.."), "SourceVMNotFound"),
    "an endpoint of words": (("VmwareSource", {"endpoint": "my vcenter"}), "InvalidEndpoint"),
    "an endpoint of another kind": (("VmwareSource", {"endpoint": "ldap://x"}), "InvalidEndpoint"),
    "an endpoint beyond all ports": (("VmwareSource", {"endpoint": "x:99999"}), "InvalidEndpoint"),
    "a cloud of words": (("OpenstackSource", {"endpoint": "my cloud"}), "InvalidEndpoint"),
    "a file of no host": (("OvaSource", {"url": "https://"}), "InvalidEndpoint"),
    "a Secret above": (("VmwareSource", {"credentials": {"name": ".."}}), "SecretNotFound"),
    "no Secret": (("VmwareSource", {"credentials": {}}), "SecretNotFound"),
    "a Secret without a name": (("OpenstackSource", {"credentials": {"name": ""}}), "SecretNotFound"),
    "endless patience": (
        ("OvaSource", {"url": "http://127.0.0.1:9/a.ova", "httpTimeoutSeconds": MOST}),
        "Unreachable",
    ),
    "endless looks": (
        (
            "OpenstackSource",
            {"endpoint": "http://127.0.0.1:9", "uploadImageRetryCount": MOST, "uploadImageRetryDelay": MOST},
        ),
        "Unreachable",
    ),
}
UNSET: Final = {
    "folder": "",
    "networkMapping": [],
    "defaultNetworkInterfaceModel": "",
    "storageClass": "",
    "defaultDiskBusType": "",
    "forcePowerOff": None,
    "gracefulShutdownTimeoutSeconds": None,
    "skipPreflightChecks": None,
    "targetName": "",
    "targetRunStrategy": "",
    "onFailure": {"restoreSourcePower": None},
    "diskMapping": [{"sourceDisk": "scsi0:0", "storageClass": "", "bus": ""}],
    "overrides": {"memory": ""},
}


def manifest(
    kind: str, name: str, spec: Mapping[str, Any], *, namespace: str = NAMESPACE, keep_null: bool = False
) -> dict[str, Any]:
    whole = {**GOOD[kind], **spec}
    kept = {field: value for field, value in whole.items() if keep_null or value is not None}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": kept}


def collection(kind: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/{PLURALS[kind]}"


@pytest.fixture(scope="module")
def told(scene: Scene) -> Iterator[Mapping[str, dict[str, Any]]]:
    """The status of everything that the cluster takes, by the words of its case, once each has said so."""
    cluster, api = scene.control_plane, scene.control_plane.api
    cluster.kubectl("create", "namespace", NAMESPACE)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": NAMESPACE}}
    keys = ("username", "password", "project_name", "domain_name")
    cluster.apply(
        [
            *vmware_source(scene.vcenter, NAMESPACE),
            {**secret, "stringData": {key: f"some-{key}" for key in keys}},
        ]
    )
    wait_for_reason(scene, NAMESPACE, "Verified")
    scene.add_guest_vm("web of rubbish")
    paths = {}
    for number, (words, ((kind, spec), _)) in enumerate(TOLD.items()):
        if kind == "VirtualMachineImport":
            spec = {"virtualMachineName": "web of rubbish", **spec}  # noqa: PLW2901
        api.create(collection(kind), manifest(kind, f"n{number}", spec))
        paths[words] = f"{collection(kind)}/n{number}"
    found: dict[str, dict[str, Any]] = {}

    def all_said() -> bool:
        found.update((words, api.get(path).get("status") or {}) for words, path in paths.items())
        return all(reasons(found[words]) & {reason} for words, (_, reason) in TOLD.items())

    try:
        wait_until(all_said, what="all to be told", timeout_seconds=SECONDS)
    except LabError as exc:
        exc.add_note(json.dumps({words: sorted(reasons(status)) for words, status in found.items()}))
        raise
    yield found
    scene.note_objects(NAMESPACE)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def reasons(status: Mapping[str, Any]) -> set[str]:
    """Return all reasons of a status: of its conditions and of its findings."""
    return {entry["reason"] for entry in status.get("conditions") or ()} | {
        finding["id"] for finding in status.get("preflight") or ()
    }


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_with_a_word_why(scene: Scene, case: str) -> None:
    (kind, spec), words = REFUSED[case]
    path = collection(kind).replace(NAMESPACE, "default")
    with pytest.raises(ApiError) as refused:
        scene.control_plane.api.create(f"{path}?dryRun=All", manifest(kind, "x", spec, namespace="default"))
    assert words in str(refused.value)


@pytest.mark.parametrize("case", TOLD)
def test_what_does_not_exist_is_told(told: Mapping[str, dict[str, Any]], case: str) -> None:
    _, reason = TOLD[case]
    assert reason in reasons(told[case])


@pytest.mark.usefixtures("told")
def test_nothing_of_it_is_a_traceback_in_the_log(scene: Scene) -> None:
    lines = [line for line in scene.controller.lines() if NAMESPACE in str(line)]
    assert lines
    assert [line for line in lines if "exception" in line or line.get("level") == "error"] == []


@pytest.mark.usefixtures("told")
def test_empty_texts_and_nulls_mean_unset(scene: Scene) -> None:
    spec = {**UNSET, "virtualMachineName": "web of rubbish"}
    kind = "VirtualMachineImport"
    scene.control_plane.api.create(collection(kind), manifest(kind, "unset", spec, keep_null=True))
    status = scene.wait_for_phase("unset", "Succeeded", "Invalid", "Failed", namespace=NAMESPACE)
    assert status["importStatus"] == "virtualMachineRunning"
