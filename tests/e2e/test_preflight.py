"""Preflight of VMware imports: everything that is the matter is told before anything is touched.

The scenarios are the table in `preflight_rules`: all made and checked at once; each test looks at its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.preflight_rules import (
    CRITICAL,
    DISK,
    DISTRIBUTED,
    FOLDER,
    RULES,
    SWITCH,
    TAKEN_MAC,
    VAULT,
    WARNING,
    Rule,
)
from tests.e2e.tenants import wait_for_reason
from tests.lab import crds, streamvmdk
from tests.lab.errors import LabError
from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, PORT_GROUP, VLAN, Scene, vm_import, vmware_source
from tests.lab.vcenter_model import NIC, VM

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMESPACE: Final = "preflight"
IMPORTS: Final = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/virtualmachineimports"
MACHINES: Final = f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/virtualmachines"
SECONDS: Final = 300
POWER: Final = {"off": "poweredOff", "on": "poweredOn", "suspended": "suspended"}


@dataclass(frozen=True, slots=True)
class Checked:
    """An import that Preflight has judged: the VM, and the import's name and status."""

    rule: Rule
    vm: VM
    name: str
    status: Mapping[str, Any]

    def condition(self, kind: str) -> dict[str, Any]:
        return next((dict(entry) for entry in self.status["conditions"] if entry["type"] == kind), {})


@pytest.fixture(scope="module")
def checked(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Checked]]:
    """Every rule's import, by the rule's words, as soon as all of them are judged."""
    cluster = scene.control_plane
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.apply(
        [
            *vmware_source(scene.vcenter, NAMESPACE),
            crds.network_attachment(NAMESPACE, VLAN),
            crds.storage_class(VAULT, parameters={"encrypted": "true"}),
            taken(),
        ]
    )
    scene.vcenter.add_network(DISTRIBUTED, switch=SWITCH)
    vmdk = tmp_path_factory.mktemp("preflight") / "disk.vmdk"
    streamvmdk.encode(b"preflight".ljust(1 << 20, b"\0"), vmdk)
    made = {words: make(scene, rule, number, vmdk) for number, (words, rule) in enumerate(RULES.items())}
    wait_for_reason(scene, NAMESPACE, "Verified")
    cluster.apply([manifest for _, manifest in made.values()])
    statuses: dict[str, dict[str, Any]] = {}

    def judged() -> bool:
        threading.Event().wait(0.5)  # the list is a long one
        for item in cluster.api.items(IMPORTS):
            statuses[item["metadata"]["name"]] = item.get("status") or {}
        return all(status.get("phase", "Preflight") != "Preflight" for status in statuses.values())

    wait_until(judged, what="a verdict on every import", timeout_seconds=SECONDS)
    for words, (_, manifest) in made.items():
        if RULES[words].passes and not RULES[words].target:  # its verdict is all that is wanted of it
            cluster.api.delete(f"{IMPORTS}/{manifest['metadata']['name']}")
    yield {
        words: Checked(RULES[words], vm, manifest["metadata"]["name"], statuses[manifest["metadata"]["name"]])
        for words, (vm, manifest) in made.items()
    }
    cluster.kubectl("delete", "storageclass", VAULT)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def make(scene: Scene, rule: Rule, number: int, vmdk: Path) -> tuple[VM, dict[str, Any]]:
    """Make the VM of a rule and return it with its import, which is not applied yet."""
    folder, name = f"{FOLDER}/{number}", rule.vm_name or f"rule {number}"
    options: dict[str, Any] = {"disks": [DISK], "nics": [NIC(PORT_GROUP)], **rule.vm}
    options["disks"] = [replace(disk, file=vmdk) for disk in options["disks"]]
    options["nics"] = [
        nic if nic.mac else replace(nic, mac=f"00:50:56:99:{number:02x}:{place:02x}")
        for place, nic in enumerate(options["nics"])
    ]
    vm = scene.vcenter.add_vm(name, folder=folder, **options)
    if rule.twin:
        scene.vcenter.add_vm(name, folder=f"twins/{number}")
    spec = json.loads(_fill_in(json.dumps(rule.spec), vm, folder))
    wanted = {"targetRunStrategy": "Halted", **spec}
    return vm, vm_import(NAMESPACE, f"rule-{number}", wanted.pop("virtualMachineName", name), **wanted)


def _fill_in(text: str, vm: VM, folder: str = "") -> str:
    known = {"moref": vm.moref, "uuid": vm.instance_uuid, "namespace": NAMESPACE, "folder": folder}
    for name, value in known.items():
        text = text.replace("{" + name + "}", value)
    return text


def taken() -> dict[str, Any]:
    """Return a VM of the namespace, whose name and MAC address are taken thereby."""
    interface = {"name": "nic-0", "masquerade": {}, "macAddress": TAKEN_MAC}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "taken", "namespace": NAMESPACE},
        "spec": {
            "runStrategy": "Halted",
            "template": {
                "spec": {
                    "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [interface]}},
                    "networks": [{"name": "nic-0", "pod": {}}],
                }
            },
        },
    }


@pytest.mark.parametrize("words", RULES)
def test_preflight_tells_that(checked: Mapping[str, Checked], words: str) -> None:
    case = checked[words]
    told = case.status.get("preflight") or ()

    assert len({(finding["id"], finding["message"]) for finding in told}) == len(told)
    assert {finding["id"]: finding["severity"] for finding in told} == dict(case.rule.finds)
    assert all(finding["message"] and finding["remedy"].endswith(".") for finding in told)
    everything = "; ".join(f"{finding['message']} {finding['remedy']}" for finding in told)
    for saying in case.rule.says:
        assert _fill_in(saying, case.vm) in everything
    verdict = case.condition("PreflightPassed")
    if case.rule.passes:
        assert (verdict["status"], verdict["reason"]) == ("True", "ChecksPassed")
        expected, by = WARNING, "id"  # the words stand in Events of their own
    else:
        assert (verdict["status"], verdict["reason"]) == ("False", "PreflightFailed")
        expected, by = CRITICAL, "message"
    for finding in told:
        if finding["severity"] == expected and "skipPreflightChecks" not in case.rule.spec:
            assert finding[by] in verdict["message"]


STOPPED: Final = [words for words, rule in RULES.items() if not rule.passes]


@pytest.mark.parametrize("words", STOPPED)
def test_an_import_is_stopped_before_its_source_is_touched_because(
    scene: Scene, checked: Mapping[str, Checked], words: str
) -> None:
    case = checked[words]

    assert (case.status["phase"], case.status["importStatus"]) == ("Invalid", "virtualMachineImportInvalid")
    assert "startTime" not in case.status
    source = scene.vcenter.state().vm(case.vm.moref)
    assert source.power_state == POWER[case.rule.vm.get("power_state", "off")]
    assert source.calls == {}
    assert (source.leased, source.snapshots) == (False, case.rule.vm.get("snapshots", 0))


def test_why_an_import_is_stopped_stands_in_its_condition_its_row_and_its_event(
    scene: Scene, checked: Mapping[str, Checked]
) -> None:
    wanted = [
        (case.name, ("Warning", "PreflightFailed", case.condition("Succeeded")["message"]))
        for case in (checked[words] for words in STOPPED)
    ]
    wait_until(
        lambda: missing(events_of(scene), wanted) == [],
        what="an Event of every import that is stopped",
        timeout_seconds=SECONDS,
    )
    rows = scene.control_plane.kubectl("get", "vmimport", "-n", NAMESPACE, "-o", "wide")
    for words in STOPPED:
        case = checked[words]
        summary = case.condition("Succeeded")
        assert (summary["status"], summary["reason"]) == ("False", "PreflightFailed"), words
        assert summary["message"] == case.condition("PreflightPassed")["message"], words
        assert summary["message"] in rows, words


def test_what_does_not_stop_an_import_is_an_event_of_its_own(
    scene: Scene, checked: Mapping[str, Checked]
) -> None:
    wanted = [
        (case.name, ("Warning", finding["id"], finding["message"]))
        for case in checked.values()
        for finding in ((case.status.get("preflight") or ()) if case.rule.passes else ())
        if finding["severity"] == WARNING
    ]
    assert wanted
    wait_until(
        lambda: missing(events_of(scene), wanted) == [],
        what="an Event of each warning",
        timeout_seconds=SECONDS,
    )


def test_what_passes_becomes_a_vm_of_the_name_that_was_chosen(
    scene: Scene, checked: Mapping[str, Checked]
) -> None:
    for case in checked.values():
        if case.rule.target:
            status = scene.wait_for_phase(case.name, "Succeeded", "Failed", namespace=NAMESPACE)
            assert status["phase"] == "Succeeded", status
            assert status["importedVirtualMachineName"] == case.rule.target
            assert scene.control_plane.api.find(f"{MACHINES}/{case.rule.target}")


@pytest.mark.usefixtures("checked")
def test_a_target_name_that_is_none_is_refused_when_it_is_written(scene: Scene) -> None:
    with pytest.raises(LabError, match="must be lower-case letters, digits"):
        scene.control_plane.apply([vm_import(NAMESPACE, "bad-name", "rule 0", targetName="Web_01")])


def missing(
    events: Mapping[str, set[tuple[str, str, str]]], wanted: Sequence[tuple[str, tuple[str, str, str]]]
) -> list[tuple[str, tuple[str, str, str]]]:
    """Return the Events that are not there yet: they are written after the status."""
    return [(name, event) for name, event in wanted if event not in events.get(name, ())]


def events_of(scene: Scene) -> dict[str, set[tuple[str, str, str]]]:
    """Return type, reason and message of Events, by the name of their import."""
    events: dict[str, set[tuple[str, str, str]]] = {}
    for event in scene.control_plane.api.items(f"/api/v1/namespaces/{NAMESPACE}/events"):
        about = event["involvedObject"]["name"]
        events.setdefault(about, set()).add((event["type"], event["reason"], event["message"]))
    return events
