"""One turn: look at a cluster, decide, act, write one sentence down.

    observe -> check -> plan -> note -> execute -> settle -> apply

A turn carries nothing over to the next but what stands in the row and in the world: it
may be cut off anywhere, and the next one goes on from what it finds. Looking and acting
happen with no transaction open; the one write at the end is fenced by the claim, so that
a turn that has lost its claim changes nothing in the store. Only trouble that was seen is
written down before it is acted on (`note`), since to heal it may take a minute.

A cluster that is to go needs no driver: its nodes are deleted side by side, and once none
is seen any more its row is removed, in one turn where nothing stands in the way.
"""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

import structlog

from moorage.conductor.execute import attempt, execute
from moorage.conductor.tried import Tried
from moorage.conductor.world import World
from moorage.metrics.turns import healed
from moorage.model import plan
from moorage.model.cluster import Cluster, ClusterSpec, ClusterStatus, Health, HealthStatus
from moorage.model.errors import NoRoom
from moorage.model.event import Event, EventKind
from moorage.model.node import NodeRef, NodeSpec, NodeState, ObservedNode
from moorage.model.orphan import Abandoned
from moorage.model.plan import Step, as_text
from moorage.model.ports import HasRoom, Member, Observed, Publishes, Traces
from moorage.planning import healing, rolling
from moorage.planning.abandoning import abandoned, gives_up
from moorage.planning.groups import gone_back, settled_groups
from moorage.planning.nodes import node_steps
from moorage.planning.order import ordered
from moorage.planning.outcomes import Outcome, worst
from moorage.planning.status import Findings, Verdict, refused, settle, settle_delete, some
from moorage.store.claims import Claim

log = structlog.get_logger(__name__)

STAGE_SECONDS = 30.0
"""A provider and a driver that look for longer than this have not seen anything."""
CREATING = (ClusterStatus.CREATE_IN_PROGRESS, ClusterStatus.CREATE_FAILED)
ROOM_ASKED = (*CREATING, ClusterStatus.UPDATE_IN_PROGRESS)
"""Where a whole wish is refused beforehand. A cluster that heals takes what room there is."""


class Ledger(Protocol):
    """Where a turn ends: the part of `store.claims` that it writes to."""

    async def apply(
        self, claim: Claim, cluster: Cluster, due_in: float, events: Sequence[Event]
    ) -> bool: ...

    async def release(self, claim: Claim) -> None: ...

    async def step_back(self, claim: Claim, reason: str, events: Sequence[Event]) -> bool: ...

    async def note(self, claim: Claim, cluster: Cluster, events: Sequence[Event]) -> None: ...

    async def remove(self, claim: Claim, events: Sequence[Event]) -> None: ...

    async def abandon(self, claim: Claim, left: Abandoned, events: Sequence[Event]) -> None: ...


@dataclass(frozen=True, slots=True)
class End:
    """How a turn ended. `idle`: there was nothing to do and nothing to tell."""

    sentence: str
    idle: bool = False
    troubled: bool = False


class Turn:
    """One turn of one claimed cluster.

    Once `halt` is set, no further step starts, and the turn ends as soon as it can. `hold`
    is awaited before each step: it makes sure that the claim holds, or raises LostClaim.
    """

    def __init__(
        self,
        claim: Claim,
        world: World,
        ledger: Ledger,
        tried: Tried,
        halt: asyncio.Event,
        *,
        hold: Callable[[], Awaitable[None]],
    ) -> None:
        self.claim = claim
        self.cluster = claim.cluster
        self.world = world
        self.ledger = ledger
        self.tried = tried
        self.halt = halt
        self.hold = hold
        self.id = uuid.uuid4().hex[:12]
        self.began = monotonic()
        self.began_at = world.now()
        self.spec: ClusterSpec
        self.wanted: dict[str, NodeSpec] = {}
        self.nodes: dict[str, ObservedNode] = {}
        self.members: dict[str, Member] = {}
        self.seen: Any = None
        """The driver's own kind of Observed; None until the world was seen."""
        self.seen_at: datetime.datetime | None = None
        self.steps: list[Step] = []
        self.old: tuple[str, ...] = ()
        self.held: tuple[str, ...] = ()
        self.admitted = healing.Admitted([])
        self.outcomes: list[Outcome] = []
        self.crowded = False
        """Whether its machine has no room for what was to be made, and nothing of it is there."""
        self.whole = False
        """Whether it ended with the cluster seen and complete, though it may have to heal."""

    async def take(self) -> End:
        """The turn itself. Raises LostClaim, and whatever the store raises."""
        log.debug("turn begins")
        if self.cluster.status.deleting:
            return await self._remove()
        return await self._converge()

    async def _converge(self) -> End:
        if (
            await self._get("observe", self._observe)
            and (bool(self.nodes) or await self._get("check", self._check))
            and await self._get("plan", self._plan)
            and await self._get("room", self._ask_for_room)
        ):
            await self._note()
            self.outcomes = await self._execute()
            if self._halted():
                return await self._hand_back()
        if self.crowded and (left := await self._step_back()):
            return left
        was_refused = refused(self.cluster, self.outcomes, empty=not self.nodes)
        undone = await self._undo() if was_refused else None
        found = self._findings(undone=undone)
        self._remember(found)
        return await self._apply(settle(self.cluster, found), found, undone=undone is not None)

    async def _step_back(self) -> End | None:
        """Leave a create to another machine; None where there is none that could be asked."""
        trouble = worst(self.outcomes)
        sentence = f"{trouble.reason if trouble else 'no room'}; another machine is asked"
        events = self._events(sentence, ok=False)
        if await self.ledger.step_back(self.claim, sentence, events):
            return End(sentence, troubled=True)
        return None

    async def _remove(self) -> End:
        if await self._get("observe", self._observe_nodes):
            count = len(self.nodes)
            self.steps = node_steps([], self.nodes)
            self.outcomes = await self._execute()
            if self._halted():
                return await self._hand_back()
            gone = not self.steps or await self._get("observe", self._observe_nodes)
            clean = gone and not self.nodes and worst(self.outcomes) is None
            if clean and await self._get("clear", self._clear):
                sentence = f"deleted: {some(count, 'node')} in {self._elapsed():.1f} s"
                await self.ledger.remove(self.claim, self._events(sentence))
                self.tried.forget(self.cluster.uuid)
                return End(sentence)
        found = self._findings()
        verdict = settle_delete(self.cluster, found)
        if gives_up(self.cluster) and not self.halt.is_set():  # halted, it was not tried
            return await self._abandon(verdict.status_reason or "")
        return await self._apply(verdict, found)

    def _halted(self) -> bool:
        """Whether it was to end before any step began: then nothing was tried."""
        untried = all(outcome.skipped for outcome in self.outcomes)
        return self.halt.is_set() and bool(self.steps) and untried

    async def _hand_back(self) -> End:
        await self.ledger.release(self.claim)
        return End("halted before anything was done")

    async def _clear(self) -> None:
        provider = self.world.provider(self.cluster)
        if isinstance(provider, Traces):
            await provider.clear(self.cluster.uuid)

    async def _abandon(self, reason: str) -> End:
        """Let the row go, for it was tried, and note what may remain."""
        traces: list[str] = []

        async def trace() -> None:
            provider = self.world.provider(self.cluster)
            if isinstance(provider, Traces):
                traces.extend(await provider.traces(self.cluster.uuid))

        await self._attempt("trace", trace)
        seen = None if self.seen is None else self.nodes
        left = abandoned(self.cluster, seen, traces, reason, self.world.now())
        await self.ledger.abandon(self.claim, left, self._events(left.sentence, ok=False))
        self.tried.forget(self.cluster.uuid)
        return End(left.sentence, troubled=True)

    async def _get(self, stage: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Get through a stage of the turn. Its failure is an outcome like that of a step."""
        outcome = await self._attempt(stage, work)
        if not outcome.done:
            self.outcomes = [*self.outcomes, outcome]
        return outcome.done

    async def _attempt(self, stage: str, work: Callable[[], Awaitable[None]]) -> Outcome:
        return await attempt(Step(stage, timeout=STAGE_SECONDS), lambda _: work(), self.id)

    async def _observe_nodes(self) -> None:
        provider = self.world.provider(self.cluster)
        self.nodes = {node.name: node for node in await provider.observe(self.cluster.uuid)}
        self.seen = Observed(self.nodes)

    async def _observe(self) -> None:
        cluster = self.cluster
        driver = self.world.driver(cluster)
        self.spec = self.world.spec(cluster, self.claim.keys)
        self.wanted = {spec.name: spec for spec in driver.nodes(self.spec)}
        provider = self.world.provider(cluster)
        self.nodes = {node.name: node for node in await provider.observe(cluster.uuid)}
        self.members = {
            name: Member(node, provider.host(node.ref))
            for name, node in self.nodes.items()
            if node.state is NodeState.RUNNING
        }
        self.seen = await driver.observe(self.spec, self.nodes, self.members)
        self.seen_at = self.world.now()
        remembered = healing.remembered(
            cluster.healing, self.seen, list(self.wanted), self.world.healing, self.seen_at
        )
        self.cluster = replace(cluster, healing=remembered)
        self.spec = replace(self.spec, strikes=remembered.counts, restarted=remembered.restarted)

    async def _check(self) -> None:
        if self.cluster.status in CREATING:
            self.world.check(self.cluster)

    async def _plan(self) -> None:
        rolled = rolling.plan(
            self.world.driver(self.cluster),
            self.spec,
            self.seen,
            batch_size=self.cluster.batch_size,
        )
        ordered(rolled.steps)  # a plan without an order is a bug of the planner: say so now
        self.admitted = healing.admitted(
            self.cluster,
            rolled.steps,
            self.seen,
            list(self.wanted),
            limits=self.world.healing,
            now=self.world.now(),
        )
        if notes := self.admitted.notes:
            reasons = {**self.seen.health.reasons, **notes}
            self.seen = replace(self.seen, health=Health(HealthStatus.UNHEALTHY, reasons))
        self.spec, self.steps, self.old = rolled.cluster, self.admitted.steps, rolled.old
        self.held = rolled.held

    async def _ask_for_room(self) -> None:
        provider = self.world.provider(self.cluster)
        if self.cluster.status in ROOM_ASKED and isinstance(provider, HasRoom):
            made = {step.node for step in self.steps if step.verb == plan.ENSURE_NODE}
            new = [spec for name, spec in self.wanted.items() if name in made - self.nodes.keys()]
            try:
                if new:
                    await provider.room_for(new)
            except NoRoom:
                creating = self.cluster.status is not ClusterStatus.UPDATE_IN_PROGRESS
                self.crowded = creating and not self.nodes
                raise

    async def _note(self) -> None:
        """Write down what is wrong before it is acted on, and as an event where it is news."""
        before, health = self.claim.cluster.health, self.seen.health
        if not self.steps or not self.claim.cluster.status.complete or health == before:
            return
        new = {name: why for name, why in health.reasons.items() if before.reasons.get(name) != why}
        said = [f"{name}: {why}" for name, why in sorted(new.items())]
        # It stands by itself: the turn may be cut off before it ends.
        event = Event(EventKind.TURN, f"seen: {'; '.join(said)}", self.world.now(), ok=False)
        cluster = replace(self.cluster, health=health, seen_at=self.seen_at)
        await self.ledger.note(self.claim, cluster, [event] if said else [])

    async def _execute(self) -> list[Outcome]:
        outcomes = await execute(self.steps, self._perform, turn=self.id, halt=self.halt)
        for outcome in outcomes:
            log.debug("step", outcome=str(outcome))
            if outcome.done and self.cluster.status.complete:
                healed(outcome.step.verb)
        return outcomes

    async def _perform(self, step: Step) -> None:
        await self.hold()
        provider = self.world.provider(self.cluster)
        match step.verb:
            case plan.ENSURE_NODE:
                node = await provider.ensure(self.wanted[step.node])
                self.members[step.node] = Member(node, provider.host(node.ref))
            case plan.DELETE_NODE:
                self.members.pop(step.node, None)
                await provider.delete(NodeRef(self.cluster.uuid, step.node))
            case plan.PUBLISH if isinstance(provider, Publishes):
                await provider.publish(NodeRef(self.cluster.uuid, step.node))
            case _:
                driver = self.world.driver(self.cluster)
                await driver.perform(step, self.spec, self.members)

    async def _undo(self) -> bool | None:
        """Delete what a refused create has made; None where there is nothing."""
        looked = await self._attempt("undo", self._observe_nodes)
        if not looked.done or not self.nodes:
            return None if looked.done else False
        steps = node_steps([], self.nodes)
        outcomes = await execute(steps, self._perform, turn=self.id)
        return all(outcome.done for outcome in outcomes)

    def _findings(self, *, undone: bool | None = None) -> Findings:
        done = all(outcome.done for outcome in self.outcomes)
        return Findings(
            now=self.world.now(),
            next_look=self.world.pace.after(self.world.jitter()),
            jitter=self.world.jitter(),
            seen=self.seen,
            outcomes=self.outcomes,
            elapsed=self._elapsed(),
            again=done and self.tried.knows(self.cluster.uuid, as_text(self.steps)),
            undone=undone,
            held=self.held,
            withheld="; ".join(self.admitted.notes.values()),
            more_in=self.admitted.due_in,
        )

    def _remember(self, found: Findings) -> None:
        if not found.outcomes:
            self.tried.forget(self.cluster.uuid)
        elif all(outcome.done for outcome in found.outcomes):
            self.tried.add(self.cluster.uuid, as_text(self.steps))

    async def _apply(self, verdict: Verdict, found: Findings, *, undone: bool = False) -> End:
        cluster = replace(
            self.cluster,
            status=verdict.status,
            status_reason=verdict.status_reason,
            health=verdict.health,
            attempts=verdict.attempts,
            rotation=verdict.rotation,
        )
        if self.seen_at is not None:
            done = healing.counted_in(
                self.cluster, self.outcomes, self.seen, list(self.wanted), self.seen_at
            )
            cluster = replace(cluster, seen_at=self.seen_at, healing=done)
        if verdict.status.complete or (self.held and found.as_wanted):
            cluster = replace(cluster, deadline=None, fallback=None)
        if self.seen is not None and not cluster.status.deleting:
            nodes = {} if undone else self.nodes
            cluster = replace(
                cluster,
                api_address=None if undone else self.seen.api_address,
                coe_version=self.seen.coe_version,
                container_version=self.seen.container_version,
                groups=settled_groups(
                    cluster, verdict, steps=self.steps, nodes=nodes, old=self.old
                ),
            )
        if verdict.back:
            cluster = gone_back(cluster, self.world.now())
        events = () if verdict.idle else self._events(verdict.sentence, ok=not verdict.troubled)
        self.whole = self.seen_at is not None and verdict.status.complete
        if await self.ledger.apply(self.claim, cluster, verdict.due_in, events):
            return End(verdict.sentence, verdict.idle, verdict.troubled)
        return End(f"{verdict.sentence}; something else is wanted by now")

    def _events(self, sentence: str, *, ok: bool = True) -> list[Event]:
        """The turn and its steps, in the order in which they began."""
        tried = sorted((o for o in self.outcomes if not o.skipped), key=lambda o: o.began)
        steps = [
            Event(
                EventKind.STEP,
                outcome.step.key,
                self.began_at + datetime.timedelta(seconds=outcome.began - self.began),
                turn=self.id,
                seconds=round(outcome.seconds, 3),
                cause=outcome.trouble.reason if outcome.trouble else None,
                ok=outcome.done,
            )
            for outcome in tried
        ]
        elapsed = round(self._elapsed(), 3)
        whole = Event(
            EventKind.TURN, sentence, self.world.now(), turn=self.id, seconds=elapsed, ok=ok
        )
        return [*steps, whole]

    def _elapsed(self) -> float:
        return monotonic() - self.began
