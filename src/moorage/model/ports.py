"""Every seam of Moorage: what one room asks of another, and never how it is done.

A port with five methods at the most is required; the small ones at the end are
optional, and having one is the capability (`isinstance(provider, Watches)`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from moorage.model.caller import Caller
from moorage.model.cluster import ClusterSpec, Health, Rotation
from moorage.model.node import Least, NodeRef, NodeSpec, ObservedNode, Role
from moorage.model.plan import Step


@dataclass(frozen=True, slots=True)
class Completed:
    """An argv that ran to its end."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes = b""
    stderr: bytes = b""


class Host(Protocol):
    """Anything that runs argv and takes files."""

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        """Run `argv` as root, for `timeout` seconds at most.

        Any exit code is an answer; RetryLater where the host can't run it (now).
        """
        ...

    async def put(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file whole or not at all, its directory made where it is missing."""
        ...


class NodeProvider(Protocol):
    """Where nodes come from. All methods are idempotent and safe to call side by side."""

    name: ClassVar[str]

    async def ensure(self, spec: NodeSpec) -> ObservedNode:
        """Make the node, or start it again as it was; return it RUNNING.

        A node of another revision is ended and made anew by `spec`, on its disk and with
        its addresses. Raises NoRoom, RetryLater or Refused; whatever was made by then is seen by
        `observe` and taken away by `delete`.
        """
        ...

    async def observe(self, owner: str) -> list[ObservedNode]:
        """Every node of the cluster `owner`, by the marks on the real things, by name."""
        ...

    async def delete(self, ref: NodeRef) -> None:
        """Take the node and all that was made for it away. What is absent is deleted."""
        ...

    def host(self, ref: NodeRef) -> Host: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A node that a driver may work on."""

    node: ObservedNode
    host: Host


Members = Mapping[str, Member]
"""The running nodes of a cluster, by name. A node that an `ensure-node` step made joins it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a driver saw; each driver adds fields of its own in a subclass.

    `nodes` are the provider's nodes, by name, whatever their state. `failing`: those that
    run and are of no use, so that they may have to be replaced in the end.
    """

    nodes: Mapping[str, ObservedNode]
    health: Health = field(default_factory=Health)
    failing: frozenset[str] = frozenset()
    api_address: str | None = None
    coe_version: str | None = None
    container_version: str | None = None


Seen = TypeVar("Seen", bound=Observed)


class ClusterDriver(Protocol[Seen]):
    """Turns nodes into a cluster of one COE."""

    coe: ClassVar[str]

    def nodes(self, cluster: ClusterSpec) -> list[NodeSpec]:
        """Pure: the nodes that the cluster wants."""
        ...

    async def observe(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode], members: Members
    ) -> Seen:
        """Look, from outside, at what runs on `members`. An engine that is silent is a finding."""
        ...

    def plan(self, cluster: ClusterSpec, seen: Seen) -> list[Step]:
        """Pure: the steps from `seen` to `cluster`, ENSURE_NODE and DELETE_NODE among them.

        Empty when the cluster is as it is wanted: that, and only that, is COMPLETE.
        """
        ...

    async def perform(self, step: Step, cluster: ClusterSpec, members: Members) -> None:
        """Do one of the driver's own steps. Idempotent, and carries no decision."""
        ...


AnyDriver = ClusterDriver[Any]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CaKeys:
    """The keys of a cluster's CA; while it is being changed, those of the `coming` one too."""

    current: KeyPair
    coming: KeyPair | None = None
    rotation: Rotation | None = None
    secret: bytes | None = field(default=None, repr=False)
    """What outlives the CA; None for a cluster of before there were any."""


class Authority(Protocol):
    """A cluster's certificate authority. Every certificate serves one purpose only."""

    @property
    def certificate(self) -> bytes:
        """What to trust, PEM: the CA's own certificate; two while the CA is being changed."""
        ...

    @property
    def revision(self) -> str:
        """What nodes trust and show by now, as 16 hexadecimal digits.

        It stands in every server certificate (the subject's OU), so that whoever connects
        to a node sees how far it is.
        """
        ...

    def server(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A new server certificate for the DNS name `name`, and IP addresses or further names.

        With what a client needs beside the CA that it trusts to check it (PEM, after it).
        """
        ...

    def client(self, name: str, groups: Sequence[str] = (), *, lasting: bool = False) -> KeyPair:
        """A new client certificate with the common name `name`, of the organisations `groups`.

        Short-lived, unless it is for a program of the cluster's own (`lasting`).
        """
        ...

    def peer(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """As `server`, and a client's at once, for programs that know one certificate only."""
        ...

    def secret(self, purpose: str) -> bytes:
        """32 bytes that are the same for ever, others for each cluster and purpose.

        Raises Refused for a cluster that has no secret, made before there were any.
        """
        ...

    def signing_key(self, purpose: str) -> bytes:
        """A private key on P-256, PEM (SEC 1), that follows from `secret`. Raises as that."""
        ...

    def inner(self, purpose: str) -> Authority:
        """Another CA of the cluster, for one purpose, which trusts none of this one's clients.

        It follows from the cluster's secret, so it is not kept, and stays when this one is
        changed. Raises as `secret`.
        """
        ...

    def sign(self, csr: bytes) -> bytes:
        """A client certificate for a tenant's CSR (PEM); Invalid says what is wrong with it."""
        ...


class NodeNetwork(Protocol):
    """The network of a provider's nodes on this machine: one segment a cluster, no way between."""

    @property
    def pool(self) -> IPv4Network:
        """All segments are parts of it."""
        ...

    def address(self, slot: int, index: int) -> str:
        """The IPv4 address of the cluster's node number `index`."""
        ...

    def endpoint(self, slot: int) -> str:
        """The `host:port` of this machine that `publish` leads to the cluster."""
        ...

    def in_use(self, slot: int) -> bool:
        """Whether something of the slot's is there already, whoever made it."""
        ...

    async def open(self, owner: str, slot: int) -> None:
        """Make the cluster's segment, or repair it."""
        ...

    async def attach(self, owner: str, slot: int, node: str, index: int, pid: int) -> None:
        """Give the network namespace of `pid` its `eth0` on the segment."""
        ...

    def attached(self, slot: int, index: int) -> bool:
        """Whether the node's link is there, on its segment, carries anything, and has all of it.

        Cheap enough for every look. Where it isn't, `attach` puts it right while the node runs.
        """
        ...

    async def trouble(self, slot: int, port: int | None, masters: Sequence[str] = ()) -> str:
        """What others took away of what `open` made; empty where nothing is lost.

        Of what `publish` made as well, where the cluster's port is to lead to a `port`; and of
        what it did for `masters`, if any are named, no less and no more is to be there. Cheap
        enough for every look; what it tells may be a second old. `open` and `publish` put it right.
        """
        ...

    async def detach(self, slot: int, index: int) -> None: ...

    async def publish(
        self, slot: int, address: str, port: int, masters: Sequence[str] = ()
    ) -> None:
        """Lead the cluster's port of this machine to `address:port`.

        `masters`: the addresses of all that `port` is at (none: that one), which may ask this
        machine's Moorage who signs in. RetryLater where what `open` made is lost.
        """
        ...

    async def led_to(self, slot: int) -> str:
        """The address that the cluster's port leads to; empty where that is none, or not known.

        It may be a second old, but for what this process has published.
        """
        ...

    async def dismiss(self, slot: int, address: str) -> None:
        """Who has the address from now on is none of the `masters` that `publish` named."""
        ...

    async def close(self, slot: int) -> None:
        """Take everything away that `open`, `attach` and `publish` made."""
        ...


class TokenValidator(Protocol):
    async def validate(self, token: str, address: str = "") -> Caller:
        """Who bears this token, which `address` brings.

        Raises Unauthenticated; RetryLater where Keystone is silent, or that address asks too much.
        """
        ...


@runtime_checkable
class HasRoom(Protocol):
    """A provider that knows beforehand whether nodes will fit."""

    async def room_for(self, specs: Iterable[NodeSpec]) -> None:
        """Raises NoRoom with what is lacking, what was asked and what is left."""
        ...


@runtime_checkable
class Publishes(Protocol):
    """A provider whose nodes have one endpoint for all of their cluster."""

    async def publish(self, ref: NodeRef) -> None:
        """Lead the endpoint to this node. RetryLater where there is no such node to lead to."""
        ...


@runtime_checkable
class Watches(Protocol):
    """A provider that notices by itself that something happened to a node."""

    def changes(self) -> AsyncIterator[str]:
        """The owner of each node that changed, as it happens. A hint, no guarantee."""
        ...


@runtime_checkable
class Hears(Protocol):
    """A driver whose engines tell by themselves that something may have happened."""

    def changes(
        self, cluster: ClusterSpec, nodes: Mapping[str, ObservedNode]
    ) -> AsyncGenerator[None]:
        """An item for each sign of a change, until nothing more can be heard: a sign as well.

        A hint, no guarantee. Whoever takes its time with an item slows the engine down, and
        nothing piles up meanwhile. `cluster` has the key of its CA: it must not be kept for as
        long as this lasts. Raises RetryLater where no engine can be heard.
        """
        ...


@runtime_checkable
class Checks(Protocol):
    """A driver whose labels mean something, so that they may be wrong."""

    labels: ClassVar[frozenset[str]]
    """Those that have an effect here."""

    def checked(
        self,
        labels: Mapping[str, str],
        former: Mapping[str, str] | None = None,
        runs: str = "",
        nodes: Iterable[IPv4Network] = (),
    ) -> Mapping[str, str]:
        """A cluster's labels as it will have them, with what follows where nothing is said.

        `former`: what it has now, where it is to be changed; `runs`: the version of its engine
        by now, where that is known; `nodes`: the networks that its nodes will be in or must
        reach, as far as that is known. Raises Invalid.
        """
        ...

    def check(self, labels: Mapping[str, str], nodes: Iterable[IPv4Network] = ()) -> None:
        """Raises Invalid for a template's labels that no cluster could have now.

        What they don't say is left open: it is for the cluster to say, and may be there by then.
        """
        ...


@runtime_checkable
class Needs(Protocol):
    """A driver that knows what its own programs take, so that a flavor may be too small."""

    def least(self, role: Role, labels: Mapping[str, str]) -> Least:
        """Pure: of a node of that role in a cluster with these labels, without its tenant's."""
        ...


@runtime_checkable
class HasHome(Protocol):
    """A provider whose nodes can be reached from one place only, the machine that they are on."""

    @property
    def home(self) -> str:
        """The place, as `machine/install`: only a conductor there works on its clusters."""
        ...


@runtime_checkable
class HasAddresses(Protocol):
    """A provider that knows beforehand which networks its nodes are in, or must reach."""

    @property
    def addresses(self) -> Sequence[IPv4Network]:
        """Where nodes' addresses come from, and each name server's that nodes are told of.

        No other use of these can be made in a cluster.
        """
        ...


@runtime_checkable
class Traces(Protocol):
    """A provider that finds what there is of clusters that nobody else knows of."""

    async def owned(self) -> Sequence[str]:
        """Every cluster of which something is there, nodes or not."""
        ...

    async def traces(self, owner: str) -> Sequence[str]:
        """What there is of it, for an admin to read: `node worker-0: running`, `slot 7 …`."""
        ...

    async def clear(self, owner: str) -> None:
        """Take away what of a cluster without nodes is left beside them, such as its network."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A plugin that keeps something open."""

    async def aclose(self) -> None: ...
