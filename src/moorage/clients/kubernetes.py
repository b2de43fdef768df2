"""A typed client of the Kubernetes API servers and of etcd, for hosts that we don't trust.

As with engines (`clients.docker`), the nodes belong to a tenant: connections trust the
cluster's own CA and nothing else, redirects are refused, answers are bounded and checked.
The dozen calls that a driver makes need no large library.

Every method raises ApiSilent or ApiRefused, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel

from moorage.clients.docker import EnginePool
from moorage.clients.docker_errors import Untrusted, what_of
from moorage.clients.docker_session import Answer
from moorage.clients.docker_wire import plain
from moorage.clients.kubernetes_wire import (
    Annotated,
    AnnotatedList,
    EtcdMember,
    MemberAnswer,
    NodeList,
    NodeObject,
    PodList,
    PodObject,
    Version,
)
from moorage.model.errors import RetryLater
from moorage.model.ports import Authority, KeyPair

Read = TypeVar("Read", bound=BaseModel)
API_PORT, KUBELET_PORT, ETCD_PORT = 6443, 10250, 2379
MASTERS = "system:masters"
WATCH_SECONDS = 240
"""After which an API server ends a watch, and the next one is begun."""
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


class ApiSilent(RetryLater):
    """No answer that could be believed."""


class ApiRefused(RetryLater):
    """An answer with an error; `status` is HTTP's."""

    def __init__(self, reason: str, *, status: int) -> None:
        super().__init__(reason)
        self.status = status


class _Master:
    """The cluster's authority, whose clients may do everything there."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.certificate = authority.certificate
        self.revision = authority.revision

    def client(self, name: str) -> KeyPair:
        return self._authority.client(name, [MASTERS])


class Way:
    """How the conductor reaches the programs of all clusters.

    Belongs to one event loop; `aclose` when it ends.
    """

    def __init__(self) -> None:
        self._pool = EnginePool()

    async def aclose(self) -> None:
        await self._pool.aclose()

    def renew(self, owner: str) -> None:
        """Ask on new connections from now on: a kept one shows its former certificate."""
        self._pool.renew(owner)

    def api(self, owner: str, authority: Authority, name: str, address: str | None) -> ApiServer:
        return ApiServer(self._pool, owner, authority, name, _known(name, address))

    def kubelet(self, owner: str, authority: Authority, name: str, address: str | None) -> Kubelet:
        return Kubelet(self._pool, owner, authority, name, _known(name, address))

    def etcd(self, owner: str, authority: Authority, name: str, address: str | None) -> Etcd:
        """`authority`: etcd's own."""
        return Etcd(self._pool, f"{owner}/etcd", authority, name, _known(name, address))


def _known(name: str, address: str | None) -> str:
    if address is None:
        raise ApiSilent(f"{name} has no address")
    return address


class _Server:
    """Whoever answers over TLS at one address. Times are seconds."""

    port: int
    what: str

    def __init__(
        self, pool: EnginePool, owner: str, authority: Any, name: str, address: str
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._authority = authority
        self.name = name
        self.address = address

    def __repr__(self) -> str:
        return f"{self.what} of {self.name} at {self.address}:{self.port}"

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        timeout: float = 5.0,
    ) -> tuple[int, bytes, str]:
        """Status, body, and the OU of the certificate that was shown."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": kind}
        url = f"https://{self.address}:{self.port}{path}"
        with self._pool.session(self._owner, self._authority) as session:
            try:
                async with (
                    asyncio.timeout(timeout),
                    session.http.request(method, url, data=data, headers=headers) as answer,
                ):
                    shown = answer.revision if isinstance(answer, Answer) else ""
                    return answer.status, await answer.read(), shown
            except TimeoutError:
                raise ApiSilent(f"{self} did not answer within {timeout:g} s") from None
            except Untrusted:
                raise ApiSilent(f"{self} did not answer as it should") from None
            except (aiohttp.ClientError, OSError) as error:
                raise ApiSilent(f"{self} {what_of(error)}") from None
            except (ValueError, TypeError, LookupError) as error:
                raise ApiSilent(f"{self} can't be understood ({type(error).__name__})") from None

    async def _get(self, kind: type[Read], method: str, path: str, body: Any = None) -> Read:
        return self._read(kind, await self._good(method, path, body))

    async def _good(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> bytes:
        """The body of an answer without an error."""
        status, said, _ = await self._ask(method, path, body, kind=kind)
        if status >= 400:
            raise ApiRefused(f"{self} answered {status}: {_message(said)}", status=status)
        return said

    def _read(self, kind: type[Read], body: bytes) -> Read:
        try:
            return kind.model_validate_json(body)
        except (ValueError, RecursionError):
            raise ApiSilent(f"{self} did not answer as it should") from None


class ApiServer(_Server):
    port = API_PORT
    what = "the API server"

    def __init__(
        self, pool: EnginePool, owner: str, authority: Authority, name: str, address: str
    ) -> None:
        super().__init__(pool, owner, _Master(authority), name, address)

    async def ready(self, *, timeout: float = 3.0) -> tuple[str, str]:
        """The revision that its certificate shows; and why it is not ready, empty where it is."""
        status, said, shown = await self._ask("GET", "/readyz?verbose", timeout=timeout)
        if status == 200:
            return shown, ""
        failing = [line[3:].split()[0] for line in said.decode(errors="replace").splitlines()
                   if line.startswith("[-]") and len(line) > 4]  # fmt: skip
        return shown, plain(f"not ready: {', '.join(failing) or status}", 200)

    async def version(self) -> str:
        return (await self._get(Version, "GET", "/version")).git_version

    async def nodes(self) -> tuple[NodeObject, ...]:
        return (await self._get(NodeList, "GET", "/api/v1/nodes")).items

    async def node(self, name: str) -> NodeObject | None:
        try:
            return await self._get(NodeObject, "GET", f"/api/v1/nodes/{name}")
        except ApiRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def patch_node(self, name: str, change: Mapping[str, Any]) -> None:
        await self._good("PATCH", f"/api/v1/nodes/{name}", change, kind=MERGE)

    async def delete_node(self, name: str) -> None:
        """Absent is deleted."""
        try:
            await self._good("DELETE", f"/api/v1/nodes/{name}")
        except ApiRefused as refusal:
            if refusal.status != 404:
                raise

    async def pods_on(self, node: str) -> Sequence[PodObject]:
        path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
        return (await self._get(PodList, "GET", path)).items

    async def evict(self, pod: PodObject, *, version: str) -> bool:
        """Ask it to leave; whether it may: a budget may forbid it for now. Absent has left.

        `version`: of the API for it, such as `policy/v1`.
        """
        meta = {"name": pod.metadata.name, "namespace": pod.metadata.namespace}
        body = {"apiVersion": version, "kind": "Eviction", "metadata": meta}
        try:
            await self._good("POST", f"{_path(pod)}/eviction", body)
        except ApiRefused as refusal:
            if refusal.status == 429:
                return False
            if refusal.status != 404:
                raise
        return True

    async def forget(self, pod: PodObject) -> None:
        """Have the API know of it no more, where it surely does not run. Absent is forgotten."""
        try:
            await self._good("DELETE", f"{_path(pod)}?gracePeriodSeconds=0")
        except ApiRefused as refusal:
            if refusal.status != 404:
                raise

    async def annotations(self, path: str) -> Mapping[str, str]:
        """Of the object at that path; none where there is no such object."""
        try:
            return (await self._get(Annotated, "GET", path)).metadata.annotations
        except ApiRefused as refusal:
            if refusal.status == 404:
                return {}
            raise

    async def labelled(
        self, collection: str, label: tuple[str, str]
    ) -> Mapping[str, Mapping[str, str]]:
        """The objects of the collection at that path that have the label: annotations, by path."""
        path = f"{collection}?labelSelector={quote('='.join(label), safe='')}"
        found = (await self._get(AnnotatedList, "GET", path)).items
        return {f"{collection}/{one.metadata.name}": one.metadata.annotations for one in found}

    async def annotate(self, path: str, annotations: Mapping[str, str]) -> None:
        """Give the object at that path, which must be there, these beside its others."""
        change = {"metadata": {"annotations": annotations}}
        await self._good("PATCH", path, change, kind=MERGE)

    async def put(self, path: str, value: Mapping[str, Any]) -> None:
        """Set the object at that path right, or make it. To make one that is there can be
        refused for other reasons than that it is there."""
        try:
            await self._good("PATCH", path, value, kind=MERGE)
        except ApiRefused as refusal:
            if refusal.status != 404:
                raise
            await self._good("POST", path.rpartition("/")[0], value)

    async def node_events(self) -> AsyncGenerator[None]:
        """An item for each sign that a node has changed, until the server ends the stream.

        From what the server has in its cache: one that must be as new as etcd waits for that,
        and newer servers give up where etcd is too old to tell them (`Fact.WATCH_LIST`).
        """
        path = f"/api/v1/nodes?watch=1&resourceVersion=0&timeoutSeconds={WATCH_SECONDS}"
        url = f"https://{self.address}:{self.port}{path}"
        with self._pool.session(self._owner, self._authority) as session:
            try:
                async with session.http.get(url) as answer:
                    if answer.status != 200:
                        raise ApiSilent(f"{self} lets nobody watch: {answer.status}")
                    async for _ in answer.content.iter_any():
                        yield
            except (aiohttp.ClientError, OSError) as error:
                raise ApiSilent(f"{self} {what_of(error)}") from None


class Kubelet(_Server):
    port = KUBELET_PORT
    what = "the kubelet"

    def __init__(
        self, pool: EnginePool, owner: str, authority: Authority, name: str, address: str
    ) -> None:
        super().__init__(pool, owner, _Master(authority), name, address)

    async def ping(self, *, timeout: float = 2.0) -> str:
        """The revision that its certificate shows. Whatever it says is a sign of life: to judge
        whom it talks to, it asks the API, which may be away."""
        return (await self._ask("GET", "/healthz", timeout=timeout))[2]


class Etcd(_Server):
    """By its gRPC gateway, https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/."""

    port = ETCD_PORT
    what = "etcd"

    async def members(self) -> tuple[EtcdMember, ...]:
        answer = await self._get(MemberAnswer, "POST", "/v3/cluster/member/list", {})
        return tuple(answer.members)

    async def add_learner(self, peer: str) -> EtcdMember:
        """A member that is told everything and has no vote yet (etcd 3.4)."""
        body = {"peerURLs": [peer], "isLearner": True}
        answer = await self._get(MemberAnswer, "POST", "/v3/cluster/member/add", body)
        if answer.member is None:
            raise ApiSilent(f"{self} did not answer as it should")
        return answer.member

    async def promote(self, id: int) -> None:
        """Refused (412 or 400) for one that is not in sync yet."""
        await self._good("POST", "/v3/cluster/member/promote", {"ID": str(id)})

    async def remove(self, id: int) -> None:
        """Absent is removed."""
        try:
            await self._good("POST", "/v3/cluster/member/remove", {"ID": str(id)})
        except ApiRefused as refusal:
            if refusal.status != 404:
                raise


def _path(pod: PodObject) -> str:
    """Both names are what Kubernetes lets names be, if it is Kubernetes that told them."""
    space, name = (quote(part, safe="") for part in (pod.metadata.namespace, pod.metadata.name))
    return f"/api/v1/namespaces/{space}/pods/{name}"


def _message(body: bytes) -> str:
    """What an error says of itself: a Status object's message, or etcd's."""
    try:
        value = json.loads(body)
        said = value.get("message") or value.get("error") if isinstance(value, dict) else ""
    except (ValueError, RecursionError):
        said = body[:300].decode(errors="replace")
    return plain(str(said) or "no reason", 300)
