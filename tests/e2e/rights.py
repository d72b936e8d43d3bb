"""What the controller asked the API server for, from the audit log, and what its chart lets it ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.lab import chart

if TYPE_CHECKING:
    from tests.lab.control_plane import ControlPlane

ACCOUNT = f"system:serviceaccount:{chart.NAMESPACE}:{chart.RELEASE}"


class Right(NamedTuple):
    """One verb on one resource; `resource` names its subresource too, as in RBAC."""

    group: str
    resource: str
    verb: str


def asked_for(control_plane: ControlPlane, *, refused: bool) -> set[Right]:
    """Return what the controller's account asked for so far, and was refused or granted (found or not)."""
    found = set()
    for event in control_plane.audit_events():
        target = event.get("objectRef")
        if event["user"]["username"] != ACCOUNT or not target:
            continue
        # The status alone does not tell: a namespace that is being deleted answers 403 to those who may, too.
        decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
        if (decision == "forbid") is refused:
            resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
            found.add(Right(target.get("apiGroup", ""), resource, event["verb"]))
    return found


def granted() -> set[Right]:
    """Return what the chart's roles grant."""
    return {
        Right(group, resource, verb)
        for role in chart.manifests(templates=("rbac",))
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
