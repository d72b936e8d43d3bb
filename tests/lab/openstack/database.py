"""The cloud's database: how it is made, and SQL on it."""

from __future__ import annotations

import getpass
import os

from tests.lab.cache import run
from tests.lab.errors import LabError
from tests.lab.openstack.site import PASSWORD, Site

NAMES = ("keystone", "placement", "glance", "nova_api", "nova", "nova_cell0", "neutron", "cinder")


def create_files(site: Site) -> None:
    """Make an empty database server's files.

    Raises:
        LabError: the server's own program for this fails.
    """
    run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={site.database_files}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-file-per-table=0",
            "--innodb-log-file-size=32M",
        ],
        environment={**os.environ, "TMPDIR": str(site.temporary)},
    )


def create_databases(site: Site) -> None:
    """Make every service's database and the user that all of them use."""
    statements = [f"CREATE DATABASE {name};" for name in NAMES]
    statements.append(f"CREATE USER 'lab'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO 'lab'@'%';")
    sql(site, "".join(statements))


def answers(site: Site) -> bool:
    """Tell whether the server takes statements."""
    try:
        sql(site, "SELECT 1")
    except LabError:
        return False
    return True


def sql(site: Site, statements: str) -> str:
    """Run statements and return what they select: a line for each row, columns separated by tabs.

    Raises:
        LabError: the server is away, or refuses one of them.
    """
    client = ["mariadb", "--no-defaults", "--batch", "--skip-column-names", "--user=root"]
    return run([*client, f"--socket={site.database_socket}"], stdin=statements)
