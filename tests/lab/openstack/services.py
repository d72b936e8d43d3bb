"""The command lines of the cloud's programs.

Each runs on Debian's own interpreter, isolated from whatever environment the lab itself runs in.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.openstack.site import ADDRESS, Site
from tests.lab.processes import LabProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PYTHON = "/usr/bin/python3"
DRIVERS = Path(__file__).parent / "drivers"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "",
    "PYTHONHOME": "",
    "LC_ALL": "C.UTF-8",
    "no_proxy": ADDRESS,
    "NO_PROXY": ADDRESS,
    "OS_CLOUD": "",
}
# Some services fork workers, and such a worker would for ever tell a dead message queue of its end.
# prctl(2): PR_SET_PDEATHSIG is 1, and a child does not inherit it.
DIE_WITH_PARENT = (
    "import ctypes, os; os.register_at_fork(after_in_child=lambda: ctypes.CDLL(None).prctl(1, 9))"
)
UWSGI_BUFFER_BYTES = 65535  # tokens and catalogues travel in headers


def python_command(name: str, module: str, *arguments: str | Path, before: str = "") -> list[str | Path]:
    """Return the command that runs `main` of a module under a service's name.

    Args:
        name: What the service finds as its own name.
        module: Of Debian's packages.
        arguments: Of its command line.
        before: Python that runs first.
    """
    code = (
        DIE_WITH_PARENT,
        f"import sys; sys.argv[0] = {name!r}; {before}",
        f"from {module} import main",
        "sys.exit(main())",
    )
    return [PYTHON, "-I", "-B", "-c", "\n".join(code), *arguments]


def _uwsgi(site: Site, service: str, port: int, program: str, directory: str) -> LabProcess:
    command = ["uwsgi", "--plugin=python3", f"--http-socket={ADDRESS}:{port}", f"--wsgi-file={program}"]
    options = ["--processes=1", "--threads=8", "--enable-threads", "--lazy-apps", "--need-app"]
    options += [f"--buffer-size={UWSGI_BUFFER_BYTES}", "--add-header=Connection: close", "--so-keepalive"]
    options += ["--disable-logging", "--die-on-term"]
    return program_of(site, service, [*command, *options], {directory: str(site.etc / service)})


def program_of(
    site: Site, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> LabProcess:
    """Return one of the cloud's programs, with its log, not started."""
    everything = {**ENVIRONMENT, "TMPDIR": str(site.temporary), **(environment or {})}
    return LabProcess(name, command, log=site.logs / f"{name}.log", env=everything)


def database(site: Site) -> LabProcess:
    """Return MariaDB. Nothing here has to outlive a power failure."""
    return program_of(
        site,
        "mariadb",
        [
            "/usr/sbin/mariadbd",
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={site.database_files}",
            f"--socket={site.database_socket}",
            f"--pid-file={site.directory / 'mysql.pid'}",
            f"--bind-address={ADDRESS}",
            f"--port={site.ports['database']}",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            "--innodb-file-per-table=0",  # some six hundred small tables
            "--innodb-log-file-size=32M",
            "--innodb-buffer-pool-size=128M",
            "--max-connections=400",
            "--performance-schema=0",
            "--character-set-server=utf8mb3",
            "--collation-server=utf8mb3_general_ci",
        ],
    )


def message_queue(site: Site) -> list[LabProcess]:
    """Return RabbitMQ, and the port mapper that Erlang wants, in the order of their start."""
    home = site.directory / "rabbit"
    environment = {
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": ADDRESS,
        "ERL_EPMD_PORT": str(site.ports["epmd"]),
        "RABBITMQ_NODENAME": "lab@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": ADDRESS,
        "RABBITMQ_NODE_PORT": str(site.ports["rabbit"]),
        "RABBITMQ_DIST_PORT": str(site.ports["rabbit-distribution"]),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ALLOW_INPUT": "1",  # the script then becomes the server instead of its parent
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-noinput -kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 1:1"
        ),
    }
    return [
        program_of(site, "epmd", ["epmd", "-address", ADDRESS, "-port", str(site.ports["epmd"])]),
        program_of(site, "rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], environment),
    ]


def identity(site: Site) -> LabProcess:
    """Return Keystone; the other services cannot start without it."""
    program = "/usr/bin/keystone-wsgi-public"
    return _uwsgi(site, "keystone", site.ports["identity"], program, "OS_KEYSTONE_CONFIG_DIR")


def others(site: Site) -> list[LabProcess]:
    """Return all services but Keystone; the order of their start does not matter."""
    etc = site.etc
    drivers = f"sys.path.append({str(DRIVERS)!r})"
    # Nova looks up its driver below its own package `nova.virt`: lend it the directory.
    lend = f"import nova.cmd.compute, nova.virt; nova.virt.__path__.append({str(DRIVERS)!r})"
    cinder = f"--config-file={etc / 'cinder/cinder.conf'}"
    nova = f"--config-file={etc / 'nova/nova.conf'}"
    compute = f"--config-file={etc / 'nova/nova-compute.conf'}"
    neutron = (f"--config-file={etc / 'neutron/neutron.conf'}", f"--config-file={etc / 'neutron/ml2.conf'}")
    commands: dict[str, list[str | Path]] = {
        "neutron-server": python_command("neutron-server", "neutron.cmd.eventlet.server", *neutron),
        "nova-api": python_command("nova-api-os-compute", "nova.cmd.api_os_compute", nova),
        "nova-compute": python_command("nova-compute", "nova.cmd.compute", compute, before=lend),
        "nova-conductor": python_command("nova-conductor", "nova.cmd.conductor", nova),
        "nova-scheduler": python_command("nova-scheduler", "nova.cmd.scheduler", nova),
        "cinder-api": python_command("cinder-api", "cinder.cmd.api", cinder),
        "cinder-scheduler": python_command("cinder-scheduler", "cinder.cmd.scheduler", cinder),
        "cinder-volume": python_command("cinder-volume", "cinder.cmd.volume", cinder, before=drivers),
        "glance-api": python_command(
            "glance-api", "glance.cmd.api", f"--config-file={etc / 'glance/glance-api.conf'}"
        ),
    }
    port, program = site.ports["placement"], "/usr/bin/placement-api"
    placement = _uwsgi(site, "placement", port, program, "OS_PLACEMENT_CONFIG_DIR")
    return [placement, *(program_of(site, name, command) for name, command in commands.items())]
