"""KubernetesDriver: `model.ports.ClusterDriver` for Kubernetes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import ClassVar

from moorage.clients.kubernetes import Way
from moorage.drivers.kubernetes import installed, sizes
from moorage.drivers.kubernetes.acts import Acts
from moorage.drivers.kubernetes.listening import listen
from moorage.drivers.kubernetes.naming import VERSION, node_specs
from moorage.drivers.kubernetes.observation import look
from moorage.drivers.kubernetes.place import Given
from moorage.drivers.kubernetes.reconcile import reconcile
from moorage.drivers.kubernetes.seen import KubeObserved
from moorage.model.cluster import ClusterSpec
from moorage.model.node import Least, NodeSpec, ObservedNode, Role
from moorage.model.plan import Step
from moorage.model.ports import Members
from moorage.model.sign_in import SignIn
from moorage.releases import COREDNS, Releases

OLDEST = "v1.20.0"
"""What a cluster is taken for that names no release where none is installed: its nodes would
not come up, and say why."""


class KubernetesDriver:
    """Runs one of the `releases` of this machine on each cluster.

    `sign_in`: where its API servers ask about tokens of Keystone's; None: they take none.

    Belongs to one event loop: it keeps connections to API servers; `aclose` closes them.
    """

    coe: ClassVar[str] = "kubernetes"
    labels: ClassVar[frozenset[str]] = installed.LABELS

    def __init__(self, releases: Releases, sign_in: SignIn | None = None) -> None:
        self._releases = releases
        self._sign_in = sign_in
        self._way = Way()

    def checked(
        self,
        labels: Mapping[str, str],
        former: Mapping[str, str] | None = None,
        runs: str = "",
        nodes: Iterable[IPv4Network] = (),
    ) -> Mapping[str, str]:
        """Checks: with the release that it is to run. Raises Invalid."""
        return installed.checked(self._releases, labels, former, runs, self._needed(nodes))

    def check(self, labels: Mapping[str, str], nodes: Iterable[IPv4Network] = ()) -> None:
        """Checks: of a template. Raises Invalid."""
        installed.check(self._releases, labels, self._needed(nodes))

    def least(self, role: Role, labels: Mapping[str, str]) -> Least:
        """Needs."""
        return sizes.least(role, labels)

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        return node_specs(self._told(cluster), self._releases.directory)

    async def observe(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
    ) -> KubeObserved:
        return await look(self._way, self._told(cluster), nodes, members)

    def plan(self, cluster: ClusterSpec, seen: KubeObserved) -> list[Step]:
        return reconcile(self._told(cluster), self.nodes(cluster), seen, self._given())

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        await Acts(self._way, self._told(cluster), members, self._given()).perform(step)

    def changes(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
    ) -> AsyncGenerator[None]:
        return listen(self._way, self._told(cluster), nodes)

    async def aclose(self) -> None:
        await self._way.aclose()

    def _needed(self, nodes: Iterable[IPv4Network]) -> list[IPv4Network]:
        """With where masters ask about tokens, if that is said by an address."""
        asked = self._sign_in.address if self._sign_in else None
        return [*nodes, *([IPv4Network(asked)] if asked else [])]

    def _given(self) -> Given:
        return Given(self._sign_in, self._releases.having(COREDNS))

    def _told(self, cluster: ClusterSpec) -> ClusterSpec:
        """With a release: services have named one, and whoever comes past them may have not."""
        if cluster.labels.get(VERSION):
            return cluster
        here = self._releases.list()
        newest = str(here[0].version) if here else OLDEST
        return replace(cluster, labels={**cluster.labels, VERSION: newest})
