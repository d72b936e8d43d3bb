"""The Debian packages that the cloud consists of.

No package of a service is installed, only those with its code: they bring neither users nor init scripts nor
questions. The few files of the `-common` packages that a service needs are unpacked, not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.debian import debian_programs, unpacked_program

if TYPE_CHECKING:
    from pathlib import Path

_CODE = "/usr/lib/python3/dist-packages"
PROGRAMS = {  # path that tells whether a package is installed: the package
    **{
        f"{_CODE}/{name}": f"python3-{name}"
        for name in ("keystone", "placement", "glance", "cinder", "nova", "neutron", "pymysql")
    },
    "/usr/sbin/mariadbd": "mariadb-server",
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
    "/usr/bin/qemu-img": "qemu-utils",
    "/usr/bin/uwsgi": "uwsgi-core",
    "/usr/lib/uwsgi/plugins/python3_plugin.so": "uwsgi-plugin-python3",
}
_FILES = {
    "nova-common": "usr/share/nova-common/api-paste.ini",
    "neutron-common": "usr/share/neutron-common/api-paste.ini",
    "glance-common": "usr/share/glance-common/glance-api-paste.ini",
    "cinder-common": "usr/share/cinder-common/api-paste.ini",
}


def install() -> None:
    """Install what is missing; needs root and the network only then.

    Raises:
        LabError: it cannot be installed from here; the message says what to do.
    """
    debian_programs(PROGRAMS)
    for package, path in _FILES.items():
        configuration_file(package, path)


def configuration_file(package: str, path: str) -> Path:
    """Return a file of a package that is unpacked and not installed.

    Raises:
        LabError: the package cannot be had.
    """
    return unpacked_program(package, path)
