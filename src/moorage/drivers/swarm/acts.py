"""Doing one step of a swarm's plan. Every act may be done again, and after any interruption."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from moorage.clients.docker import Engine, EnginePool, EngineRefused, EngineSilent
from moorage.clients.docker_wire import JoinTokens, SwarmMember, plain
from moorage.drivers.hostnames import hostname
from moorage.drivers.swarm import engine as script
from moorage.drivers.swarm import steps as verbs
from moorage.drivers.swarm.naming import CREDENTIALS, DRAINED, OURS
from moorage.model.cluster import ClusterSpec
from moorage.model.errors import RetryLater
from moorage.model.node import Role
from moorage.model.plan import RESTART, Step
from moorage.model.ports import Member, Members

T = TypeVar("T")

OVERLAYS = "10.0.0.0/9"
"""Where overlay networks come from: beside the nodes' own networks (10.128.0.0/12)."""
HEARTBEAT = 1.0
"""Seconds between a member's signs of life: a lost one is down after three of them."""
PROOF_SECONDS = 5.0
"""An engine that answers within this is not started again."""
START_SECONDS = 30.0
"""A manager's engine answers once there is a leader, and to elect one takes 10 to 19 seconds."""
LOOK_EVERY = 3.0
"""Seconds between looks into a node whose engine is awaited."""
SCRIPT_SECONDS = 20.0
MANAGER_SECONDS = 15.0
AWAIT_SECONDS = 15.0
DRAIN_SECONDS = 20.0
DEMOTE_SECONDS = 10.0
SHORT, LONG = 0.015, 0.1
"""Seconds between two questions: what is a matter of milliseconds, and what is not."""


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts on one cluster."""

    pool: EnginePool
    cluster: ClusterSpec
    members: Members

    async def perform(self, step: Step) -> None:
        """Raises RetryLater, with the cause; ValueError for a verb that is not ours."""
        if step.verb not in _ACTS:
            raise ValueError(f"not a step of this driver: {step}")
        await _ACTS[step.verb](self, step)

    # The engine

    async def _start_engine(self, name: str, *, restart: bool) -> None:
        engine = self._engine(name)
        if restart or not await _answers(engine):
            await self._run_script(engine, script.RESTART if restart else script.START)

    async def _trust(self, name: str) -> None:
        await self._run_script(self._engine(name), script.TRUST)

    async def _run_script(self, engine: Engine, purpose: str) -> None:
        """Run the engine's script with new certificates, until they are seen."""
        member, authority = self._member(engine.name), self.cluster.authority
        node = member.node
        host = hostname(self.cluster.name, engine.name)
        outside = [node.endpoint.rpartition(":")[0]] if node.endpoint else []
        pair = authority.server(host, ["localhost", "127.0.0.1", engine.address, *outside])
        files = script.archive(authority.certificate, pair, {"moorage.role": str(node.role)})
        done = await member.host.run(
            ["/bin/sh", "-c", script.SCRIPT, "sh", purpose], stdin=files, timeout=SCRIPT_SECONDS
        )
        if done.returncode:
            said = plain(done.stderr.decode(errors="replace"), 300)
            raise RetryLater(f"{engine} could not be started: {said or 'no message'}")
        self.pool.renew(self.cluster.uuid)
        await self._until_it_answers(engine, member)

    async def _until_it_answers(self, engine: Engine, member: Member) -> None:
        end, look = monotonic() + START_SECONDS, monotonic() + LOOK_EVERY
        while True:
            reason = f"{engine} takes no connections yet"
            if await engine.listens():
                try:
                    shown = await engine.ping()
                except EngineSilent as silence:
                    reason = silence.reason
                else:
                    if shown == self.cluster.authority.revision:
                        return
                    reason = f"{engine} shows its former certificate still"
                    self.pool.renew(self.cluster.uuid)
            if monotonic() > look:
                done = await member.host.run(["/bin/sh", "-c", script.LOOK], timeout=5.0)
                said = plain(done.stdout.decode(errors="replace")[-400:], 400)
                if monotonic() > end or done.returncode:
                    raise RetryLater(f"{reason}; its log ends with: {said}")
                look = monotonic() + LOOK_EVERY
            await asyncio.sleep(SHORT)

    # The swarm

    async def _init(self, name: str) -> None:
        """Return as soon as the manager can take members in, a tenth of a second early.

        The engine answers when its own agent is a member too. It goes on by itself when
        nobody waits for that answer.
        """
        engine = self._engine(name)
        asked = asyncio.create_task(engine.init_swarm(pool=OVERLAYS, heartbeat=HEARTBEAT))
        try:
            while not await _controls(engine):
                ended, _ = await asyncio.wait({asked}, timeout=SHORT)
                if ended and not await _controls(engine):
                    asked.result()
                    raise RetryLater(f"{engine} made a swarm that it does not manage")
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _join(self, name: str, role: str) -> None:
        engine = self._engine(name)
        manager, tokens = await self._ask_manager(_with_tokens, but=name)
        token = tokens.manager if role == "manager" else tokens.worker
        try:
            await engine.join_swarm([manager], token)
        except EngineRefused:
            if await self._seat(engine) is None:
                raise

    async def _leave(self, name: str) -> None:
        engine = self._engine(name)
        try:
            await engine.leave_swarm()
        except EngineRefused:
            if (await engine.info()).state != "inactive":
                raise

    async def _force_new_cluster(self, name: str) -> None:
        await self._engine(name).init_swarm(
            pool=OVERLAYS, heartbeat=HEARTBEAT, force_new_cluster=True
        )

    async def _remove(self, id: str) -> None:
        """Only a manager that the majority is counted with has to be demoted (and can be)."""
        seat = await self._ask_manager(lambda manager: manager.member(id))
        if seat is not None and seat.reachability:
            await self._demote(id)
        await self._ask_manager(lambda manager: manager.remove_member(id))

    # The members

    async def _await_member(self, name: str) -> None:
        engine = self._engine(name)
        end = monotonic() + AWAIT_SECONDS
        while (reason := await self._absence(engine)) is not None:
            while await self._listed_ready(engine) is None:
                if monotonic() > end:
                    raise RetryLater(reason)
                await asyncio.sleep(SHORT)
            if monotonic() > end:
                raise RetryLater(reason)
            await asyncio.sleep(SHORT)

    async def _absence(self, engine: Engine) -> str | None:
        """Why the engine is not ready in the swarm, and may become so; None when it is."""
        name, info = engine.name, await engine.info()
        if info.state == "locked":
            why = f"the swarm on {name} is locked: `docker swarm unlock` there opens it"
            raise RetryLater(why, delay=15.0)
        if info.state == "inactive":
            raise RetryLater(f"{name} is in no swarm")
        if info.state == "active":
            seat = await self._ask_manager(lambda manager: manager.member(info.node_id))
            if seat is None:
                raise RetryLater(f"{name} is in another swarm")
            if seat.state == "ready" and seat.reachability != "unreachable":
                return None
            return f"{name} is {seat.state} in the swarm: {seat.message}".removesuffix(": ")
        return f"{name} is {info.state}: {info.error}".removesuffix(": ")

    async def _listed_ready(self, engine: Engine) -> SwarmMember | None:
        """The one ready member with the engine's address: cheap to ask, and no proof.

        (`/info` runs three programs on the node. A member that was lost is still listed
        as ready for some seconds.)
        """
        seats = await self._ask_manager(Engine.members)
        here = [seat for seat in seats if seat.address == engine.address and seat.state == "ready"]
        return here[0] if len(here) == 1 else None

    async def _label(self, name: str, wanted: Mapping[str, str]) -> None:
        engine = self._engine(name)
        seat = await self._listed_ready(engine) or await self._seat(engine)
        if seat is None:
            raise RetryLater(f"{name} is no member of the swarm yet")
        id, given = seat.id, wanted.get(OURS, "").split()
        former = {*seat.labels.get(OURS, "").split(), OURS} - {*given, *wanted}
        await self._ask_manager(
            lambda manager: manager.update_member(id, labels=wanted, forget=former)
        )

    async def _demote(self, id: str) -> None:
        """Make it a worker, and wait until the managers count without it. Absent is demoted."""
        end = monotonic() + DEMOTE_SECONDS
        while seat := await self._ask_manager(lambda manager: manager.member(id)):
            if seat.role == "manager":
                await self._ask_manager(lambda manager: manager.update_member(id, role="worker"))
            elif not seat.reachability:
                return
            if monotonic() > end:
                raise RetryLater(f"{seat.hostname} is still one of the swarm's managers")
            await asyncio.sleep(LONG)

    async def _update(self, id: str, **changes: Any) -> None:
        await self._ask_manager(lambda manager: manager.update_member(id, **changes))

    async def _rotate_tokens(self, times: str) -> None:
        note = {CREDENTIALS: times}
        await self._ask_manager(lambda manager: manager.rotate_join_tokens(note))

    async def _drain(self, id: str, former: str | None) -> None:
        """Without a member there is nothing to drain; after its time, what runs is stopped.

        `former`: the availability that it is to have again.
        """
        if await self._ask_manager(lambda manager: manager.member(id)) is None:
            return
        labels = {DRAINED: former} if former else None
        await self._ask_manager(
            lambda manager: manager.update_member(id, availability="drain", labels=labels)
        )
        end = monotonic() + DRAIN_SECONDS
        while monotonic() < end:
            with contextlib.suppress(
                EngineSilent
            ):  # a list too long to be read is no reason to stay
                if not await self._ask_manager(lambda manager: manager.running_tasks(id)):
                    return
            await asyncio.sleep(LONG)

    async def _seat(self, engine: Engine) -> SwarmMember | None:
        """The engine's own entry in this swarm's list; None where it is not a member of it."""
        node_id = (await engine.info()).node_id
        if not node_id:
            return None
        return await self._ask_manager(lambda manager: manager.member(node_id))

    # Whom to ask

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise RetryLater(f"node {name} is not running")
        return self.members[name]

    def _engine(self, name: str) -> Engine:
        address = self._member(name).node.address
        return self.pool.engine(self.cluster.uuid, self.cluster.authority, name, address)

    def _managers(self, *, but: str = "") -> list[Engine]:
        """Who may be one: the masters first, then the workers, which a tenant may promote."""
        names = sorted(
            self.members, key=lambda n: (self.members[n].node.role is not Role.MASTER, n)
        )
        return [
            self._engine(name) for name in names if self.members[name].node.address and name != but
        ]

    async def _ask_manager(self, question: Callable[[Engine], Awaitable[T]], *, but: str = "") -> T:
        """The answer of the first manager that has one; one that just started may need a while.

        A refusal for cause (HTTP 4xx) is an answer: it is raised.
        """
        trouble = RetryLater("no manager of the swarm is running")
        end = monotonic() + MANAGER_SECONDS
        while True:
            for manager in self._managers(but=but):
                try:
                    return await question(manager)
                except EngineSilent as silence:
                    trouble = silence
                except EngineRefused as refusal:
                    if refusal.status < 500:
                        raise
                    trouble = refusal
            if monotonic() > end:
                raise trouble
            await asyncio.sleep(LONG)


async def _with_tokens(manager: Engine) -> tuple[str, JoinTokens]:
    return manager.address, await manager.join_tokens()


async def _controls(engine: Engine) -> bool:
    try:
        await engine.join_tokens()
    except EngineRefused:
        return False
    return True


async def _answers(engine: Engine) -> bool:
    try:
        await engine.ping(timeout=PROOF_SECONDS)
    except EngineSilent:
        return False
    return True


_ACTS: Mapping[str, Callable[[Acts, Step], Awaitable[None]]] = {
    verbs.START_ENGINE: lambda acts, s: acts._start_engine(s.node, restart=RESTART in s.detail),
    verbs.TRUST: lambda acts, s: acts._trust(s.node),
    verbs.INIT_SWARM: lambda acts, s: acts._init(s.node),
    verbs.FORCE_NEW_CLUSTER: lambda acts, s: acts._force_new_cluster(s.node),
    verbs.JOIN: lambda acts, s: acts._join(s.node, s.detail["role"]),
    verbs.AWAIT_MEMBER: lambda acts, s: acts._await_member(s.node),
    verbs.LABEL_NODE: lambda acts, s: acts._label(s.node, s.detail),
    verbs.PROMOTE: lambda acts, s: acts._update(s.detail["id"], role="manager"),
    verbs.DEMOTE: lambda acts, s: acts._demote(s.detail["id"]),
    verbs.DRAIN: lambda acts, s: acts._drain(s.detail["id"], s.detail.get(DRAINED)),
    verbs.ACTIVATE: lambda acts, s: acts._update(
        s.detail["id"], availability=s.detail.get("to", "active"), forget=[DRAINED]
    ),
    verbs.ROTATE_TOKENS: lambda acts, s: acts._rotate_tokens(s.detail["times"]),
    verbs.LEAVE: lambda acts, s: acts._leave(s.node),
    verbs.REMOVE_MEMBER: lambda acts, s: acts._remove(s.node),
}
VERBS = frozenset(_ACTS)
"""Every verb that `perform` knows."""
