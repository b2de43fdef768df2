from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moorage.model.cluster import Cluster
from moorage.model.ports import KeyPair
from moorage.model.template import ClusterTemplate
from moorage.store import Limits, Store
from moorage.trust.seal import Seal

PLENTY = Limits(clusters=10_000, nodes=100_000)
CA = KeyPair(b"-----BEGIN CERTIFICATE-----\npublic\n", b"-----BEGIN PRIVATE KEY-----\nsecret\n")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'moorage.db'}"


@pytest.fixture
def seal() -> Seal:
    return Seal([b"k" * 32])


@pytest.fixture
async def store(url: str, seal: Seal) -> AsyncIterator[Store]:
    opened = await Store.open(url, seal)
    yield opened
    await opened.close()


@pytest.fixture
async def template(store: Store) -> ClusterTemplate:
    return await store.templates.add(a_template())


def a_template(**changes: Any) -> ClusterTemplate:
    values: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "project_id": "ours",
        "user_id": "user",
        "name": "swarm",
        "coe": "swarm",
        "flavor_id": "tiny",
        "master_flavor_id": "small",
        "labels": {"a": "b"},
        "options": {"image_id": "debian"},
    }
    return ClusterTemplate(**(values | changes))


def a_cluster(template: ClusterTemplate, name: str = "one", **changes: Any) -> Cluster:
    values: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "project_id": "ours",
        "user_id": "user",
        "name": name,
        "template_uuid": template.uuid,
        "coe": "swarm",
        "provider": "local",
        "flavor_id": "tiny",
        "master_flavor_id": "tiny",
        "master_count": 1,
        "node_count": 2,
        "create_timeout": 60,
    }
    return Cluster(**(values | changes))
