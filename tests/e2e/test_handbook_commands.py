"""Every command of README and handbook that needs no pod, typed as it stands there by somebody in trouble."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.tenants import wait_for_reason
from tests.handbook import commands
from tests.lab.scene import Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMESPACE: Final = "handbook"
HERE: Final = [command for command in commands.all_commands() if not commands.where_else(command)]
# What is only tried: it would install a second controller, or has unfilled angle brackets.
TRIED: Final = {
    "helm install ": "--dry-run=server --take-ownership",  # of the account that the lab has made already
    "kubectl apply ": "--dry-run=server",
    "helm template ": "--dry-run=server",  # of the `kubectl apply` in its end
}
# Words that a command has to print, where it is not enough that it succeeds.
PRINTS: Final = {
    "kubectl get vmimport -o wide": "NAME STATUS PROGRESS PHASE SOURCE VM MESSAGE AGE web virtualMachine",
    "kubectl get vmwaresource -o wide": "STATUS ENDPOINT MESSAGE vcenter clusterReady",
    "kubectl describe vmimport NAME": "Preflight: Disk Import Status: Conditions: Events:",
    "kubectl get vmimport NAME -o jsonpath='{.status.conditions": "Succeeded",
    "kubectl get vmimport NAME -o jsonpath='{.status.progress}": '"percent":100 100%',
    "kubectl describe virtualmachineimage NAME": "Imported",
    "kubectl get lease": "holderIdentity",
}

Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def shell(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Runs a command in a namespace with an import that is done, and an invalid one that can be spared."""
    cluster = scene.control_plane
    cluster.kubectl("create", "namespace", NAMESPACE)
    spare_secret, _ = vmware_source(scene.vcenter, NAMESPACE, name="spare")
    cluster.apply([*vmware_source(scene.vcenter, NAMESPACE), spare_secret])
    wait_for_reason(scene, NAMESPACE, "Verified")
    scene.add_guest_vm(NAMESPACE)
    spec: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted"}
    cluster.apply(
        [
            vm_import(NAMESPACE, "web", NAMESPACE, **spec, forcePowerOff=True),
            vm_import(NAMESPACE, "spare", "no such VM", **spec),
        ]
    )
    status = scene.wait_for_phase("web", "Succeeded", namespace=NAMESPACE)
    scene.wait_for_phase("spare", "Invalid", namespace=NAMESPACE)
    kubeconfig = tmp_path_factory.mktemp("handbook") / "kubeconfig"
    shutil.copy(cluster.kubeconfig, kubeconfig)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}", kubeconfig=kubeconfig)
    yield lambda command: _run(command, kubeconfig, status["diskImportStatus"][0]["VirtualMachineImage"])
    scene.note_objects(NAMESPACE)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _run(command: str, kubeconfig: Path, image: str) -> str:
    substitutes = [
        ("patch vmimport NAME", "patch vmimport spare"),
        ("vmimport NAME", "vmimport web"),
        ("vmwaresource NAME", "vmwaresource vcenter"),
        ("virtualmachineimage NAME", f"virtualmachineimage {image}"),
        ("secret NAME -n NAMESPACE", f"secret spare-credentials -n {NAMESPACE}"),
        ("-n infra", f"-n {NAMESPACE}"),
        ("THE-IMPORTS-NAMESPACE", NAMESPACE),
        ("REGISTRY", "registry.example.com"),
    ]
    flags = next((flags for start, flags in TRIED.items() if command.startswith(start)), "")
    return commands.run(f"{command} {flags}", kubeconfig, substitutes)


@pytest.mark.parametrize("command", HERE)
def test_a_command_of_the_handbook_does_what_it_says(shell: Shell, command: str) -> None:
    printed = shell(command)
    for start, words in PRINTS.items():
        if command.startswith(start):
            assert [word for word in words.split() if word not in printed] == []


def test_what_is_said_of_single_commands_is_said_of_some() -> None:
    known = commands.all_commands()
    assert [start for start in PRINTS if not any(command.startswith(start) for command in HERE)] == []
    assert [
        pattern for pattern in commands.ELSEWHERE if not any(re.match(pattern, command) for command in known)
    ] == []
