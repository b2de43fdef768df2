"""Who is told of the listener for tokens, and where it is."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from moorage import sign_in
from moorage.networks import Door
from moorage.settings import Settings


def settings(state: Path, **more: Any) -> Settings:
    return Settings(state=state, **more)


def test_one_process_tells_its_own_address(tmp_path: Path) -> None:
    told = sign_in.told(settings(tmp_path))
    assert told is not None
    assert told.url == f"https://{sign_in.public_address()}:9513"
    door = sign_in.door(settings(tmp_path))
    assert door == Door(IPv4Address(sign_in.public_address()), 9513)
    assert told.ca == sign_in.authority(settings(tmp_path)).certificate, "each time the same"


def test_without_a_port_nobody_is_told(tmp_path: Path) -> None:
    for off in (settings(tmp_path, sign_in_port=0), settings(tmp_path, only="conductor")):
        assert sign_in.told(off) is None
        assert sign_in.door(off) is None
    assert list(tmp_path.iterdir()) == [], "nor is a key made"


def test_a_conductor_is_told_where_the_api_is(tmp_path: Path) -> None:
    there = settings(tmp_path, only="conductor", sign_in_url="https://192.0.2.7:9513")
    told = sign_in.told(there)
    assert told is not None
    assert told.url == "https://192.0.2.7:9513"
    assert sign_in.door(there) == Door(IPv4Address("192.0.2.7"), 9513)
    assert sign_in.door(settings(tmp_path, sign_in_url="https://192.0.2.7")) == Door(
        IPv4Address("192.0.2.7"), 443
    )
    assert sign_in.door(settings(tmp_path, sign_in_url="https://cloud:9513")) is None


@pytest.mark.parametrize("url", ["http://192.0.2.7:9513", "https://", "https://a/b", "https://a b"])
def test_a_url_is_of_tls_and_has_no_path(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValidationError):
        settings(tmp_path, sign_in_url=url)
