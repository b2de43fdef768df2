from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from moorage.clients import conntrack
from moorage.model.errors import Refused, RetryLater

NETWORK = IPv4Network("10.128.7.0/24")


def tool(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A `conntrack` that notes how it is called."""
    calls = directory / "calls"
    made = directory / "conntrack"
    made.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}\n')
    made.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return calls


@pytest.mark.parametrize(("count", "code"), [(0, 1), (2, 0)])
async def test_connections_of_both_ways_are_deleted_and_none_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, code: int
) -> None:
    said = f"conntrack v1.4.7 (conntrack-tools): {count} flow entries have been deleted."
    calls = tool(tmp_path, monkeypatch, f'echo "{said}" >&2; exit {code}')
    await conntrack.forget(NETWORK)
    assert sorted(calls.read_text().splitlines()) == [
        "--delete --orig-dst 10.128.7.0/24",
        "--delete --orig-src 10.128.7.0/24",
    ]


async def test_what_it_could_not_do_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, monkeypatch, 'echo "Operation failed: no way" >&2; exit 1')
    with pytest.raises(RetryLater, match=r"10\.128\.7\.0/24: Operation failed: no way"):
        await conntrack.forget(NETWORK)


async def test_a_machine_without_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="apt-get install conntrack"):
        await conntrack.forget(NETWORK)
