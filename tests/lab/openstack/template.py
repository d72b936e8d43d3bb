"""The initialised databases of a cloud, made once and kept in the cache: schemas, service accounts, the host.

Making them takes a minute; every cloud starts with a copy. What depends on ports is not in it but written by
each cloud into its own copy: the catalogue's endpoints. `python -m tests.lab.openstack.template` makes it.
"""

from __future__ import annotations

import functools
import getpass
import hashlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.cache import cache_dir, locked, run
from tests.lab.errors import LabError
from tests.lab.openstack import configuration, database, packages, services
from tests.lab.openstack import site as place
from tests.lab.openstack.api import Api
from tests.lab.openstack.database import sql
from tests.lab.openstack.site import ADMIN, HOST, PASSWORD, REGION, SERVICES, TLS_REGION, Service, Site
from tests.lab.processes import wait_until
from tests.lab.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_SECONDS = 120
SERVICE_USERS = ("nova", "placement", "glance", "neutron", "cinder")
# Nova fills these in from its configuration, so that no port stands in the database.
CELL = "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}"
CELL_0 = "{scheme}://{username}:{password}@{hostname}:{port}/nova_cell0?{query}"
AGENT_CONFIGURATION = (
    '{"bridge_mappings":{"physnet1":"br-ex"},"tunnel_types":["vxlan"],"tunneling_ip":"127.0.0.1",'
    '"datapath_type":"system","integration_bridge":"br-int"}'
)


def prepare() -> None:
    """Install the packages and make the template, each where it is missing.

    Raises:
        LabError: something cannot be had or does not work; the message says what.
    """
    packages.install()
    template()


@functools.cache
def template() -> Path:
    """Return the directory of the template; make it if there is none for these packages and this recipe."""
    home = cache_dir() / f"openstack-{_key()}"
    if not home.exists():
        with locked(home.name):
            if not home.exists():
                _make(home)
    return home


def copy_template(site: Site) -> None:
    """Give a cloud that has not started its database and keys."""
    home = template()
    for name, target in (("mysql", site.database_files), ("keystone", site.keystone_keys)):
        run(["cp", "--archive", "--reflink=auto", home / name, target])


def write_endpoints(site: Site, public: Mapping[str, Mapping[Service, str]]) -> None:
    """Write the catalogue's endpoints into the database, which Keystone must not have read yet.

    Args:
        site: Whose database.
        public: URLs for tenants, by region and service type; what is missing there is not in the region. The
            services themselves use their own URLs, in the region `REGION`.
    """
    statements = ["DELETE FROM keystone.endpoint;"]
    rows: list[tuple[str, str, Service, str]] = [
        (REGION, "internal", service, site.url(service)) for service in SERVICES
    ]
    rows += [(region, "public", kind, url) for region, urls in public.items() for kind, url in urls.items()]
    for region, interface, kind, url in rows:
        statements.append(
            "INSERT INTO keystone.endpoint (id, interface, service_id, extra, url, enabled, region_id)"  # noqa: S608
            f" SELECT MD5('{region} {interface} {kind}'), '{interface}', id, '{{}}', '{url}', 1, '{region}'"
            f" FROM keystone.service WHERE type = '{kind}';"
        )
    statements.append("UPDATE neutron.agents SET heartbeat_timestamp = UTC_TIMESTAMP();")
    sql(site, "".join(statements))


def _key() -> str:
    """Hash what decides the template's content: this recipe and the versions of the packages."""
    digest = hashlib.sha256()
    for module in (__file__, configuration.__file__, database.__file__, place.__file__):
        digest.update(Path(module).read_bytes())
    names = sorted(set(packages.PROGRAMS.values()))
    digest.update(run(["dpkg-query", "--show", *names]).encode())
    return digest.hexdigest()[:16]


def _make(home: Path) -> None:
    for left in home.parent.glob(f".{home.name}-*"):  # by a run that was killed; the caller has the lock
        shutil.rmtree(left)
    with (
        Progress("making the OpenStack databases") as progress,
        tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f".{home.name}-") as temporary,
    ):
        site = Site.at(Path(temporary))
        configuration.write_configuration(site)
        database.create_files(site)
        server, keystone = services.database(site), services.identity(site)
        try:
            server.start()
            wait_until(
                lambda: database.answers(site),
                what="MariaDB",
                timeout_seconds=START_SECONDS,
                processes=[server],
            )
            database.create_databases(site)
            _make_schemas(site, progress.detail)
            progress.detail("accounts")
            sql(site, _catalogue())
            write_endpoints(site, {})
            keystone.start()
            with closing(Api.administrator(site)) as admin:
                wait_until(
                    admin.answers,
                    what="Keystone",
                    timeout_seconds=START_SECONDS,
                    processes=[keystone],
                )
                _make_accounts(admin)
            sql(site, _rows())
        finally:
            progress.detail("ending Keystone")
            keystone.stop()
            progress.detail("ending the database")
            server.stop(grace_seconds=START_SECONDS)  # its files are complete only when it has ended
        finished = site.directory / "finished"
        finished.mkdir()
        for path in (site.database_files, site.keystone_keys):
            shutil.move(path, finished / path.name)
        finished.rename(home)


def _make_schemas(site: Site, tell: Callable[[str], None]) -> None:
    """Run every service's migrations, in two lanes: there are two cores."""
    etc = site.etc
    glance = f"--config-file={etc / 'glance/glance-api.conf'}"
    cinder = f"--config-file={etc / 'cinder/cinder.conf'}"
    nova = f"--config-file={etc / 'nova/nova.conf'}"
    neutron = (f"--config-file={etc / 'neutron/neutron.conf'}", f"--config-file={etc / 'neutron/ml2.conf'}")
    nova_manage = services.python_command("nova-manage", "nova.cmd.manage", nova)
    user = getpass.getuser()
    keystone = ["/usr/bin/keystone-manage", f"--config-file={etc / 'keystone/keystone.conf'}"]
    keys = [f"--keystone-user={user}", f"--keystone-group={user}"]
    bootstrap = ["bootstrap", f"--bootstrap-username={ADMIN}", f"--bootstrap-region-id={REGION}"]
    bootstrap += ["--bootstrap-project-name=admin", "--bootstrap-role-name=admin"]
    bootstrap += [f"--bootstrap-password={PASSWORD}"]
    lanes: tuple[list[list[str | Path]], ...] = (
        [
            [*keystone, "db_sync"],
            [*keystone, "fernet_setup", *keys],
            [*keystone, "credential_setup", *keys],
            [*keystone, *bootstrap],
            [*nova_manage, "api_db", "sync"],
            [*nova_manage, "cell_v2", "map_cell0", "--database_connection", CELL_0],
            [
                *(*nova_manage, "cell_v2", "create_cell", "--name", "cell1"),
                *("--database_connection", CELL, "--transport-url", CELL),
            ],
            [*nova_manage, "db", "sync"],
        ],
        [
            services.python_command("neutron-db", "neutron.db.migration.cli", *neutron, "upgrade", "heads"),
            [
                "/usr/bin/placement-manage",
                f"--config-file={etc / 'placement/placement.conf'}",
                "db",
                "sync",
            ],
            services.python_command("glance-manage", "glance.cmd.manage", glance, "db_sync"),
            services.python_command("cinder-manage", "cinder.cmd.manage", cinder, "db", "sync"),
        ],
    )
    environment = {**os.environ, **services.ENVIRONMENT}
    for name in ("fernet", "credential"):
        (site.keystone_keys / name).mkdir(parents=True, mode=0o700)

    def work(lane: list[list[str | Path]]) -> None:
        for number, command in enumerate(lane):
            tell(f"step {number + 1} of {len(lane)}")
            run(command, environment=environment)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(work, lane) for lane in lanes]:
            done.result()


def _make_accounts(admin: Api) -> None:
    """Make the users that the services are."""
    wanted = {"project": {"name": "service", "domain_id": "default"}}
    project = admin.post("identity", "/projects", wanted)["project"]["id"]
    roles = {role["name"]: role["id"] for role in admin.get("identity", "/roles")["roles"]}
    if "service" not in roles:
        roles["service"] = admin.post("identity", "/roles", {"role": {"name": "service"}})["role"]["id"]
    for name in SERVICE_USERS:
        account = {"name": name, "password": PASSWORD, "domain_id": "default"}
        user = admin.post("identity", "/users", {"user": account})["user"]["id"]
        for role in ("admin", "service"):
            admin.call("PUT", "identity", f"/projects/{project}/users/{user}/roles/{roles[role]}")


def _catalogue() -> str:
    """Return SQL for the catalogue's regions and services: without them Keystone's own API has no address."""
    regions = [
        f"INSERT IGNORE INTO keystone.region (id, description, extra) VALUES ('{region}', '', '{{}}');"  # noqa: S608
        for region in (REGION, TLS_REGION)
    ]
    rows = [
        "INSERT INTO keystone.service (id, type, enabled, extra) VALUES"  # noqa: S608
        f""" (MD5('{kind}'), '{kind}', 1, '{{"name": "{kind}"}}');"""
        for kind in SERVICES
    ]
    return "".join([*regions, "DELETE FROM keystone.service;", *rows])


def _rows() -> str:
    """Return SQL for the two things that a cloud usually finds out while it runs.

    That the hypervisor belongs to a cell, and that it has an agent which plugs ports.
    """
    return (
        "INSERT INTO nova_api.host_mappings (created_at, cell_id, host)"  # noqa: S608
        f" SELECT UTC_TIMESTAMP(), id, '{HOST}' FROM nova_api.cell_mappings WHERE name = 'cell1';"
        "INSERT INTO neutron.agents (id, agent_type, `binary`, topic, host, availability_zone,"
        " admin_state_up, created_at, started_at, heartbeat_timestamp, configurations, `load`) VALUES"
        " (UUID(), 'Open vSwitch agent', 'neutron-openvswitch-agent', 'N/A',"
        f" '{HOST}', 'nova', 1, UTC_TIMESTAMP(), UTC_TIMESTAMP(), UTC_TIMESTAMP(),"
        f" '{AGENT_CONFIGURATION}', 0);"
    )


def main() -> int:
    """Make everything exist; 1 and a plain reason when it cannot be had."""
    try:
        prepare()
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
