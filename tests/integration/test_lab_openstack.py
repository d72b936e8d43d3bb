"""The OpenStack of the lab behaves like one, as far as an import depends on it."""

from __future__ import annotations

import hashlib
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from requests.exceptions import RequestException

from tests.lab.guest import MIB, Guest, build_guest
from tests.lab.openstack.api import ApiError
from tests.lab.processes import running_with, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return build_guest(tmp_path, boot_size=2 * MIB, data_size=MIB)


def test_a_server_boots_from_a_volume_and_stops(tenant: Tenant, guest: Guest) -> None:
    properties = {"hw_disk_bus": "scsi"}
    server = tenant.boot_from_volume("web", guest.boot_raw, data=[guest.data_raw], properties=properties)
    attached = tenant.server(server.id)["os-extended-volumes:volumes_attached"]
    assert [volume["id"] for volume in attached] == list(server.volumes)
    assert tenant.volume(server.volumes[0])["volume_image_metadata"]["hw_disk_bus"] == "scsi"
    tenant.act(server.id, "os-stop")
    tenant.wait_for_server(server.id, "SHUTOFF")
    inventory = tenant.inventory()
    assert inventory["servers"] == {server.id: "web"}
    assert set(inventory["volumes"]) == set(server.volumes)
    assert inventory["images"] == inventory["snapshots"] == {}


def test_a_snapshot_of_a_server_from_an_image_has_its_bytes(tenant: Tenant, guest: Guest) -> None:
    server = tenant.boot_from_image("web", guest.boot_raw, data=[guest.data_raw])
    image = tenant.act(server.id, "createImage", name="copy")["image_id"]
    tenant.wait_for_image(image)
    content = tenant.api.call("GET", "image", f"/v2/images/{image}/file").content
    assert content == guest.boot_raw.read_bytes()


def test_a_snapshot_that_a_volume_was_made_from_stays_until_the_volume_is_gone(
    tenant: Tenant, guest: Guest
) -> None:
    api = tenant.api
    (source,) = tenant.add_volumes([guest.boot_raw])
    wanted = {"snapshot": {"volume_id": source, "name": "s"}}
    snapshot = api.post("volumev3", "/snapshots", wanted)["snapshot"]["id"]
    tenant.wait_for_snapshot(snapshot)
    clone = api.post("volumev3", "/volumes", {"volume": {"snapshot_id": snapshot, "size": 1}})["volume"]["id"]
    tenant.wait_for_volume(clone)
    api.delete("volumev3", f"/snapshots/{snapshot}")
    tenant.wait_for_snapshot(snapshot, "available")
    api.delete("volumev3", f"/volumes/{clone}")
    tenant.wait_until_gone("volumev3", f"/volumes/{clone}")
    api.delete("volumev3", f"/snapshots/{snapshot}")
    tenant.wait_until_gone("volumev3", f"/snapshots/{snapshot}")
    assert tenant.inventory()["snapshots"] == {}


def test_a_server_that_takes_its_time_to_stop_says_so(
    cloud: OpenStackCloud, tenant: Tenant, guest: Guest
) -> None:
    server = tenant.boot_from_image("slow", guest.boot_raw)
    with cloud.slow_to_stop(seconds=10):
        tenant.act(server.id, "os-stop")
        tenant.wait_for_server(server.id, "ACTIVE (powering-off)")
        tenant.wait_for_server(server.id, "SHUTOFF")


def test_work_waits_for_a_service_that_does_nothing(
    cloud: OpenStackCloud, tenant: Tenant, guest: Guest
) -> None:
    (source,) = tenant.add_volumes([guest.data_raw])
    wanted = {"snapshot": {"volume_id": source, "name": "s"}}
    with cloud.frozen("cinder-volume"):
        snapshot = tenant.api.post("volumev3", "/snapshots", wanted)["snapshot"]["id"]
        tenant.wait_for_snapshot(snapshot, "creating")
    tenant.wait_for_snapshot(snapshot, "available")


def test_a_service_that_was_killed_comes_back_with_what_it_had(
    cloud: OpenStackCloud, tenant: Tenant, guest: Guest
) -> None:
    image = tenant.add_image("i", guest.data_raw)
    with cloud.killed("glance-api"), pytest.raises(ApiError):
        tenant.image(image)
    assert tenant.image(image)["status"] == "active"


def test_a_body_is_cut_where_it_was_ordered(cloud: OpenStackCloud, tenant: Tenant, guest: Guest) -> None:
    image = tenant.add_image("i", guest.boot_raw)
    path = f"/v2/images/{image}/file"
    fault = cloud.gateways["image"].order("cut", path=path, after_bytes=MIB)
    answer = tenant.api.call("GET", "image", path, stream=True)
    got: list[bytes] = []
    with pytest.raises(RequestException):
        got.extend(answer.iter_content(4096))
    assert fault.fired == 1
    assert b"".join(got) == guest.boot_raw.read_bytes()[:MIB]
    assert tenant.api.call("GET", "image", path).content == guest.boot_raw.read_bytes()


def test_a_service_can_be_out_of_reach(cloud: OpenStackCloud, tenant: Tenant) -> None:
    with cloud.gateways["network"].away(), pytest.raises(ApiError, match="Unable to establish connection"):
        tenant.inventory()
    tenant.inventory()


def test_revoked_tokens_are_refused_and_new_ones_good(cloud: OpenStackCloud, tenant: Tenant) -> None:
    token = tenant.api.token()
    url = f"{cloud.auth_url}/users/{tenant.user_id}"
    assert requests.get(url, headers={"X-Auth-Token": token}, timeout=60).ok
    cloud.revoke_tokens(tenant)
    assert requests.get(url, headers={"X-Auth-Token": token}, timeout=60).status_code == 401
    assert tenant.is_welcome()


def test_everything_is_reached_over_https_as_well(cloud: OpenStackCloud, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(cloud.ca_pem)
    version = requests.get(cloud.tls_auth_url, verify=str(authority), timeout=60).json()["version"]
    assert version["links"][0]["href"].startswith(cloud.tls_auth_url)
    port = urlsplit(cloud.tls_auth_url).port
    leaf = ssl.get_server_certificate(("127.0.0.1", port or 0))
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest() == cloud.fingerprint


def test_a_quota_is_enforced(cloud: OpenStackCloud, tenant: Tenant) -> None:
    cloud.set_volume_quota(tenant, volumes=0)
    with pytest.raises(ApiError, match="Maximum number of volumes allowed") as refused:
        tenant.api.post("volumev3", "/volumes", {"volume": {"size": 1}})
    assert refused.value.status == 413


def test_objects_come_into_the_states_that_are_ordered(
    cloud: OpenStackCloud, tenant: Tenant, guest: Guest
) -> None:
    (volume,) = tenant.add_volumes([guest.data_raw])
    image = tenant.add_image("i", guest.data_raw)
    cloud.set_volume_status(volume, "error")
    cloud.set_image_status(image, "killed")
    assert tenant.volume(volume)["status"] == "error"
    assert tenant.image(image)["status"] == "killed"


def test_the_workers_of_a_service_do_not_outlive_it(cloud: OpenStackCloud) -> None:
    configuration = str(cloud.site.etc / "cinder/cinder.conf")

    def running() -> int:
        return sum("cinder-volume" in line for line in running_with(configuration))

    assert running() > 1
    # A worker left alone would wait for the queue's answer. The queue is back before the service is.
    with ExitStack() as until_it_is_back, cloud.frozen("rabbitmq"):
        until_it_is_back.enter_context(cloud.killed("cinder-volume"))
        wait_until(lambda: running() == 0, what="the end of the workers", timeout_seconds=120)
    assert running() > 1
