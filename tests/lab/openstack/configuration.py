"""The configuration files of all services: what differs from the packages' defaults, and nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.lab.openstack.packages import configuration_file
from tests.lab.openstack.site import ADDRESS, HOST, PASSWORD, REGION, Site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Section = dict[str, object]
Configuration = dict[str, Section]

COMPUTE_DRIVER = "lab_compute.Driver"
VOLUME_DRIVER = "lab_volume.SparseFileDriver"
WEEKS_SECONDS = 2_000_000  # the one network agent is a row in a table: nothing may find it dead
NEVER = -1
# A disk as long as its image, without a flavor that makes it longer: tenants may have one.
NOVA_POLICY = '"os_compute_api:servers:create:zero_disk_flavor": ""\n'


def write_configuration(site: Site) -> None:
    """Write every file below `site.etc`."""
    compute = _nova(site)
    files: Mapping[str, Configuration] = {
        "keystone/keystone.conf": _keystone(site),
        "placement/placement.conf": _placement(site),
        "glance/glance-api.conf": _glance(site),
        "cinder/cinder.conf": _cinder(site),
        "neutron/neutron.conf": _neutron(site),
        "neutron/ml2.conf": _ml2(),
        # Nova refuses to run its compute service where it could reach the database.
        "nova/nova-compute.conf": {
            name: section for name, section in compute.items() if name not in ("database", "api_database")
        },
        "nova/nova.conf": compute,
    }
    for name, content in files.items():
        _write(site.etc / name, content)
    (site.etc / "nova/policy.yaml").write_text(NOVA_POLICY)
    for package, source, target in (
        ("nova-common", "usr/share/nova-common/api-paste.ini", "nova/api-paste.ini"),
        ("neutron-common", "usr/share/neutron-common/api-paste.ini", "neutron/api-paste.ini"),
        ("glance-common", "usr/share/glance-common/glance-api-paste.ini", "glance/api-paste.ini"),
        ("cinder-common", "usr/share/cinder-common/api-paste.ini", "cinder/api-paste.ini"),
        ("cinder-common", "etc/cinder/resource_filters.json", "cinder/resource_filters.json"),
    ):
        shutil.copyfile(configuration_file(package, source), site.etc / target)


def _write(path: Path, content: Configuration) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, section in content.items():
        lines += [f"[{name}]", *(f"{key} = {_text(value)}" for key, value in section.items()), ""]
    path.write_text("\n".join(lines))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _login(site: Site, user: str) -> Section:
    """Return how a service logs in, as it stands in many sections."""
    return {
        "auth_type": "password",
        "auth_url": site.url("identity"),
        "username": user,
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }


def _tokens(site: Site, user: str, service_type: str) -> Section:
    """Return how a service checks the tokens that it is given."""
    return {
        **_login(site, user),
        "www_authenticate_uri": site.url("identity"),
        "service_token_roles": "service",
        "service_token_roles_required": True,
        "service_type": service_type,
    }


def _shared(site: Site) -> Configuration:
    return {
        "oslo_messaging_rabbit": {"heartbeat_in_pthread": False, "rabbit_retry_interval": 1},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_middleware": {"enable_proxy_headers_parsing": True},  # links have the scheme that a client used
        "oslo_concurrency": {"lock_path": site.lock},
    }


def _keystone(site: Site) -> Configuration:
    return {
        "DEFAULT": {"use_stderr": True},
        "database": {"connection": site.database_url("keystone")},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": site.keystone_keys / "fernet"},
        "credential": {"key_repository": site.keystone_keys / "credential"},
        # Every call to every service asks Keystone about its token; one process, so one memory.
        "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
        "identity": {"password_hash_rounds": 4},  # these passwords are no secrets, and logins many
        **_shared(site),
    }


def _placement(site: Site) -> Configuration:
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": site.database_url("placement")},
        "keystone_authtoken": _tokens(site, "placement", "placement"),
    }


def _glance(site: Site) -> Configuration:
    staging = site.directory / "glance/staging"
    return {
        "DEFAULT": {
            "bind_host": ADDRESS,
            "bind_port": site.ports["image"],
            "workers": 0,  # serve in the process itself
            "use_stderr": True,
            "enabled_backends": "local:file",
            "node_staging_uri": f"file://{staging}",
        },
        "glance_store": {"default_backend": "local"},
        "local": {
            "filesystem_store_datadir": site.directory / "glance/images",
            "filesystem_thin_provisioning": True,  # volumes are mostly empty
        },
        "os_glance_staging_store": {"filesystem_store_datadir": staging},
        "os_glance_tasks_store": {"filesystem_store_datadir": staging},
        "database": {"connection": site.database_url("glance")},
        "paste_deploy": {"flavor": "keystone", "config_file": site.etc / "glance/api-paste.ini"},
        "keystone_authtoken": _tokens(site, "glance", "image"),
        **_shared(site),
    }


def _cinder(site: Site) -> Configuration:
    return {
        "DEFAULT": {
            "use_stderr": True,
            "host": "volume1",
            "my_ip": ADDRESS,
            "auth_strategy": "keystone",
            "transport_url": site.message_url,
            "state_path": site.directory / "cinder",
            "api_paste_config": site.etc / "cinder/api-paste.ini",
            "resource_query_filters_file": site.etc / "cinder/resource_filters.json",
            "osapi_volume_listen": ADDRESS,
            "osapi_volume_listen_port": site.ports["volumev3"],
            "osapi_volume_workers": 1,
            "glance_api_servers": site.url("image"),
            "enabled_backends": "sparse",
            "image_conversion_dir": site.directory / "cinder/conversion",
            "report_interval": 2,
            "scheduler_driver_init_wait_time": 2,
        },
        "sparse": {
            "volume_driver": VOLUME_DRIVER,
            "volume_backend_name": "sparse",
            "lab_volume_directory": site.volumes,
        },
        "database": {"connection": site.database_url("cinder")},
        "nova": {**_login(site, "cinder"), "interface": "internal"},
        "service_user": {"send_service_user_token": True, **_login(site, "cinder")},
        "keystone_authtoken": _tokens(site, "cinder", "volumev3"),
        **_shared(site),
    }


def _neutron(site: Site) -> Configuration:
    return {
        "DEFAULT": {
            "use_stderr": True,
            "bind_host": ADDRESS,
            "bind_port": site.ports["network"],
            "core_plugin": "ml2",
            "service_plugins": "router",
            "transport_url": site.message_url,
            "api_workers": 0,
            "rpc_workers": 0,
            "rpc_state_report_workers": 0,
            "state_path": site.directory / "neutron",
            "api_paste_config": site.etc / "neutron/api-paste.ini",
            "agent_down_time": WEEKS_SECONDS,
            "notify_nova_on_port_status_changes": True,
            "notify_nova_on_port_data_changes": True,
        },
        "database": {"connection": site.database_url("neutron")},
        "nova": {**_login(site, "neutron"), "endpoint_type": "internal"},
        "keystone_authtoken": _tokens(site, "neutron", "network"),
        **_shared(site),
    }


def _ml2() -> Configuration:
    return {
        "ml2": {
            "type_drivers": "local,flat,vlan,vxlan",
            "tenant_network_types": "vxlan",
            "mechanism_drivers": "openvswitch",
            "extension_drivers": "port_security",
        },
        "ml2_type_flat": {"flat_networks": "*"},
        "ml2_type_vlan": {"network_vlan_ranges": "physnet1:100:200"},
        "ml2_type_vxlan": {"vni_ranges": "1:1000"},
        "securitygroup": {"enable_security_group": True},
    }


def _nova(site: Site) -> Configuration:
    return {
        "DEFAULT": {
            "use_stderr": True,
            "host": HOST,
            "my_ip": ADDRESS,
            "state_path": site.nova,
            "transport_url": site.message_url,
            "compute_driver": COMPUTE_DRIVER,
            "enabled_apis": "osapi_compute",
            "osapi_compute_listen": ADDRESS,
            "osapi_compute_listen_port": site.ports["compute"],
            "osapi_compute_workers": 1,
            "vif_plugging_is_fatal": False,
            "vif_plugging_timeout": 0,
            "reserved_host_memory_mb": 0,
            "reserved_host_disk_mb": 0,
            "block_device_allocate_retries_interval": 1,
            "report_interval": 2,
            # Nobody changes a guest's power behind Nova's back, and the driver knows no "paused".
            "sync_power_state_interval": NEVER,
        },
        "api": {"auth_strategy": "keystone"},
        "wsgi": {"api_paste_config": site.etc / "nova/api-paste.ini"},
        "api_database": {"connection": site.database_url("nova_api")},
        "database": {"connection": site.database_url("nova")},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1},
        "glance": {"api_servers": site.url("image")},
        "placement": _login(site, "nova"),
        "neutron": {**_login(site, "nova"), "valid_interfaces": "internal", "service_metadata_proxy": False},
        "cinder": {
            **_login(site, "nova"),
            "catalog_info": "volumev3::internalURL",
            "os_region_name": REGION,
        },
        "service_user": {"send_service_user_token": True, **_login(site, "nova")},
        "vnc": {"enabled": False},
        "oslo_policy": {"policy_file": site.etc / "nova/policy.yaml"},
        "keystone_authtoken": _tokens(site, "nova", "compute"),
        **_shared(site),
    }
