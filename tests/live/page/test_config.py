"""The page's section of the config: where it may listen without a password."""

import pytest
from pydantic import ValidationError

from recognizer.config.page import PageConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_needs_no_password(host):
    assert PageConfig(host=host).is_loopback


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "camera-pc", "localhost.example.org", "2130706433"]
)
def test_any_other_address_needs_a_password(host):
    with pytest.raises(ValidationError) as caught:
        PageConfig(host=host)
    assert "expected a loopback address such as 127.0.0.1 without a password" in str(caught.value)
    assert "set password.env or password.file" in str(caught.value)
    page = PageConfig.model_validate({"host": host, "password": {"env": "RECOGNIZER_PASSWORD"}})
    assert page.host == host


def test_the_defaults_show_skeletons_on_this_machine_alone():
    page = PageConfig()
    assert (page.host, page.port, page.skeleton_only) == ("127.0.0.1", 8740, True)
