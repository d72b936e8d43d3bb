"""What the chart makes, against a real API server: every object is accepted, and upgraded in place."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.lab import chart_docs, crds
from tests.lab.chart import CHART, helm, manifests
from tests.lab.controller import ROOT
from tests.lab.errors import LabError
from tests.lab.kube_api import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.lab.control_plane import ControlPlane

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("chart")]

# Among these every kind of object and every optional part of one is made.
WITH_ALL_KINDS = ["addon-form", "closed", "monitored", "named", "old-defaults", "own-account", "placed"]
# What of the old chart an upgrade meets: the selector, which cannot be changed, and a claim of the default
# class, for the old chart ignored `storageClassName`.
OLD_CHART = {
    "Chart.yaml": """
        apiVersion: v2
        name: harvester-vm-import-controller
        version: 1.8.0
        """,
    "templates/all.yaml": """
        apiVersion: v1
        kind: PersistentVolumeClaim
        metadata:
          name: {{ .Values.fullnameOverride }}
        spec:
          accessModes: [ReadWriteOnce]
          resources: {requests: {storage: 1Gi}}
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: {{ .Values.fullnameOverride }}
        spec:
          strategy: {type: Recreate}
          selector: &selector
            matchLabels: &labels
              app.kubernetes.io/name: harvester-vm-import-controller
              app.kubernetes.io/instance: {{ .Release.Name }}
          template:
            metadata: {labels: *labels}
            spec:
              containers:
              - name: harvester-vm-import-controller
                image: rancher/harvester-vm-import-controller:v1.8.0
                securityContext: {runAsUser: 0}
                volumeMounts: [{name: storage, mountPath: /tmp}]
              volumes: [{name: storage, persistentVolumeClaim: {claimName: "{{ .Values.fullnameOverride }}"}}]
        """,
}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    """The shared cluster, which also knows the kinds of Prometheus' operator and of Harvester's add-ons."""
    definitions = [*crds.monitoring_crds(), crds.addon_crd()]
    control_plane.apply(definitions)
    for definition in definitions:
        crds.wait_established(control_plane, definition["metadata"]["name"])
    return control_plane


def would_accept(cluster: ControlPlane, items: Iterable[dict[str, Any]]) -> None:
    """Have the API server check objects as if they were applied: an unknown field is an error, too."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)


@pytest.mark.parametrize("values", WITH_ALL_KINDS)
def test_the_api_server_accepts_all_that_a_set_of_values_makes(
    cluster: ControlPlane, namespace: str, values: str
) -> None:
    words = ["--values", str(chart_docs.VALUE_SETS / f"{values}.yaml")]
    words += ["--set", f"metrics.dashboard.namespace={namespace}"]
    would_accept(cluster, manifests(*words, namespace=namespace))


def test_rights_in_one_namespace_are_made_there(cluster: ControlPlane, namespace: str) -> None:
    items = manifests("--set", f"watchNamespace={namespace}", namespace=namespace)
    would_accept(cluster, items)
    clusterwide = [item for item in items if item["kind"] == "ClusterRole"]
    resources = {name for item in clusterwide for rule in item["rules"] for name in rule["resources"]}
    assert resources == {"storageclasses", "customresourcedefinitions"}


def test_an_object_that_is_wrong_would_be_refused(cluster: ControlPlane, namespace: str) -> None:
    (deployment,) = manifests(templates=("deployment",), namespace=namespace)
    deployment["spec"]["template"]["spec"]["containers"][0]["image_pull_policy"] = "Always"
    with pytest.raises(LabError, match="image_pull_policy"):
        would_accept(cluster, [deployment])


@pytest.mark.parametrize("template", ["deployment", "crds"])
def test_the_pods_fulfil_the_strictest_of_the_pod_security_standards(
    cluster: ControlPlane, namespace: str, template: str
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    (workload,) = (
        item
        for item in manifests(templates=(template,), namespace=namespace)
        if item["kind"] in {"Deployment", "Job"}
    )
    pod = workload["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "pod", "namespace": namespace}
    pod["spec"].pop("serviceAccountName")  # the account's admission would have to find it first
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    cluster.api.create(path, pod)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ApiError, match="restricted"):
        cluster.api.create(path, pod)


@pytest.mark.parametrize("kind", ["vmware", "openstack", "ova"])
def test_the_examples_are_accepted_as_they_stand(cluster: ControlPlane, kind: str) -> None:
    items = yaml.safe_load_all((ROOT / f"manifests/examples/{kind}.yaml").read_text())
    would_accept(cluster, (item for item in items if item))


def test_harvester_accepts_the_add_on(cluster: ControlPlane, namespace: str) -> None:
    addon = yaml.safe_load((ROOT / "manifests/addon.yaml").read_text())
    addon["metadata"]["namespace"] = namespace
    would_accept(cluster, [addon])


@pytest.fixture
def old_chart(tmp_path: Path) -> Path:
    for name, text in OLD_CHART.items():
        path = tmp_path / "old" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "old"


@pytest.fixture
def release(cluster: ControlPlane, namespace: str, old_chart: Path) -> Iterator[str]:
    """A release of the old chart, its names those of the namespace: rights belong to the whole cluster."""
    words = ("--namespace", namespace, "--set", f"fullnameOverride={namespace}")
    helm("install", "vm-import-controller", old_chart, *words, kubeconfig=cluster.kubeconfig)
    yield "vm-import-controller"
    helm("uninstall", "vm-import-controller", *words[:2], kubeconfig=cluster.kubeconfig)


def test_the_old_chart_s_release_is_upgraded_in_place_and_keeps_its_volume(
    cluster: ControlPlane, namespace: str, release: str
) -> None:
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{namespace}"
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments/{namespace}"
    before = {path: cluster.api.get(path) for path in (claims, deployments)}
    assert before[claims]["spec"]["storageClassName"] == crds.DEFAULT_STORAGE_CLASS
    values = {
        "fullnameOverride": namespace,
        "crds.upgrade": "false",  # its Job needs a node
        "pvcClaim.enabled": "true",
        "pvcClaim.size": "1Gi",
        "pvcClaim.storageClassName": "another-one",
    }
    sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    helm("upgrade", release, CHART, "--namespace", namespace, *sets, kubeconfig=cluster.kubeconfig)
    after = {path: cluster.api.get(path) for path in (claims, deployments)}
    assert [after[path]["metadata"]["uid"] for path in after] == [
        before[path]["metadata"]["uid"] for path in before
    ]
    assert after[claims]["spec"] == before[claims]["spec"]
    pod = after[deployments]["spec"]["template"]["spec"]
    assert "runAsUser" not in pod["containers"][0]["securityContext"]
    assert pod["containers"][0]["volumeMounts"][0] == {"name": "storage", "mountPath": "/scratch"}
