"""The conductor: takes clusters that are due, and gives each its turn.

One dispatcher claims due rows for as long as a slot is free, and starts a task for each;
then it sleeps until the next row falls due or a hint comes. It never polls. Beside each
turn a task renews its lease; when the claim is lost all the same, the turn is cut off,
and the store would refuse its writes anyway. A process that was paused past its leases
(SIGSTOP, a suspended machine) asks the store before the next step of each turn, and so
does nothing more to a cluster that another has taken meanwhile.

What ends a turn early: `stop`, and a tenant who deletes the cluster while it is still
being made. Both halt it, so that no further step starts, and cut it off `grace` seconds
later. A claim that is left is given back, and whoever takes it goes on from what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic

import structlog
from structlog.contextvars import bind_contextvars

from moorage.conductor.ears import Ears
from moorage.conductor.tried import Tried
from moorage.conductor.turn import Turn
from moorage.conductor.watch import Watch
from moorage.conductor.world import World
from moorage.metrics import turns as metrics
from moorage.metrics.turns import TurnEnd
from moorage.model.errors import RetryLater
from moorage.model.ports import Hears
from moorage.planning.truth import latest
from moorage.store import Claim, LostClaim, Store

log = structlog.get_logger(__name__)

LEASE = 30.0
TURNS = 64
GRACE = 5.0
BEAT = 15.0
"""Seconds between two signs of life."""
LOOK = 5.0
"""Seconds after which a conductor that is not alone looks for work, even if nobody hinted."""
PAUSE = 1.0
"""Seconds after an error of the store that nobody has a word for."""
STEP = 1.0
"""Seconds by which a clock is set, and not only kept right."""
BINARY = "moorage-conductor"


@dataclass(slots=True)
class _Running:
    """A turn under way. `changed`: a watcher saw something happen to its nodes meanwhile.

    Nobody else takes the claim before `held_until`, on this process's `_clock`.
    """

    claim: Claim
    held_until: float
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    changed: bool = False


class Conductor:
    """Takes turns until `stop` is called, or the task that runs it is cancelled.

    `turns` is how many clusters have their turn at once. `lease` and `grace` are in
    seconds. `alone`: no other process works on this database, so that every claim found
    at the start belongs to one that died. Otherwise those that bear the name of this
    `home` do: it is `machine/install`, and there is one conductor there at a time.
    """

    def __init__(
        self,
        store: Store,
        world: World,
        *,
        turns: int = TURNS,
        lease: float = LEASE,
        grace: float = GRACE,
        alone: bool = True,
        home: str = "",
    ) -> None:
        self._home = home
        self.name = f"{home or socket.gethostname()} {os.getpid()}-{secrets.token_hex(3)}"
        self._store = store
        self._world = self._paced = world
        self._lease = lease
        self._grace = grace
        self._alone = alone
        self._slots = asyncio.Semaphore(turns)
        self._running: dict[str, _Running] = {}
        self._tried = Tried()
        self._ears = Ears(self._changed)
        self._stopping = asyncio.Event()
        self._ahead = _ahead()

    @property
    def running(self) -> Mapping[str, Claim]:
        """The clusters that have their turn now, by uuid."""
        return {uuid: running.claim for uuid, running in self._running.items()}

    def stop(self) -> None:
        """Take no more turns; `run` returns once those under way have ended."""
        self._stopping.set()

    def hurry(self) -> None:
        """As `stop`, and turns under way are cut off now. Their claims are given back."""
        self._grace = 0.0
        self.stop()
        for running in self._running.values():
            self._halt(running, 0.0)

    async def run(self) -> None:
        """Conduct. When it returns or is cancelled, it holds no claim and runs no task."""
        await self._move_in()
        watch = Watch(self._world.providers, self._changed)
        parts = [
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(self._dispatch()),
            asyncio.create_task(self._give_way()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(watch.run()),
        ]
        grace = 0.0
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
            grace = self._grace
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self._wind_down(grace)
            await self._ears.aclose()

    async def _move_in(self) -> None:
        """Free what a conductor of this place that died had claimed, and take what is here."""
        claims, broken = self._store.claims, 0
        if self._alone:
            broken = await claims.break_all()
        else:
            claims.settle(self._world.homes)
            if self._home:
                broken = await claims.break_of(f"{self._home} ")
        if broken:
            log.info("claims of a conductor that died are free again", count=broken)
        # What is written of them was seen by another process, before whatever ended it.
        await claims.hasten_all()

    async def _dispatch(self) -> None:
        while True:
            await self._slots.acquire()
            try:
                running = await self._next()
            except BaseException:
                self._slots.release()
                raise
            self._running[running.claim.cluster.uuid] = running
            running.task = asyncio.create_task(self._look_after(running))

    async def _next(self) -> _Running:
        """The next cluster that is due, waited for."""
        claims = self._store.claims
        while True:
            try:
                # To ask is cheap, to take is a write: take only what is due.
                due_in = await claims.next_due()
                if due_in != 0.0:
                    await self._hint(due_in)
                elif running := await self._take():
                    return running
            except RetryLater as error:
                log.warning("the store does not answer", reason=error.reason)
                await asyncio.sleep(error.delay)
            except Exception:
                # One bad row must not keep all others waiting.
                log.exception("no claim could be taken")
                await asyncio.sleep(PAUSE)

    async def _hint(self, due_in: float | None = None) -> None:
        """Wait for one; not for too long, where those of other processes may be lost."""
        patience = due_in if self._alone else LOOK if due_in is None else min(LOOK, due_in)
        await self._store.hints.wait(patience)

    async def _take(self) -> _Running | None:
        """`claims.take`; a claim that was committed while we were cancelled is given back."""
        began = _clock()
        taking = asyncio.ensure_future(self._store.claims.take(self.name, self._lease))
        try:
            claim = await asyncio.shield(taking)
        except asyncio.CancelledError:
            # Whatever becomes of the claim, the cancellation goes on: it may be a stop.
            with contextlib.suppress(Exception):
                if claim := await taking:
                    await self._give_back(claim)
            raise
        return _Running(claim, began + self._lease) if claim else None

    async def _look_after(self, running: _Running) -> None:
        """One turn, with its lease renewed, whatever becomes of it."""
        claim = running.claim
        uuid = claim.cluster.uuid
        # This task is the turn's alone: all its lines, and those of its steps, say whose they are.
        bind_contextvars(cluster=uuid)
        renewal = asyncio.create_task(self._renew(running))
        calm = False
        try:
            with metrics.turn():
                calm = await self._take_turn(running)
        except asyncio.CancelledError:
            metrics.turn_ended(TurnEnd.CUT_OFF)
            log.info("turn cut off")
            await self._give_back(claim)
        finally:
            renewal.cancel()
            if self._running.get(uuid) is running:  # the row may have its next turn already
                del self._running[uuid]
            self._slots.release()
        if running.changed and calm:
            await self._changed(uuid)

    async def _take_turn(self, running: _Running) -> bool:
        """Whether it ended without trouble."""
        claim, began = running.claim, monotonic()
        hold = functools.partial(self._hold, running)
        turn = Turn(claim, self._paced, self._store.claims, self._tried, running.halt, hold=hold)
        bind_contextvars(turn=turn.id)
        said = log.bind(cluster_name=claim.cluster.name)
        try:
            end = await turn.take()
        except LostClaim:
            metrics.claim_lost()
            metrics.turn_ended(TurnEnd.LOST)
            said.warning("claim lost, nothing written")
        except RetryLater as error:
            # The lease is left to run out, which keeps us from hurrying a store in trouble.
            metrics.turn_ended(TurnEnd.STORE)
            said.warning("the store does not answer", reason=error.reason)
        except Exception:
            metrics.turn_ended(TurnEnd.BUG)
            said.exception("internal error in the turn itself")
        else:
            self._listen(turn, vain=end.idle)
            ended = TurnEnd.TROUBLED if end.troubled else TurnEnd.ACTED
            metrics.turn_ended(TurnEnd.IDLE if end.idle else ended)
            speak = said.debug if end.idle else said.info
            speak(end.sentence, seconds=round(monotonic() - began, 3))
            return not end.troubled
        return False

    def _listen(self, turn: Turn, *, vain: bool) -> None:
        """Have the engines of a cluster that is whole tell of trouble."""
        driver = self._world.drivers.get(turn.cluster.coe)
        if turn.whole and isinstance(driver, Hears):
            self._ears.heed(driver, turn.spec, turn.nodes, vain=vain)
        else:
            self._ears.forget(turn.cluster.uuid)

    async def _hold(self, running: _Running) -> None:
        """Return under a live lease. Raises LostClaim; RetryLater where the store is silent."""
        if _clock() >= running.held_until:
            await self._prolong(running)

    async def _prolong(self, running: _Running) -> None:
        began = _clock()
        await self._store.claims.renew(running.claim, self._lease)
        running.held_until = began + self._lease

    async def _renew(self, running: _Running) -> None:
        while True:
            await asyncio.sleep(self._lease / 3.0)
            try:
                await self._prolong(running)
            except LostClaim:
                metrics.claim_lost()
                log.warning("claim lost", cluster=running.claim.cluster.uuid)
                if running.task is not None:
                    running.task.cancel()
                return
            except Exception:
                # The next try comes before the lease is over; the fence holds in any case.
                log.exception("lease not renewed")

    async def _beat(self) -> None:
        while True:
            try:
                await self._store.heartbeats.beat(socket.gethostname(), BINARY)
                if not self._alone:
                    await self._speak_of_homes()
                clusters = await self._store.clusters.count()
                self._paced = replace(self._world, clusters=clusters)
                await self._mind_the_clock()
            except RetryLater as error:
                log.warning("the store does not answer", reason=error.reason)
            except Exception:
                log.exception("no sign of life could be written")
            await asyncio.sleep(BEAT)

    async def _mind_the_clock(self) -> None:
        """Rows fall due by the time of day: where it was set back, none may wait for it again."""
        ahead = _ahead()
        if ahead < self._ahead - STEP:
            log.warning("the clock was set back", seconds=round(self._ahead - ahead, 3))
            await self._store.claims.hasten_all()
        self._ahead = ahead
        beyond = max(latest(self._paced.pace), 2.0 * self._lease)
        if recalled := await self._store.claims.recall(beyond, self._lease):
            log.warning("clusters that were due too late by this clock", count=recalled)

    async def _speak_of_homes(self) -> None:
        for home in set(self._world.homes.values()):
            await self._store.homes.beat(home)
        for left in await self._store.homes.end_forced():
            log.warning(left.sentence, cluster=left.uuid, cluster_name=left.name, home=left.home)
        if silenced := await self._store.homes.speak_for_deserted():
            log.warning("clusters of machines without a conductor", count=silenced)

    async def _give_way(self) -> None:
        """Halt the turns of clusters that are to be deleted by now, as soon as it is written."""
        while True:
            await self._hint()
            living = {
                uuid: running
                for uuid, running in self._running.items()
                if not running.halt.is_set() and not running.claim.cluster.status.deleting
            }
            if living:
                try:
                    for uuid in await self._store.clusters.going(living.keys()):
                        self._halt(living[uuid], self._grace)
                except RetryLater as error:
                    log.warning("the store does not answer", reason=error.reason)
                except Exception:
                    # It makes a delete begin sooner: nothing to end the conductor for.
                    log.exception("no look for clusters that are to be deleted")
                    await asyncio.sleep(PAUSE)

    def _halt(self, running: _Running, grace: float) -> None:
        """Start no further step; cut the turn off if it has not ended `grace` seconds later."""
        running.halt.set()
        task = running.task
        if task is not None:
            timer = asyncio.get_running_loop().call_later(grace, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())

    async def _changed(self, uuid: str) -> None:
        """Something happened to a node of this cluster: look at it now, not when it is due."""
        if running := self._running.get(uuid):
            running.changed = True
        else:
            await self._store.claims.hasten(uuid)

    async def _give_back(self, claim: Claim) -> None:
        try:
            await self._store.claims.release(claim)
        except Exception:
            # The lease runs out by itself.
            log.exception("claim not given back", cluster=claim.cluster.uuid)

    async def _wind_down(self, grace: float) -> None:
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for running in self._running.values():
            self._halt(running, grace)
        if tasks:
            await asyncio.wait(tasks)


def _clock() -> float:
    """Seconds that go on while the process, or the machine, is asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ahead() -> float:
    """Seconds by which the time of day is ahead of `_clock`, which nobody sets."""
    return time.time() - _clock()
