"""`--keystone URL`: a Keystone that somebody else runs (here, another install's)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moorage.identity.home import SERVICE_USER, KeystoneHome
from tests.real.install import Install

pytestmark = pytest.mark.real


def test_tokens_of_an_existing_keystone_are_believed(install: Install) -> None:
    guest = Install(install.state.parent / "guest", keystone_port=install.keystone_port)
    url = f"http://127.0.0.1:{install.keystone_port}/v3"
    password = KeystoneHome(install.state).password(SERVICE_USER)
    try:
        guest.moorage(
            *("up", "--port", str(guest.port), "--keystone", url),
            env={"MOORAGE_KEYSTONE_PASSWORD": password},
        )
        tenant = replace(install.tenant("red"), install=guest)
        assert tenant.ask("GET", "/clusters").body["clusters"] == []
        assert guest.ask("GET", "/clusters", X_Auth_Token="forged").status == 401
        assert not (guest.state / "keystone").exists(), "it runs no Keystone of its own"
    finally:
        guest.purge()


def test_without_the_password_it_says_which_one_is_missing(install: Install) -> None:
    guest = Install(install.state.parent / "guest")
    try:
        guest.moorage(
            *("up", "--port", str(guest.port), "--keystone", "http://127.0.0.1:1/v3"), code=1
        )
        assert "MOORAGE_KEYSTONE_PASSWORD" in guest.log()
    finally:
        guest.purge()
