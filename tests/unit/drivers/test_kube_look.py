"""What a look asks an API server about Moorage's own objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from moorage.clients.kubernetes import Way
from moorage.drivers.kubernetes import access
from moorage.drivers.kubernetes.observation import look
from moorage.drivers.kubernetes.seen import KubeObserved
from moorage.model.errors import RetryLater
from moorage.model.ports import Host, Member
from tests.unit.drivers.kube_scene import AUTHORITY, cluster, node

FIRST = f"{access.BINDINGS}/{access.MEMBERS}"
NOTED = {access.APPLIED: "digest", "moorage.org/laid.master-0": "note"}


class Server:
    """An API server with these objects; of `labelled` ones it is known whose they are."""

    def __init__(self, there: set[str], labelled: set[str]) -> None:
        self.there, self.by_label = there, labelled
        self.asked = 0

    async def ready(self) -> tuple[str, str]:
        return AUTHORITY.revision, ""

    async def nodes(self) -> tuple[Any, ...]:
        return ()

    async def labelled(
        self, collection: str, label: tuple[str, str]
    ) -> dict[str, Mapping[str, str]]:
        assert label == access.LABEL
        self.asked += 1
        found = {path for path in self.by_label if path.rpartition("/")[0] == collection}
        return {path: NOTED if path == FIRST else {} for path in found}

    async def annotations(self, path: str) -> Mapping[str, str]:
        self.asked += 1
        return NOTED if path in self.there else {}


class OneServer:
    """A way to it alone."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def api(self, *_: object) -> Server:
        return self.server

    def silent(self, *_: object) -> None:
        raise RetryLater("nobody is there")

    kubelet = etcd = silent


async def looked(server: Server) -> KubeObserved:
    nodes = {"master-0": node("master-0")}
    members = {"master-0": Member(nodes["master-0"], cast(Host, None))}
    return await look(cast(Way, OneServer(server)), cluster(1, 0), nodes, members)


async def test_four_questions_tell_which_of_our_objects_there_are() -> None:
    server = Server(set(access.paths()), {*access.paths(), f"{access.ROLES}/another"})
    seen = await looked(server)
    assert (seen.own, seen.applied, seen.notes) == (access.paths(), "digest", {"master-0": "note"})
    assert server.asked == 4


@pytest.mark.parametrize("gone", sorted(access.paths()))
async def test_one_that_is_gone_is_missed(gone: str) -> None:
    rest = set(access.paths() - {gone})
    seen = await looked(Server(rest, rest))
    assert seen.own == rest
    assert bool(seen.applied) is (gone != FIRST)


async def test_what_is_noted_on_one_without_a_label_counts() -> None:
    """As in clusters of before there were labels: else their hosted masters were begun anew."""
    seen = await looked(Server(set(access.paths()), set()))
    assert not seen.own
    assert (seen.applied, seen.notes) == ("digest", {"master-0": "note"})
