"""The search for secrets finds them in every form in which they travel."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from tests.lab.secrecy import Secrecy
from tests.unit.fakes import eventually

PASSWORD = "hunter2 & co."  # noqa: S105
SECRET = {"kind": "Secret", "stringData": {"username": "admin", "password": PASSWORD, "caCert": "-----BEGIN"}}


@pytest.mark.parametrize(
    "text",
    [
        f"login with {PASSWORD} failed",
        base64.b64encode(PASSWORD.encode()).decode(),
        "https://admin:hunter2%20%26%20co.@host/",
        "Authorization: Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode(),
    ],
)
def test_a_password_is_found_in_every_form(text: str) -> None:
    secrecy = Secrecy()
    secrecy.keep("log", text)
    secrecy.remember_manifests([SECRET])  # later than the text: all is searched at the end
    (leak, *_) = secrecy.leaks()
    assert leak.endswith(" in log")
    assert PASSWORD not in leak


def test_what_is_public_is_no_leak() -> None:
    secrecy = Secrecy()
    secrecy.remember_manifests([SECRET, {"kind": "ConfigMap", "data": {"password": "not one"}}])
    secrecy.keep("log", "admin -----BEGIN not one")
    assert secrecy.leaks() == []


def test_the_token_of_an_image_url_is_a_secret() -> None:
    secrecy = Secrecy()
    secrecy.remember_urls([f"http://10.0.0.1:8080/{'0f' * 16}/disk-3.raw"])
    secrecy.keep("status", f"token {'0f' * 16}")
    assert secrecy.leaks() == ["image token in status"]


def test_arguments_and_session_cookies_of_a_running_process_are_noticed(tmp_path: Path) -> None:
    (tmp_path / ".open").mkdir()
    entry = json.dumps(
        {"authority": "vcenter:443", "cookie": 'vmware_soap_session="5f2f1d0c-aaaa-bbbb"', "lease": ""}
    )
    (tmp_path / ".open/1.json").write_text(json.dumps({"source": "VmwareSource/default/vc", "entry": entry}))
    secrecy = Secrecy()
    secrecy.follow(os.getpid(), tmp_path)
    eventually(lambda: "session cookie" in secrecy.kinds() and "process arguments" in secrecy.places())
    secrecy.keep("log", "session 5f2f1d0c-aaaa-bbbb")
    assert secrecy.leaks() == ["session cookie in log"]
