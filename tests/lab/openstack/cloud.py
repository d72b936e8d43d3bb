"""A whole OpenStack as a context manager: started, ready for tenants, and gone without a trace afterwards."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.errors import LabError
from tests.lab.openstack import configuration, database, services, template
from tests.lab.openstack.api import Api, ApiError
from tests.lab.openstack.gateway import Gateway
from tests.lab.openstack.site import ADDRESS, PUBLIC, REGION, SERVICES, TLS_REGION, Service, Site
from tests.lab.openstack.tenant import Tenant
from tests.lab.pki import Authority
from tests.lab.processes import LabProcess, running_with, wait_until
from tests.lab.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

END_SECONDS = 120
POLL_SECONDS = 0.3  # every call costs several services work, and they have enough while they start
START_SECONDS = 300  # about 30 s on two idle cores; 190 s were seen with forty programs waiting for them
UP = 5  # compute, conductor, scheduler; volume, scheduler: these report to a database
STOP_SECONDS_FILE = "stop-seconds"  # as `drivers/lab_compute.py` says
EXTERNAL_NETWORK = "public"
FLAVORS = (  # disk 0: as long as the image
    {"name": "tiny", "vcpus": 1, "ram": 256, "disk": 0},
    {"name": "small", "vcpus": 2, "ram": 512, "disk": 1},
    {"name": "scratch", "vcpus": 1, "ram": 256, "disk": 0, "OS-FLV-EXT-DATA:ephemeral": 1, "swap": 64},
)


class OpenStackCloud:
    """Keystone, Glance, Cinder, Nova, Placement and Neutron on free ports of 127.0.0.1, inside a `with`.

    It starts in half a minute (two idle cores) from databases in the cache (`template`), several run side by
    side, and nothing of it outlives the block or the process. No privileges are needed once its packages are
    installed.

    Attributes:
        admin: The administrator's access, for what tenants may not do.
        auth_url: Keystone, with `/v3`; its catalogue's region is `region`.
        tls_auth_url: The same over https, with the region `tls_region`.
        ca_pem: Certificate of the authority that signed all services' certificate.
        fingerprint: SHA-256 of that certificate: lower-case hex without colons.
        gateways: What tenants reach each service through, by type in the catalogue: for faults.
        directory: Logs (`log/*.log`) and everything else that is temporary.
    """

    auth_url: str
    tls_auth_url: str
    ca_pem: str
    fingerprint: str
    admin: Api

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._site: Site | None = None
        self._processes: dict[str, LabProcess] = {}
        self.gateways: dict[Service, Gateway] = {}
        self.region = REGION
        self.tls_region = TLS_REGION

    @property
    def site(self) -> Site:
        """The cloud's place on this machine."""
        if self._site is None:
            raise LabError("the cloud has not been started")
        return self._site

    @property
    def directory(self) -> Path:
        return self.site.directory

    def __enter__(self) -> Self:
        template.prepare()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        site = self._site = Site.at(self._resources.enter_context(scratch_directory("lab-openstack-")))
        configuration.write_configuration(site)
        template.copy_template(site)
        self._launch(*services.message_queue(site), services.database(site))
        self._wait(lambda: database.answers(site), "MariaDB")
        self._open_gateways(site)
        self._launch(services.identity(site))
        self.admin = self._resources.enter_context(closing(Api.administrator(site)))
        self._wait(self.admin.answers, "Keystone")
        self._launch(*services.others(site))
        self._wait(self._ready, "OpenStack")
        self._seed()

    def _end(self) -> None:
        for process in reversed(self._processes.values()):
            process.kill()
        self._processes.clear()
        with self._resources:
            if self._site is not None:  # some have children, which must not write where everything is removed
                home = str(self._site.directory)
                wait_until(lambda: not running_with(home), what="the end", timeout_seconds=END_SECONDS)

    def _launch(self, *processes: LabProcess) -> None:
        for process in processes:
            self._processes[process.name] = process
            process.start()

    def _wait(self, probe: Callable[[], bool], what: str) -> None:
        wait_until(
            probe,
            what=what,
            timeout_seconds=START_SECONDS,
            processes=list(self._processes.values()),
            poll_seconds=POLL_SECONDS,
        )

    def _open_gateways(self, site: Site) -> None:
        """Open every service's doors for tenants and write them into the catalogue."""
        authority = Authority(site.directory / "pki", "lab-openstack")
        pair = authority.issue("openstack", common_name="openstack", hosts=[ADDRESS, "localhost"])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.certificate, pair.key)
        self.ca_pem = authority.certificate.read_text()
        der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
        self.fingerprint = hashlib.sha256(der).hexdigest()
        plain: dict[Service, str] = {}
        encrypted: dict[Service, str] = {}
        for service in PUBLIC:
            gateway = self.gateways[service] = Gateway(site.ports[service], tls)
            gateway.open()
            self._resources.callback(gateway.close)
            plain[service] = f"http://{ADDRESS}:{gateway.port}{SERVICES[service]}"
            encrypted[service] = f"https://{ADDRESS}:{gateway.tls_port}{SERVICES[service]}"
        template.write_endpoints(site, {REGION: plain, TLS_REGION: encrypted})
        self.auth_url, self.tls_auth_url = plain["identity"], encrypted["identity"]

    def _ready(self) -> bool:
        """Tell whether every service is up, by its own word."""
        admin = self.admin
        try:
            # Storage that the scheduler has not heard of is "No valid backend".
            pools = admin.get("volumev3", "/scheduler-stats/get_pools")["pools"]
            compute = admin.get("compute", "/os-services")["services"]
            storage = admin.get("volumev3", "/os-services")["services"]
            hypervisors = admin.get("compute", "/os-hypervisors")["hypervisors"]
            admin.get("image", "/v2/images?limit=1")
            admin.get("network", "/v2.0/agents")
        except ApiError:
            return False
        up = [entry["state"] == "up" for entry in (*compute, *storage)]
        return bool(pools) and bool(hypervisors) and len(up) == UP and all(up)

    def _reports(self) -> dict[str, int]:
        """Return how often each service that reports to a database has done so."""
        tables = ("nova.services", "cinder.services")
        rows = self.sql(" UNION ".join(f"SELECT `binary`, report_count FROM {table}" for table in tables))  # noqa: S608
        return {name: int(count) for name, count in (row.split("\t") for row in rows.splitlines())}

    def _have_reported_since(self, before: Mapping[str, int], names: Sequence[str]) -> bool:
        """Tell whether those of the named services that report at all have done so again."""
        now = self._reports()
        return all(now[name] != before[name] for name in names if name in before)

    def new_tenant(self, name: str) -> Tenant:
        """Make a project with a user of the same name."""
        return Tenant(self, name)

    # --- trouble

    @contextmanager
    def slow_to_stop(self, seconds: float) -> Iterator[None]:
        """Let guests take a time to shut down, inside the block: `powering-off` until then."""
        order = self.site.nova / STOP_SECONDS_FILE
        order.write_text(str(seconds))
        try:
            yield
        finally:
            order.unlink()

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Let programs (`cinder-volume`, `glance-api`, ...) be there and do nothing, inside the block."""
        groups = [self._processes[name].pid for name in names]
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            for group in groups:
                os.killpg(group, signal.SIGCONT)

    @contextmanager
    def killed(self, *names: str) -> Iterator[None]:
        """Kill programs, as the kernel does when memory is short: their workers have to follow by themselves.

        They are started again after the block, which ends when all services are up.
        """
        processes = [self._processes[name] for name in names]
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        wait_until(
            lambda: not any(process.running for process in processes),
            what="the end of a killed program",
            timeout_seconds=END_SECONDS,
        )
        try:
            yield
        finally:
            before = self._reports()
            for process in processes:
                process.start()
            self._wait(lambda: self._have_reported_since(before, names) and self._ready(), "OpenStack")

    def revoke_tokens(self, tenant: Tenant) -> None:
        """Make every token of a tenant's user invalid; returns when new ones are good again."""
        for enabled in (False, True):
            self.admin.call(
                "PATCH", "identity", f"/users/{tenant.user_id}", json={"user": {"enabled": enabled}}
            )
        # Keystone revokes by whole seconds: a token of the same second is invalid, too.
        self._wait(tenant.is_welcome, "a token after the revocation")

    def set_volume_quota(self, tenant: Tenant, **limits: int) -> None:
        """Set Cinder's limits of a project: `volumes`, `snapshots`, `gigabytes`; -1 is none."""
        path = f"/os-quota-sets/{tenant.project_id}"
        self.admin.call("PUT", "volumev3", path, json={"quota_set": limits})

    def set_volume_status(self, volume: str, status: str) -> None:
        """Put a volume into a status: `error`, `uploading`, ..."""
        self.admin.post("volumev3", f"/volumes/{volume}/action", {"os-reset_status": {"status": status}})

    def set_snapshot_status(self, snapshot: str, status: str) -> None:
        """Put a volume's snapshot into a status."""
        self.admin.post("volumev3", f"/snapshots/{snapshot}/action", {"os-reset_status": {"status": status}})

    def set_server_error(self, server: str) -> None:
        """Put a server into ERROR."""
        self.admin.post("compute", f"/servers/{server}/action", {"os-resetState": {"state": "error"}})

    def set_image_status(self, image: str, status: str) -> None:
        """Put an image into a status for which Glance has no call: `killed`, `error`, `saving`."""
        self.sql(f"UPDATE glance.images SET status = '{status}' WHERE id = '{image}'")  # noqa: S608

    def sql(self, statements: str) -> str:
        """Run statements on the cloud's databases; see `database.sql`."""
        return database.sql(self.site, statements)

    def _seed(self) -> None:
        """Make what every tenant uses: flavors and the network that leads outside."""
        for flavor in FLAVORS:
            self.admin.post("compute", "/flavors", {"flavor": flavor})
        network = {
            "name": EXTERNAL_NETWORK,
            "router:external": True,
            "provider:network_type": "flat",
            "provider:physical_network": "physnet1",
        }
        self.admin.post("network", "/v2.0/networks", {"network": network})
