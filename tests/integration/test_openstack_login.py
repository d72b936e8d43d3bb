"""The OpenStack provider against the lab's cloud: logging in."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from providers.base import TLSPolicy
from providers.errors import (
    AuthenticationFailed,
    CertificateChanged,
    RegionNotFound,
    SecretIncomplete,
    Unreachable,
)
from tests.integration.openstack import provider_for, secret_of
from tests.lab.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.openstack.provider import OpenstackProvider
    from tests.lab.openstack.cloud import OpenStackCloud
    from tests.lab.openstack.tenant import Tenant

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tenant(cloud: OpenStackCloud) -> Iterator[Tenant]:
    with closing(cloud.new_tenant("visitor")) as tenant:
        yield tenant


def test_a_password_logs_in_at_an_endpoint_with_and_without_a_version(
    cloud: OpenStackCloud, tenant: Tenant
) -> None:
    for endpoint in (cloud.auth_url, cloud.auth_url.removesuffix("/v3"), cloud.auth_url + "/"):
        with closing(provider_for(cloud, secret_of(tenant), endpoint=endpoint)) as provider:
            assert f"project {tenant.project}" in provider.verify().message


def test_an_application_credential_logs_in(cloud: OpenStackCloud, tenant: Tenant) -> None:
    secret = {
        "application_credential_id": tenant.application_credential_id,
        "application_credential_secret": tenant.application_credential_secret,
    }
    with closing(provider_for(cloud, secret)) as provider:
        assert f"project {tenant.project}" in provider.verify().message


def test_the_domains_of_user_and_project_come_before_the_one_for_both(
    cloud: OpenStackCloud, tenant: Tenant
) -> None:
    secret = secret_of(
        tenant, domain_name="Elsewhere", user_domain_name=tenant.domain, project_domain_name=tenant.domain
    )
    with closing(provider_for(cloud, secret)) as provider:
        provider.verify()


@pytest.mark.parametrize(
    "wrong", [{"password": "guess"}, {"project_name": "theirs"}, {"domain_name": "Elsewhere"}]
)
def test_wrong_credentials_are_refused_without_being_repeated(
    cloud: OpenStackCloud, tenant: Tenant, wrong: dict[str, str]
) -> None:
    with closing(provider_for(cloud, secret_of(tenant, **wrong))) as provider:
        for _ in range(2):
            with pytest.raises(AuthenticationFailed) as refused:
                provider.verify()
            assert not any(value in str(refused.value) for value in wrong.values())


def test_a_wrong_region_is_told_with_those_that_exist(cloud: OpenStackCloud, tenant: Tenant) -> None:
    with (
        closing(provider_for(cloud, secret_of(tenant), region="Mars")) as provider,
        pytest.raises(RegionNotFound, match=f"'Mars'.*{cloud.region}"),
    ):
        provider.verify()


def test_an_endpoint_that_nobody_listens_at_is_unreachable(cloud: OpenStackCloud, tenant: Tenant) -> None:
    (port,) = free_ports(1)
    with (
        closing(provider_for(cloud, secret_of(tenant), endpoint=f"http://127.0.0.1:{port}")) as provider,
        pytest.raises(Unreachable, match=f"127.0.0.1:{port}"),
    ):
        provider.verify()


@pytest.mark.parametrize("key", ["username", "password", "project_name", "domain_name"])
def test_a_secret_that_lacks_a_key_names_it(cloud: OpenStackCloud, tenant: Tenant, key: str) -> None:
    with pytest.raises(SecretIncomplete, match=repr(key)):
        provider_for(cloud, secret_of(tenant, **{key: ""}))


def test_all_services_are_held_to_the_certificate_that_is_pinned_or_signed(
    cloud: OpenStackCloud, tenant: Tenant
) -> None:
    for policy, first_use in (
        (TLSPolicy(ca_pem=cloud.ca_pem), None),
        (TLSPolicy(), cloud.fingerprint),
        (TLSPolicy(fingerprint=cloud.fingerprint), None),
        (TLSPolicy(insecure=True), None),
    ):
        with closing(over_tls(cloud, tenant, policy)) as provider:
            assert provider.verify().tls_fingerprint == first_use


def test_another_certificate_than_the_pinned_one_gets_no_password(
    cloud: OpenStackCloud, tenant: Tenant
) -> None:
    before = len(cloud.gateways["identity"].requests())
    with (
        closing(over_tls(cloud, tenant, TLSPolicy(fingerprint="0" * 64))) as provider,
        pytest.raises(CertificateChanged),
    ):
        provider.verify()
    assert len(cloud.gateways["identity"].requests()) == before


def over_tls(cloud: OpenStackCloud, tenant: Tenant, policy: TLSPolicy) -> OpenstackProvider:
    return provider_for(
        cloud, secret_of(tenant), endpoint=cloud.tls_auth_url, region=cloud.tls_region, tls=policy
    )


def test_a_token_that_was_revoked_is_replaced(cloud: OpenStackCloud, tenant: Tenant) -> None:
    """Nova itself would take it for five minutes more: its middleware keeps what it has checked."""
    identity = cloud.gateways["identity"]
    with closing(provider_for(cloud, secret_of(tenant))) as provider:
        provider.verify()
        cloud.revoke_tokens(tenant)
        logins = len(identity.requests("POST", "/auth/tokens$"))
        refused = cloud.gateways["compute"].order("answer", verb="GET", path="/servers", status=401)
        provider.verify()
    assert refused.fired == 1
    assert len(identity.requests("POST", "/auth/tokens$")) == logins + 1
