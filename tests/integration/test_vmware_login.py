"""The VMware provider against the lab's vCenter: login, trust, the datacenter."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from providers.base import SourceConfig, SourceKind, TLSPolicy
from providers.errors import (
    AuthenticationFailed,
    CertificateChanged,
    CertificateNotTrusted,
    DatacenterNotFound,
    Unreachable,
)
from providers.vmware.provider import VmwareProvider
from tests.integration.vmware import provider_for
from tests.lab.vcenter import VCenter

pytestmark = pytest.mark.integration


def test_a_good_source_is_verified_with_product_and_datacenter(provider: VmwareProvider) -> None:
    verified = provider.verify()

    assert verified.tls_fingerprint is None
    assert verified.message.startswith("VMware vCenter Server 8")
    assert verified.message.endswith("datacenter /DC0")


def test_a_wrong_password_is_told_and_not_sent_twice(vcenter: VCenter) -> None:
    before = vcenter.state()
    provider = provider_for(vcenter, password="wrong")  # noqa: S106

    refusals = []
    for _ in range(3):
        with pytest.raises(AuthenticationFailed) as refusal:
            provider.verify()
        refusals.append(str(refusal.value))
    provider.close()

    after = vcenter.state()
    assert after.refused_logins - before.refused_logins == 1
    assert after.sessions == 0
    assert "wrong" not in "".join(refusals)


def test_a_password_may_hold_any_character(vcenter: VCenter) -> None:
    before = vcenter.username, vcenter.password
    vcenter.set_credentials("DOM\\jürgen", " <ü>&'\"€ ]]> %20 +🙂")
    try:
        with closing(provider_for(vcenter)) as provider:
            assert provider.verify().message
        with (
            closing(provider_for(vcenter, password=vcenter.password.strip())) as provider,
            pytest.raises(AuthenticationFailed),
        ):
            provider.verify()
    finally:
        vcenter.set_credentials(*before)


def test_an_endpoint_may_be_written_in_any_case(vcenter: VCenter) -> None:
    port = vcenter.sdk_url.rpartition(":")[2].partition("/")[0]
    secret = {"username": vcenter.username, "password": vcenter.password}
    config = SourceConfig(
        SourceKind.VMWARE,
        f"HTTPS://LocalHost:{port}",
        secret,
        TLSPolicy(ca_pem=vcenter.ca_pem),
        {"dc": "DC0"},
    )
    with closing(VmwareProvider(config)) as provider:
        assert provider.verify().message


@pytest.mark.parametrize("dc", ["DC0", "/DC0", "DC2", "F0/DC2", "/F0/DC2/"])
def test_a_datacenter_is_found_by_name_or_path(vcenter: VCenter, dc: str) -> None:
    provider = provider_for(vcenter, dc=dc)

    assert provider.verify().message.endswith(dc.strip("/").rpartition("/")[2])
    provider.close()


@pytest.mark.parametrize("dc", ["DC9", "", "F9/DC2", "/DC2"])
def test_an_unknown_datacenter_is_told_with_those_that_exist(vcenter: VCenter, dc: str) -> None:
    provider = provider_for(vcenter, dc=dc)

    with pytest.raises(DatacenterNotFound, match="existing: /DC0, /DC1, /F0/DC2"):
        provider.verify()
    provider.close()


def test_an_unknown_certificate_is_trusted_once_and_pinned_afterwards(vcenter: VCenter) -> None:
    first = provider_for(vcenter, TLSPolicy())
    fingerprint = first.verify().tls_fingerprint
    first.close()
    second = provider_for(vcenter, TLSPolicy(fingerprint=fingerprint))

    assert fingerprint == vcenter.fingerprint
    assert second.verify().tls_fingerprint is None
    second.close()


def test_a_ca_that_did_not_sign_is_told(vcenter: VCenter) -> None:
    with VCenter() as other:
        provider = provider_for(vcenter, TLSPolicy(ca_pem=other.ca_pem))

        with pytest.raises(CertificateNotTrusted):
            provider.verify()


def test_a_password_is_not_sent_to_a_host_whose_certificate_changed() -> None:
    with VCenter() as vcenter:
        new, running = (provider_for(vcenter, TLSPolicy(fingerprint=vcenter.fingerprint)) for _ in range(2))
        running.verify()
        vcenter.new_certificate()
        before = vcenter.state()

        for provider in (new, running):
            with pytest.raises(CertificateChanged):
                provider.verify()
            provider.close()

        after = vcenter.state()
        assert (after.logins, after.refused_logins) == (before.logins, before.refused_logins)
        assert after.calls == before.calls


def test_a_source_that_is_down_is_unreachable_and_found_again(
    vcenter: VCenter, provider: VmwareProvider
) -> None:
    provider.verify()
    vcenter.settings(down=True)
    with pytest.raises(Unreachable):
        provider.verify()
    vcenter.settings(down=False)

    assert provider.verify().message


@pytest.mark.parametrize("status", [500, 503, 302])
def test_an_answer_that_is_not_soap_is_no_crash(vcenter: VCenter, status: int) -> None:
    provider = provider_for(vcenter)
    vcenter.fault("sdk_status", status=status, count=-1)

    with pytest.raises(Unreachable):
        provider.verify()

    vcenter.clear_faults()
    provider.close()


def test_a_lost_session_is_renewed_once_for_all_threads(vcenter: VCenter, provider: VmwareProvider) -> None:
    vcenter.add_vm("looked at")
    vm = provider.inspect("looked at")
    vcenter.expire_sessions()
    before = vcenter.state().logins
    vcenter.fault("method_delay", method="Login", delay_seconds=0.5)  # so that all notice before one is in
    threads = [threading.Thread(target=provider.power_state, args=(vm,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert vcenter.state().logins - before == 1
    assert vcenter.state().sessions == 1


def test_a_closed_provider_logs_nobody_in_again(vcenter: VCenter, provider: VmwareProvider) -> None:
    provider.verify()
    provider.close()

    with pytest.raises(Unreachable):
        provider.verify()
    assert vcenter.state().sessions == 0


def test_a_standalone_esxi_host_is_a_source_too() -> None:
    with VCenter(esx=True) as host:
        made = host.add_vm("alone", power_state="on")
        provider = provider_for(host, dc="ha-datacenter")

        assert provider.verify().message.endswith("/ha-datacenter")
        assert provider.inspect("alone").id == made.moref
        assert provider.inspect(made.moref).name == "alone"
        provider.close()
        assert host.state().sessions == 0
