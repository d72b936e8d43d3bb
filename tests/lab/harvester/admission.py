"""Harvester's and KubeVirt's admission webhooks, as far as an importer meets them.

Source: harvester v1.6 `pkg/image/common/validator.go`, `mutator.go` and
`pkg/webhook/resources/virtualmachine/validator.go`; for KubeVirt see `domain.problems`.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from tests.lab.crds import DEFAULT_CLASS_ANNOTATION, LONGHORN
from tests.lab.harvester import domain, images, machines
from tests.lab.kube_api import ApiError
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.lab.control_plane import ControlPlane
    from tests.lab.kube_api import KubeApi

CLASS_ANNOTATION = "harvesterhci.io/storageClassName"
IMPORTED_LABEL = "migration.harvesterhci.io/imported"
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
FIXED_FIELDS = ("displayName", "sourceType", "url", "storageClassParameters")
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
SHUTDOWN_POLL_SECONDS = 0.05
HEED_SECONDS = 120
IMAGE_PARAMETERS = {"migratable": "true", "numberOfReplicas": "3", "staleReplicaTimeout": "30"}
COPIED_PARAMETERS = (
    "dataLocality",
    "diskSelector",
    "encrypted",
    "nodeSelector",
    "numberOfReplicas",
    "staleReplicaTimeout",
)


REASONS = {
    HTTPStatus.CONFLICT: "Conflict",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Invalid",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
}


class DeniedError(Exception):
    """A request is refused, with the status that the real webhook gives.

    Harvester answers 500 wherever its rules return a plain Go error (`pkg/webhook/types/admission.go`).
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
        super().__init__(message)
        self.status = status


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class Admission:
    """The webhooks, registered with a cluster while the block lasts.

    Args:
        control_plane: The cluster.
        namespaces: Where they apply, existing ones; everywhere if empty.
    """

    def __init__(self, control_plane: ControlPlane, namespaces: Sequence[str]) -> None:
        self._api = control_plane.api
        self._namespaces = namespaces
        self._authority = control_plane.authority.certificate
        api, theirs = self._api, set(namespaces)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(_review(api, theirs, self.path, review["request"])).encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: the API server reports what was refused."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._port = self._server.server_address[1]
        self._name = f"harvester-lab-{self._port}"
        pair = control_plane.authority.issue(self._name, common_name="webhook", hosts=["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[SHUTDOWN_POLL_SECONDS], name=self._name, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            for kind in ("mutating", "validating"):
                self._api.create(f"{CONFIGURATIONS}/{kind}webhookconfigurations", self._configuration(kind))
            wait_until(self._is_asked, what="the webhooks' first calls", timeout_seconds=HEED_SECONDS)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for kind in ("mutating", "validating"):
            try:
                self._api.delete(f"{CONFIGURATIONS}/{kind}webhookconfigurations/{self._name}")
            except ApiError as exc:
                if exc.status != 0:  # a test may leave without an API server
                    raise
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _is_asked(self) -> bool:
        """Whether the API server knows both configurations by now: it reads them a moment later."""
        filled_in = self._try_image("probe")
        refused = self._try_image("no label value") is None
        return refused and (filled_in is None or "targetStorageClassName" in filled_in["spec"])

    def _try_image(self, display_name: str) -> dict[str, Any] | None:
        """Return what would be stored of an image, `None` if a webhook would deny it."""
        namespace = self._namespaces[0] if self._namespaces else "default"
        path = f"/apis/harvesterhci.io/v1beta1/namespaces/{namespace}/virtualmachineimages?dryRun=All"
        manifest = {
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {"generateName": "probe-"},
            "spec": {"displayName": display_name, "sourceType": "download", "url": "http://127.0.0.1/"},
        }
        try:
            return self._api.create(path, manifest)
        except ApiError as exc:
            if "denied the request" in str(exc):
                return None
            raise

    def _configuration(self, kind: str) -> dict[str, Any]:
        rules = [_rule("harvesterhci.io", "v1beta1", "virtualmachineimages", ["CREATE", "UPDATE"])]
        if kind == "validating":
            rules[0]["operations"].append("DELETE")
            rules.append(_rule("kubevirt.io", "v1", "virtualmachines", ["CREATE", "UPDATE"]))
        here = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(self._namespaces)}
        webhook = {
            "name": f"{'mutator' if kind == 'mutating' else 'validator'}.harvesterhci.io",
            "clientConfig": {
                "url": f"https://127.0.0.1:{self._port}/{kind}",
                "caBundle": base64.b64encode(self._authority.read_bytes()).decode(),
            },
            "rules": rules,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 30,  # the most that is allowed
            "namespaceSelector": {"matchExpressions": [here]} if self._namespaces else {},
        }
        return {"metadata": {"name": self._name}, "webhooks": [webhook]}


def _rule(group: str, version: str, resource: str, operations: list[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [resource],
        "operations": operations,
        "scope": "Namespaced",
    }


def _review(api: KubeApi, namespaces: set[str], path: str, request: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    new, old = request["object"], request["oldObject"]
    try:
        if "deletionTimestamp" in ((new or {}).get("metadata", {})):
            pass  # what is being deleted may lose its finalizers
        elif path.startswith("/mutating"):  # the API server adds a query
            patch = base64.b64encode(json.dumps(_image_patch(api, new, old)).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": patch}
        elif request["resource"]["resource"] == "virtualmachines":
            _check_machine(api, namespaces, new)
        elif request["operation"] == "DELETE":
            _check_image_is_unused(api, old)
        else:
            _check_image(api, new, old)
    except DeniedError as denied:
        reason = REASONS[denied.status]
        response |= {
            "allowed": False,
            "status": {"code": denied.status, "reason": reason, "message": str(denied)},
        }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _image_patch(api: KubeApi, new: dict[str, Any], old: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Fill in the storage class in the two places where it stands and, for Longhorn, its parameters."""
    spec, annotations = new["spec"], new["metadata"].get("annotations", {})
    name = annotations.get(CLASS_ANNOTATION) or spec.get("targetStorageClassName")
    if not name:
        defaults = [item for item in api.items(images.STORAGE_CLASSES) if _is_default(item)]
        if not defaults:
            raise DeniedError("missing default storage class", HTTPStatus.INTERNAL_SERVER_ERROR)
        name = defaults[0]["metadata"]["name"]
    if "annotations" in new["metadata"]:
        key = CLASS_ANNOTATION.replace("/", "~1")
        patch = [{"op": "add", "path": f"/metadata/annotations/{key}", "value": name}]
    else:
        patch = [{"op": "add", "path": "/metadata/annotations", "value": {CLASS_ANNOTATION: name}}]
    if not spec.get("targetStorageClassName"):
        patch.append({"op": "add", "path": "/spec/targetStorageClassName", "value": name})
    if old is None and spec.get("backend") == "backingimage":
        found = api.find(f"{images.STORAGE_CLASSES}/{name}")
        if found is None:
            message = f'storageclasses.storage.k8s.io "{name}" not found'
            raise DeniedError(message, HTTPStatus.INTERNAL_SERVER_ERROR)
        if found["provisioner"] == LONGHORN and found.get("parameters", {}).get("backingImage"):
            message = "can not use a backing image storageClass as the base storageClass template"
            raise DeniedError(message, HTTPStatus.INTERNAL_SERVER_ERROR)
        given = found.get("parameters", {}) if found["provisioner"] == LONGHORN else {}
        parameters = IMAGE_PARAMETERS | {key: given[key] for key in COPIED_PARAMETERS if key in given}
        patch.append({"op": "add", "path": "/spec/storageClassParameters", "value": parameters})
    return patch


def _is_default(storage_class: dict[str, Any]) -> bool:
    return bool(storage_class["metadata"].get("annotations", {}).get(DEFAULT_CLASS_ANNOTATION) == "true")


def _check_image(api: KubeApi, new: dict[str, Any], old: dict[str, Any] | None) -> None:
    spec, metadata = new["spec"], new["metadata"]
    name = spec.get("displayName", "")
    if not LABEL_VALUE.fullmatch(name):
        raise DeniedError(f"displayName {name!r} is not a valid label value")
    same_name = f"{images.DISPLAY_NAME_LABEL.replace('/', '%2F')}%3D{name}"
    others = f"/apis/harvesterhci.io/v1beta1/namespaces/{metadata['namespace']}/virtualmachineimages"
    for other in api.items(f"{others}?labelSelector={same_name}"):
        if other["metadata"]["uid"] != metadata.get("uid"):
            raise DeniedError("A resource with the same name exists", HTTPStatus.CONFLICT)
    annotated = metadata.get("annotations", {}).get(CLASS_ANNOTATION)
    if annotated != spec.get("targetStorageClassName"):
        raise DeniedError("storageClassName should keep the consistency")
    if spec["sourceType"] == "download" and not spec.get("url"):
        raise DeniedError("url is required")
    if old is not None:
        for field in FIXED_FIELDS:
            if spec.get(field) != old["spec"].get(field):
                raise DeniedError(f"{field} cannot be modified")


def _check_image_is_unused(api: KubeApi, image: dict[str, Any]) -> None:
    used = image.get("status", {}).get("storageClassName")
    if not used or image["spec"].get("backend") == "cdi":
        return
    for claim in api.items("/api/v1/persistentvolumeclaims"):
        if claim["spec"].get("storageClassName") == used:
            where = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
            shown = f"{image['metadata']['namespace']}/{image['spec']['displayName']}"
            raise DeniedError(f"Cannot delete image {shown}: being used by volume {where}")


def _check_networks(api: KubeApi, vm: dict[str, Any]) -> None:
    """Refuse what Harvester cannot schedule: its mutator looks each network up."""
    for network in domain.networks(vm):
        namespace, _, name = network.partition("/")
        definitions = f"/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions"
        if api.find(f"{definitions}/{name}") is None:
            message = f'network-attachment-definitions.k8s.cni.cncf.io "{network}" not found'
            raise DeniedError(message, HTTPStatus.INTERNAL_SERVER_ERROR)


def _check_machine(api: KubeApi, namespaces: set[str], vm: dict[str, Any]) -> None:
    if found := domain.problems(vm):
        raise DeniedError("; ".join(found))
    _check_networks(api, vm)
    metadata = vm["metadata"]
    wanted = set(domain.claims(vm).values())
    for other in api.items(machines.COLLECTION):
        foreign = namespaces and other["metadata"]["namespace"] not in namespaces
        if foreign or other["metadata"]["uid"] == metadata.get("uid"):
            continue
        where = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
        if repeated := domain.macs(vm) & domain.macs(other):
            message = f"duplicate mac address {', '.join(repeated)}: VM {where} has it"
            raise DeniedError(message, HTTPStatus.INTERNAL_SERVER_ERROR)
        taken = wanted & set(domain.claims(other).values())
        if taken and other["metadata"]["namespace"] == metadata["namespace"]:
            raise DeniedError(f"the volume {', '.join(taken)} is already used by VM {where}")
    if metadata.get("labels", {}).get(IMPORTED_LABEL) == "true":
        return
    for claim in api.items(f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims"):
        golden = claim["metadata"].get("annotations", {}).get(images.GOLDEN_IMAGE_ANNOTATION) == "true"
        if golden and claim["metadata"]["name"] in wanted:
            raise DeniedError(
                f"PVC {claim['metadata']['name']} is a golden image, it can't be used as a volume in VM"
            )
