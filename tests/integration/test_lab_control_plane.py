from __future__ import annotations

import json
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from tests.lab.control_plane import ControlPlane
from tests.lab.errors import LabError
from tests.lab.processes import running_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own_control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(audit=True) as cluster:
        yield cluster


def test_an_anonymous_request_is_refused(control_plane: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=str(control_plane.authority.certificate))
    with pytest.raises(HTTPError) as refusal:
        urllib.request.urlopen(f"{control_plane.url}/api/v1/namespaces", timeout=60, context=context)
    refusal.value.close()
    assert refusal.value.code == 401


def test_a_user_may_do_only_what_rbac_grants(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.kubeconfig_for_user("jane", groups=["developers"])
    with pytest.raises(LabError, match='User "jane" cannot list resource "secrets"'):
        control_plane.kubectl("-n", namespace, "get", "secrets", kubeconfig=kubeconfig)
    control_plane.kubectl(
        "-n", namespace, "create", "rolebinding", "jane", "--clusterrole=edit", "--group=developers"
    )
    control_plane.kubectl("-n", namespace, "get", "secrets", kubeconfig=kubeconfig)


def test_a_service_account_token_is_accepted_as_that_account(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "controller")
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "controller")
    answer = json.loads(control_plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig))
    assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:controller"


def test_deleting_an_owner_deletes_what_it_owns(control_plane: ControlPlane, namespace: str) -> None:
    def manifest(name: str, owners: list[dict[str, str]]) -> dict[str, object]:
        metadata = {"name": name, "namespace": namespace, "ownerReferences": owners}
        spec = {"displayName": name, "sourceType": "download", "url": "http://127.0.0.1:1/"}
        kind = {"apiVersion": "harvesterhci.io/v1beta1", "kind": "VirtualMachineImage"}
        return {**kind, "metadata": metadata, "spec": spec}

    control_plane.apply([manifest("owner", [])])
    uid = control_plane.kubectl("-n", namespace, "get", "vmimage/owner", "-o", "jsonpath={.metadata.uid}")
    reference = {
        "apiVersion": "harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImage",
        "name": "owner",
        "uid": uid,
    }
    control_plane.apply([manifest("owned", [reference])])
    control_plane.kubectl("-n", namespace, "delete", "vmimage/owner")
    wait_until(
        lambda: "owned" not in control_plane.kubectl("-n", namespace, "get", "vmimages", "-o", "name"),
        what="garbage collection of the owned image",
        timeout_seconds=120,
    )


def test_objects_outlive_a_killed_api_server(own_control_plane: ControlPlane) -> None:
    own_control_plane.kubectl("create", "namespace", "kept")
    own_control_plane.stop_api_server()
    with pytest.raises(LabError, match="refused"):
        own_control_plane.kubectl("get", "namespace", "kept")
    own_control_plane.start_api_server()
    assert own_control_plane.kubectl("get", "namespace", "kept", "-o", "name") == "namespace/kept\n"


def test_the_audit_log_names_who_used_which_verb(own_control_plane: ControlPlane) -> None:
    kubeconfig = own_control_plane.kubeconfig_for_user("audited", groups=["system:masters"])
    own_control_plane.kubectl("get", "configmaps", kubeconfig=kubeconfig)
    seen = {
        (event["verb"], event["objectRef"]["resource"])
        for event in own_control_plane.audit_events()
        if event["user"]["username"] == "audited" and "objectRef" in event
    }
    assert seen == {("list", "configmaps")}


def test_nothing_is_left_of_a_control_plane_that_ended() -> None:
    with ControlPlane() as cluster:
        assert len(running_with(str(cluster.directory))) == 3
    assert not cluster.directory.exists()
    assert running_with(str(cluster.directory)) == []


def test_nothing_is_left_when_the_process_that_started_it_is_killed() -> None:
    script = "from tests.lab.control_plane import ControlPlane\nimport os, signal\n"
    script += (
        "with ControlPlane() as cluster:\n print(cluster.directory)\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-uc", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    directory = killed.stdout.strip()
    wait_until(lambda: not running_with(directory), what="the end of its programs", timeout_seconds=60)
    shutil.rmtree(directory)
