"""The failpoints are those that the code has, and each is somewhere a server is killed at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moorage import failpoints, store
from moorage.drivers.kubernetes.acts import VERBS as KUBERNETES
from moorage.drivers.swarm.acts import VERBS
from moorage.providers.fake import FakeProvider
from tests.real.test_crash import OPERATIONS
from tests.real.test_fencing import BESIDE_OTHERS
from tests.real.test_kubernetes_crash import OPERATIONS as OF_KUBERNETES


def test_every_act_is_one_that_a_server_is_killed_at() -> None:
    killed_at = [act for killed in OPERATIONS for act in killed.at.split()]
    assert sorted([*killed_at, *BESIDE_OTHERS]) == failpoints.catalogue(VERBS)


def test_every_step_of_kubernetes_is_one_that_a_server_is_killed_at() -> None:
    killed_at = {act for killed in OF_KUBERNETES for act in killed.at.split()}
    assert killed_at >= {f"driver.{verb}" for verb in KUBERNETES}


def test_no_write_of_the_store_hides() -> None:
    """Each call of `write` stands in an operation by itself, and has a name of its own."""
    sources = Path(store.__file__).parent.glob("*.py")
    calls = sum(len(re.findall(r"self\._database\.write\(", p.read_text())) for p in sources)
    elsewhere = {"provider", "driver", "network", "host"}
    acts = failpoints.catalogue([])
    writes = [act for act in acts if act.partition(".")[0] not in elsewhere]
    assert len(set(writes)) == len(writes) == calls


async def test_without_the_variable_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    failpoints._points.cache_clear()
    provider = FakeProvider()
    assert failpoints.arm("provider", provider) is provider
    assert vars(provider).keys() == vars(FakeProvider()).keys()
