"""A cluster as it was seen, and what follows from it about each node (pure)."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.clients.docker_wire import EngineInfo, SwarmMember
from moorage.drivers.hostnames import node_of
from moorage.drivers.swarm.naming import CREDENTIALS
from moorage.model.node import NodeState, Role
from moorage.model.ports import Observed

COUNT = re.compile(r"[0-9]{1,9}")
"""As Moorage writes one; a tenant may write there too."""


class Standing(enum.Enum):
    """Where a node is on its way into the swarm."""

    ABSENT = "absent"
    """It has to be made, with an empty disk."""
    STOPPED = "stopped"
    SILENT = "silent"
    """It runs, and its engine doesn't answer. What its disk holds is not known."""
    HUNG = "hung"
    """The engine answers, but not about its swarm."""
    BLANK = "blank"
    """The engine is in no swarm."""
    IN_SWARM = "in-swarm"
    """The engine has a swarm on its disk: this one, or one that is no more."""


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """What the engine of a running node said of itself.

    `info` is None where it said nothing; `trouble` is why, and `answers` whether it is
    there at all. `revision` is that of the authority whose certificate its node shows:
    empty where it does not answer, or was made before certificates told. `joins`: by its own
    note it was never let into the swarm that it was to join.
    """

    info: EngineInfo | None = None
    answers: bool = True
    trouble: str = ""
    revision: str = ""
    joins: bool = False


@dataclass(frozen=True, slots=True)
class SwarmObserved(Observed):
    """`engines`: by name, those of the nodes that run.

    `members` is None where no manager could tell them; `trouble` is why.
    """

    engines: Mapping[str, EngineSeen] = field(default_factory=dict)
    members: tuple[SwarmMember, ...] | None = None
    trouble: str = ""

    def standing(self, name: str) -> Standing:
        node = self.nodes.get(name)
        if node is None or node.state is NodeState.BROKEN:
            return Standing.ABSENT
        if node.state is NodeState.STOPPED:
            return Standing.STOPPED
        engine = self.engines.get(name, EngineSeen(answers=False))
        if engine.info is None:
            return Standing.HUNG if engine.answers else Standing.SILENT
        return Standing.BLANK if engine.info.state in ("", "inactive") else Standing.IN_SWARM

    def useless(self, cluster: str) -> frozenset[str]:
        """The running nodes whose engines can't be used, or not in their swarm.

        Without those whose trouble their provider knows, which is not their engines', and
        those that only their tenant can let in.
        """
        return frozenset(
            name
            for name, node in self.nodes.items()
            if node.state is NodeState.RUNNING
            and not node.reason
            and self._is_useless(cluster, name)
        )

    def _is_useless(self, cluster: str, name: str) -> bool:
        info, member = self.info(name), self.member(cluster, name)
        if info is None or info.state in {"pending", "error"}:
            return True
        return info.state == "active" and member is not None and member.state != "ready"

    def info(self, name: str) -> EngineInfo | None:
        engine = self.engines.get(name)
        return engine.info if engine else None

    def revision(self, name: str) -> str:
        """What the node trusts and shows by now (`Authority.revision`); empty: not known."""
        engine = self.engines.get(name)
        return engine.revision if engine else ""

    def member(self, cluster: str, name: str) -> SwarmMember | None:
        """The node as a member of the swarm, by what its engine says, or else by its host's name.

        An engine that was just made is not the member that its predecessor was.
        """
        if (info := self.info(name)) is not None:
            return next((m for m in self.members or () if m.id == info.node_id), None)
        if self.standing(name) is Standing.ABSENT:
            return None
        return next((m for m in self._unclaimed() if node_of(cluster, m.hostname) == name), None)

    def stale(self, cluster: str) -> list[SwarmMember]:
        """Members that were nodes of this cluster and whose engines are gone for good.

        Not the members from elsewhere: those are their tenant's business.
        """
        known = {
            name
            for name in self.nodes
            if self.standing(name) in {Standing.STOPPED, Standing.SILENT, Standing.HUNG}
        }
        return [
            member
            for member in self._unclaimed()
            if (name := node_of(cluster, member.hostname)) is not None and name not in known
        ]

    def credentials(self) -> int | None:
        """How often the tokens were exchanged, as noted in the swarm; None: no manager told.

        A manager may be behind the others for a moment: the newest note counts.
        """
        ids = {member.id for member in self.members or ()}
        told = [
            seen.info.swarm_labels.get(CREDENTIALS, "")
            for seen in self.engines.values()
            if seen.info and seen.info.node_id in ids and seen.info.swarm_labels is not None
        ]
        noted = (int(text) for text in told if COUNT.fullmatch(text))
        return max(noted, default=0) if told else None

    def managers(self) -> list[str]:
        """The nodes whose engines say that they are managers, the masters first."""
        names = [name for name, seen in self.engines.items() if seen.info and seen.info.control]
        return sorted(names, key=lambda name: (self.nodes[name].role is not Role.MASTER, name))

    def _unclaimed(self) -> list[SwarmMember]:
        claimed = {engine.info.node_id for engine in self.engines.values() if engine.info}
        return [member for member in self.members or () if member.id not in claimed]
