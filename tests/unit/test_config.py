"""Settings: flags before environment before defaults, and the old names."""

from __future__ import annotations

import pytest

from controller.config import Settings


def test_the_old_environment_names_keep_working() -> None:
    settings = Settings.from_arguments([], {"SVC_ADDRESS": "10.1.2.3", "DEBUG": "true"})
    assert settings.image_address == "10.1.2.3"
    assert settings.debug


def test_a_flag_wins_over_the_environment() -> None:
    settings = Settings.from_arguments(["--image-address", "flag"], {"SVC_ADDRESS": "environment"})
    assert settings.image_address == "flag"


def test_an_image_address_with_a_port_is_taken_as_it_is() -> None:
    with_port = Settings.from_arguments(["--image-address", "images:80"], {})
    without = Settings.from_arguments(["--image-address", "images"], {})
    assert with_port.image_url("/t/disk-0.raw", 8080) == "http://images:80/t/disk-0.raw"
    assert without.image_url("/t/disk-0.raw", 8080) == "http://images:8080/t/disk-0.raw"


@pytest.mark.parametrize("flag", ["--workers", "--max-transfers", "--max-transfers-per-source"])
def test_a_limit_of_zero_is_refused_in_words(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.from_arguments([flag, "0"], {})
    assert f"{flag} must be at least 1" in capsys.readouterr().err
