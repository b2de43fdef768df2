"""A typed client of Docker engines, for hosts that we don't trust.

The node that an engine runs on belongs to a tenant: it has the server's key, and may
answer whatever it likes. So an engine is reached by its address with the cluster's own
CA and nothing else (no variable, proxy or file of this machine has a say); redirects are
refused; answers are bounded in time and size, are not decompressed, and are checked
before they are believed; what is quoted from them is made plain.

`EnginePool` keeps one TLS context and one keep-alive session a cluster. A connection
costs 300 KB (asyncio's TLS buffers), so idle ones are closed after some seconds, and
the session of a cluster that nobody asked for long makes room for another's.

Every method of `Engine` raises EngineSilent or EngineRefused, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiodocker
import aiohttp

from moorage.clients.docker_errors import EngineRefused, EngineSilent, Untrusted, what_of
from moorage.clients.docker_events import Ear, Filters
from moorage.clients.docker_session import Answer, Docker, Session
from moorage.clients.docker_wire import (
    EngineInfo,
    JoinTokens,
    MemberList,
    SwarmMember,
    SwarmState,
    TaskList,
    plain,
)
from moorage.model.ports import Authority

PORT = 2376
SWARM_PORT = 2377
CLUSTERS = 64
__all__ = ["PORT", "Engine", "EnginePool", "EngineRefused", "EngineSilent"]
UNREACHABLE = 900
"""aiodocker's status for an engine that it got no answer from."""
OUT_OF_SEQUENCE = "out of sequence"
"""What an engine says (with a 500) of an update that another one overtook."""


class EnginePool:
    """The engines of all clusters, which listen on `port`.

    Belongs to one event loop; `aclose` when it ends.
    """

    def __init__(self, *, clusters: int = CLUSTERS, port: int = PORT) -> None:
        self.port = port
        self._most = clusters
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def engine(self, owner: str, authority: Authority, name: str, address: str | None) -> Engine:
        """The engine of node `name` of the cluster `owner`. Raises EngineSilent without address."""
        if address is None:
            raise EngineSilent(f"engine of {name} has no address")
        return Engine(self, owner, authority, name, address)

    async def aclose(self) -> None:
        while self._sessions:
            self._close(self._sessions.popitem()[1])
        await asyncio.gather(*self._closing)

    @contextmanager
    def session(self, owner: str, authority: Authority) -> Iterator[Session]:
        """The cluster's session, made now where it has none that is still good."""
        session = self._sessions.pop(owner, None)
        if session is not None and not session.fits(authority.revision):
            self._retire(session)
            session = None
        if session is None:
            session = Session.begin(authority)
        self._sessions[owner] = session
        self._make_room(owner)
        session.busy += 1
        try:
            yield session
        finally:
            session.busy -= 1
            if session.retired:
                self._retire(session)

    def renew(self, owner: str) -> None:
        """Ask the cluster's engines on new connections from now on.

        One that is kept goes on showing the certificate that it began with.
        """
        if session := self._sessions.pop(owner, None):
            self._sessions[owner] = session.again()
            self._retire(session)

    def _make_room(self, owner: str) -> None:
        """Let go of the sessions that were idle longest."""
        surplus = max(0, len(self._sessions) - self._most)
        idle = [name for name, other in self._sessions.items() if not other.busy and name != owner]
        for name in idle[:surplus]:
            self._close(self._sessions.pop(name))

    def _retire(self, session: Session) -> None:
        session.retired = True
        if not session.busy:
            self._close(session)

    def _close(self, session: Session) -> None:
        task = asyncio.create_task(session.http.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Engine:
    """One engine's API. Times are seconds."""

    def __init__(
        self, pool: EnginePool, owner: str, authority: Authority, name: str, address: str
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._authority = authority
        self.name = name
        self.address = address

    def __repr__(self) -> str:
        return f"engine of {self.name} at {self.address}:{self._pool.port}"

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self._pool.port}"

    async def listens(self) -> bool:
        """Whether its port takes connections: a fifth of a ping's cost, for those who wait."""
        with socket.socket() as probe:
            probe.setblocking(False)
            try:
                async with asyncio.timeout(1.0):
                    await asyncio.get_running_loop().sock_connect(
                        probe, (self.address, self._pool.port)
                    )
            except OSError:  # TimeoutError is one
                return False
            return True

    async def ping(self, *, timeout: float = 2.0) -> str:
        """Whether it answers at all; the revision of the authority that its certificate shows.

        That is empty for one that names none. A connection that was kept shows what was so
        when it began (`EnginePool.renew`).
        """
        async with self._asking(timeout, anew=True) as docker:
            return docker.revision

    async def info(self, *, timeout: float = 5.0) -> EngineInfo:
        async with self._asking(timeout) as docker:
            return EngineInfo.model_validate(await docker.system.info())

    async def members(self, *, timeout: float = 5.0) -> list[SwarmMember]:
        """Every node of the swarm. Refused by a worker, and where the swarm has no leader."""
        async with self._asking(timeout) as docker:
            return MemberList.validate_python(await docker.nodes.list())

    async def member(self, id: str, *, timeout: float = 5.0) -> SwarmMember | None:
        """The node `id` of the swarm, if there is one."""
        try:
            async with self._asking(timeout) as docker:
                return SwarmMember.model_validate(await docker.nodes.inspect(node_id=id))
        except EngineRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def update_member(
        self,
        id: str,
        *,
        role: str | None = None,
        availability: str | None = None,
        labels: Mapping[str, str] | None = None,
        forget: Iterable[str] = (),
    ) -> None:
        """Change what is given, add `labels`, take those named in `forget` away, keep the rest.

        Refused for an unknown `id`.
        """
        forgotten = set(forget)
        for last in (False, False, False, True):
            async with self._asking(5.0) as docker:
                seen = SwarmMember.model_validate(await docker.nodes.inspect(node_id=id))
            spec: dict[str, Any] = dict(seen.spec)
            if role is not None:
                spec["Role"] = role
            if availability is not None:
                spec["Availability"] = availability
            if labels is not None or forgotten:
                kept = {k: v for k, v in seen.labels.items() if k not in forgotten}
                spec["Labels"] = {**kept, **(labels or {})}
            if spec == seen.spec:
                return
            try:
                async with self._asking(10.0) as docker:
                    await docker.nodes.update(node_id=id, version=seen.index, spec=spec)
            except EngineRefused as refusal:
                if last or OUT_OF_SEQUENCE not in refusal.reason:
                    raise
            else:
                return

    async def remove_member(self, id: str) -> None:
        """Take the node out of the swarm's list, also when it seems to live. Absent is removed."""
        try:
            async with self._asking(10.0) as docker:
                await docker.nodes.remove(node_id=id, force=True)
        except EngineRefused as refusal:
            if refusal.status != 404:
                raise

    async def running_tasks(self, member: str) -> int:
        """How many tasks run on the node `member`, wanted there or not."""
        async with self._asking(5.0) as docker:
            tasks = TaskList.validate_python(await docker.tasks.list(filters={"node": member}))
        return sum(task.state == "running" for task in tasks)

    async def join_tokens(self) -> JoinTokens:
        async with self._asking(5.0) as docker:
            return JoinTokens.model_validate(await docker.swarm.inspect())

    async def rotate_join_tokens(self, note: Mapping[str, str]) -> None:
        """Make new tokens: nobody joins by the former ones any more. Members stay members.

        With `note` among the swarm's labels, in the same change; where it is there, it is done.
        """
        for last in (False, False, False, True):
            async with self._asking(5.0) as docker:
                seen = SwarmState.model_validate(await docker.swarm.inspect())
            if note.items() <= seen.labels.items():
                return
            try:
                async with (
                    self._asking(10.0) as docker,
                    # aiodocker has no name for this call.
                    docker._query(
                        "swarm/update",
                        method="POST",
                        params={
                            "version": seen.index,
                            "rotateWorkerToken": "true",
                            "rotateManagerToken": "true",
                        },
                        data=json.dumps({**seen.spec, "Labels": {**seen.labels, **note}}),
                        headers={"content-type": "application/json"},
                    ) as answer,
                ):
                    await answer.read()
            except EngineRefused as refusal:
                if last or OUT_OF_SEQUENCE not in refusal.reason:
                    raise
            else:
                return

    async def init_swarm(
        self, *, pool: str, heartbeat: float, force_new_cluster: bool = False
    ) -> None:
        """Make a swarm, whose overlay networks come from `pool` (CIDR).

        `force_new_cluster`: with the state that is here, and this engine as its only manager.
        """
        async with self._asking(30.0) as docker:
            await docker.swarm.init(
                advertise_addr=self.address,
                listen_addr=f"0.0.0.0:{SWARM_PORT}",
                default_addr_pool=[pool],
                subnet_size=24,
                force_new_cluster=force_new_cluster,
                swarm_spec={"Dispatcher": {"HeartbeatPeriod": int(heartbeat * 1e9)}},
            )

    async def join_swarm(self, managers: Sequence[str], token: str) -> None:
        """Join the swarm of the managers at these addresses, in the role that `token` gives."""
        async with self._asking(30.0) as docker:
            await docker.swarm.join(
                advertise_addr=self.address,
                listen_addr=f"0.0.0.0:{SWARM_PORT}",
                remote_addrs=[f"{address}:{SWARM_PORT}" for address in managers],
                join_token=token,
            )

    async def leave_swarm(self) -> None:
        """Forget the swarm, as a manager too. Refused by an engine that is in none."""
        async with self._asking(30.0) as docker:
            await docker.swarm.leave(force=True)

    async def listen(self, filters: Filters) -> Ear:
        """An open ear on the events that `filters` chooses, on a connection of its own."""
        with self._pool.session(self._owner, self._authority) as session:
            ear = Ear(str(self), self.address, self._pool.port, session.tls, filters)
        await ear.open()
        return ear

    @asynccontextmanager
    async def _asking(self, timeout: float, *, anew: bool = False) -> AsyncIterator[Docker]:
        """aiodocker's client, and its errors turned into ours. `anew`: asks for the version too."""
        with self._pool.session(self._owner, self._authority) as session:
            docker = session.docker(self.url)
            try:
                async with asyncio.timeout(timeout):
                    if anew or docker.api_version == "auto":
                        await self._ping(docker, session.http)
                    yield docker
            except TimeoutError:
                raise EngineSilent(f"{self} did not answer within {timeout:g} s") from None
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise self._silent(docker, error.__context__ or error) from None
                said = plain(error.message, 300)
                raise EngineRefused(f"{self} answered: {said}", status=error.status) from None
            except (aiohttp.ClientError, OSError) as error:
                raise self._silent(docker, error) from None
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                # Our requests have no such fault; it is what a parser says of a strange answer.
                raise EngineSilent(
                    f"{self} did not answer as a Docker Engine does ({type(error).__name__})"
                ) from None

    async def _ping(self, docker: Docker, http: aiohttp.ClientSession) -> None:
        """Note the API's newest version there (a header of /_ping, which costs it nothing)."""
        async with http.get(f"{self.url}/_ping") as answer:
            await answer.read()
            version = answer.headers.get("Api-Version", "")
            if answer.status != 200 or not re.fullmatch(r"1\.\d{1,3}", version):
                raise Untrusted(f"answered a ping with status {answer.status}")
            docker.api_version = f"v{version}"
            docker.revision = answer.revision if isinstance(answer, Answer) else ""

    def _silent(self, docker: aiodocker.Docker, error: BaseException) -> EngineSilent:
        docker.api_version = "auto"  # whoever answers next may be another engine
        return EngineSilent(f"{self} {what_of(error)}")
