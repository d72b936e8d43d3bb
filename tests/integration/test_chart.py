"""What the chart says of itself, and what helm makes of it: goldens, schema, README, files."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from controller import __version__
from tests.lab import chart_docs
from tests.lab.chart import CHART, helm, manifests, rendered
from tests.lab.controller import ROOT, our_crds
from tests.lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("chart")]

OLD_VALUES = chart_docs.VALUE_SETS / "old-defaults.yaml"
# Where the chart deliberately differs from the old one; the README says why.
CHANGED = {"image.tag", "securityContext.runAsUser"}
SETS = chart_docs.value_sets()


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def own_values() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_helm_has_nothing_to_complain_about() -> None:
    assert "[WARNING]" not in helm("lint", "--strict", CHART)


def test_every_value_of_the_old_chart_is_there_with_its_default() -> None:
    old, own = leaves(yaml.safe_load(OLD_VALUES.read_text())), leaves(own_values())
    emptied = {"podSecurityContext"}  # the old default is empty: whatever stands there now adds to it
    differing = {name for name, value in old.items() if own.get(name) != value}
    assert differing - emptied == CHANGED
    assert {"pvcClaim.storageClassName", "pvcClaim.storageClass"} <= own.keys()


def test_the_defaults_render_as_they_did() -> None:
    assert chart_docs.golden(None) == chart_docs.golden_path(None).read_text()


@pytest.mark.parametrize("values", SETS, ids=[path.stem for path in SETS])
def test_a_set_of_values_changes_what_it_did(values: Path) -> None:
    assert chart_docs.golden(values) == chart_docs.golden_path(values).read_text()


def test_each_golden_file_belongs_to_a_set_of_values() -> None:
    assert {path.stem for path in chart_docs.VALUE_SETS.glob("*.diff")} == {path.stem for path in SETS}
    assert len(SETS) >= 12


def test_the_readme_says_what_the_values_say() -> None:
    assert chart_docs.readme() == (CHART / "README.md").read_text(), "make chart-docs"


def test_the_versions_of_chart_and_program_are_one() -> None:
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (meta["version"], meta["appVersion"]) == (__version__, __version__)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("replicaCounts=1", "replicaCounts"),
        ("replicaCount=many", "replicaCount"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("pvcClaim.size=large", "size"),
        ("pvcClaim.className=fast", "className"),
        ("workers=0", "workers"),
        ("maxTransfers=1.5", "maxTransfers"),
        ("progressSeconds=0.5", "progressSeconds"),
        ("metrics.port=8080", "port"),
        ("leaderElection.retryPeriodSeconds=0", "retryPeriodSeconds"),
        ("networkPolicy.allowedNamespaces=longhorn-system", "allowedNamespaces"),
        ("metrics.serviceMonitor.interval=often", "interval"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(wrong: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        rendered("--set", wrong)


def test_the_schema_knows_every_value() -> None:
    def known(schema: dict[str, Any], values: dict[str, Any], prefix: str) -> None:
        assert prefix.count(".") > 2 or schema["type"] == "object"
        for name, value in values.items():
            assert name in schema["properties"], f"{prefix}{name}"
            if isinstance(value, dict) and "properties" in schema["properties"][name]:
                known(schema["properties"][name], value, f"{prefix}{name}.")

    known(json.loads((CHART / "values.schema.json").read_text()), own_values(), "")


def test_a_packed_chart_holds_the_definitions_of_manifests_crds(tmp_path: Path) -> None:
    helm("package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        members = [member for member in packed if "/crds/" in member.name]
        found = [yaml.safe_load(packed.extractfile(member) or b"") for member in members]
    assert sorted(found, key=name_of) == sorted(our_crds(), key=name_of)


def name_of(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["name"])


def test_the_job_that_upgrades_definitions_has_all_of_them_and_no_other_right() -> None:
    items = manifests(templates=("crds",))
    (config,) = (item for item in items if item["kind"] == "ConfigMap")
    carried = [json.loads(text) for text in config["data"].values()]
    assert sorted(carried, key=name_of) == sorted(our_crds(), key=name_of)
    (role,) = (item for item in items if item["kind"] == "ClusterRole")
    assert {name for rule in role["rules"] for name in rule.get("resourceNames", ())} == set(
        map(name_of, our_crds())
    )
    assert {item["metadata"]["annotations"]["helm.sh/hook"] for item in items} == {"pre-install,pre-upgrade"}


def test_no_right_is_a_wildcard_and_secrets_are_only_read() -> None:
    roles = [item for item in manifests() if item["kind"] in {"Role", "ClusterRole"}]
    rules = [rule for role in roles for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]]
    assert {verb for rule in rules if "secrets" in rule["resources"] for verb in rule["verbs"]} == {"get"}


def test_who_asks_for_root_gets_it_without_a_contradiction() -> None:
    (deployment,) = manifests("--set", "securityContext.runAsUser=0", templates=("deployment",))
    context = deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (0, False)
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_add_on_installs_this_chart_with_values_that_it_accepts(tmp_path: Path) -> None:
    addon = yaml.safe_load((ROOT / "manifests/addon.yaml").read_text())
    assert (addon["spec"]["chart"], addon["spec"]["version"]) == (CHART.name, __version__)
    values = tmp_path / "values.yaml"
    values.write_text(addon["spec"]["valuesContent"])
    text = rendered("--values", values, release=addon["metadata"]["name"])
    (deployment,) = (item for item in yaml.safe_load_all(text) if item["kind"] == "Deployment")
    assert deployment["metadata"]["name"] == "harvester-vm-import-controller"
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "harvester-vm-import-controller",
        "app.kubernetes.io/instance": "vm-import-controller",
    }
