"""How a cluster is reached: from a kubeconfig or as a pod's account; and where the pod itself is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from controller.kube.errors import NotConfigured

# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def configured_client(kubeconfig: str | None, context: str | None, pool_size: int) -> Any:
    """Return an `ApiClient` for `kubeconfig`, else $KUBECONFIG, else the pod's account, else ~/.kube/config.

    Raises:
        NotConfigured: nothing usable was found. No connection is made yet.
    """
    configuration = kubernetes_client.Configuration()
    try:
        _configure(configuration, kubeconfig or os.environ.get("KUBECONFIG"), context)
    except Exception as exc:  # the package has no one type for what it cannot read
        raise NotConfigured(f"no access to a Kubernetes API: {exc}") from exc
    configuration.retries = False
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = pool_size
    return kubernetes_client.ApiClient(configuration)


def own_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in; `None` when it runs in none."""
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def _configure(configuration: Any, kubeconfig: str | None, context: str | None) -> None:
    if not kubeconfig and not context:
        try:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        except kubernetes_config.ConfigException:
            pass  # not in a pod
        else:
            return
    kubernetes_config.load_kube_config(
        config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
    )
