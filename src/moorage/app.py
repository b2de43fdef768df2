"""The composition: the one place that names concrete classes.

`serve` is a whole Moorage in one process: API and conductor side by side on one event
loop, over one store; an embedded Keystone is a child process. Or it is one half of it
(`Settings.only`), beside others. `wipe` takes an install off the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

import structlog
import uvloop
from sqlalchemy.engine import make_url

from moorage import failpoints, install, log_lines, sign_in
from moorage.api import Api, create_api, create_probes
from moorage.api.acceptor import context_of
from moorage.api.listener import Listener
from moorage.api.probes import Probes
from moorage.api.rates import Rates
from moorage.api.readiness import Check, Readiness
from moorage.api.token_reviews import TokenReviews
from moorage.backup import RESTORING, leftovers
from moorage.clients.keystone import Credentials, KeystoneClient
from moorage.conductor.loop import Conductor
from moorage.conductor.world import World
from moorage.connections import Bounds, connections_at_most
from moorage.drivers.fake import FakeDriver
from moorage.drivers.kubernetes import KubernetesDriver
from moorage.drivers.swarm import SwarmDriver
from moorage.ending import Ending
from moorage.identity.clouds import save_cloud
from moorage.identity.embedded import EmbeddedKeystone, KeystoneSpec
from moorage.identity.validator import KeystoneValidator
from moorage.install import install_id
from moorage.metrics.census import Page
from moorage.model.errors import Refused, RetryLater
from moorage.model.node import NodeRef
from moorage.model.ports import AnyDriver, Closes, NodeProvider
from moorage.model.sign_in import BELIEVED_SECONDS, SERVER
from moorage.networks import LocalNetwork
from moorage.planning.healing import Limits
from moorage.providers.fake import FakeProvider
from moorage.providers.local import LocalProvider, trees
from moorage.providers.local.runtime import Runc
from moorage.providers.local.slots import Slots, port_in_use
from moorage.releases import Releases
from moorage.releases.releases import DIRECTORY as RELEASES
from moorage.services import AuditService, Catalogue, SignInService, open_services
from moorage.settings import FLAVORS, Settings
from moorage.sign_in import public_address
from moorage.store import Store
from moorage.trust import ClusterAuthority, Seal

T = TypeVar("T")
log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5
"""How long requests under way may take when the server stops."""


def serve(settings: Settings) -> None:
    """Be the server until SIGTERM or SIGINT. Raises Refused where it can't start.

    To be called once for a state directory at a time, unless it is `only` the API.
    """
    if settings.only and not _shared(settings):
        raise Refused(
            f"the {settings.only} alone needs a database that other processes share: "
            "a PostgreSQL (--database), and no SQLite file"
        )
    lines = log_lines.configure(settings.log_file, int(settings.log_mib * 2**20))
    _raise_open_files()
    os.umask(0o022)  # the roots of nodes are made with the modes that an /etc has
    _prepare(settings)
    name = install.keep_install_id(settings.state)
    with contextlib.ExitStack() as stack:
        if settings.only != "api":  # which has no node, and may stand beside the conductor
            stack.enter_context(install.held(name, settings.state))
            local_provider(settings).refuse_other_pool()
        uvloop.run(_serve(settings, lines.reopen))


def home(settings: Settings) -> str:
    """The place of this install among those that share a database, as `machine/install`."""
    return f"{settings.machine}/{install_id(settings.state)}"


def _shared(settings: Settings) -> bool:
    """Whether other processes may work on the database."""
    return not settings.database.startswith("sqlite")


def providers(settings: Settings) -> dict[str, NodeProvider]:
    """The installed providers by name. An entry point is called with the settings."""
    return _plugins(
        "moorage.providers", settings, lambda make: failpoints.arm("provider", make(settings))
    )


def drivers(settings: Settings) -> dict[str, AnyDriver]:
    """The installed drivers by COE. An entry point is called with the settings."""
    return _plugins(
        "moorage.drivers", settings, lambda make: failpoints.arm("driver", make(settings))
    )


def swarm_driver(_: Settings) -> SwarmDriver:
    """The entry point `swarm`."""
    return SwarmDriver()


def kubernetes_driver(settings: Settings) -> KubernetesDriver:
    """The entry point `kubernetes`."""
    return KubernetesDriver(Releases(settings.state), sign_in.told(settings))


def fake_driver(_: Settings) -> FakeDriver:
    """The entry point `fake`."""
    return FakeDriver()


def local_provider(settings: Settings) -> LocalProvider:
    """The entry point `local`."""
    name = install_id(settings.state)
    network = LocalNetwork(
        install=name,
        pool=settings.pool,
        public_address=settings.public_address or public_address(),
        door=sign_in.door(settings),
    )

    def taken(slot: int) -> bool:
        port = int(network.endpoint(slot).rpartition(":")[2])
        return port_in_use(port) or network.in_use(slot)

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return LocalProvider(
        install=name,
        home=home(settings),
        nodes=settings.nodes_directory,
        network=failpoints.arm("network", network),
        slots=Slots(taken=taken),
        memory_mib=int(memory * settings.memory_overcommit),
    )


def fake_provider(settings: Settings) -> FakeProvider:
    """The entry point `fake`."""
    return FakeProvider(settings.fake_nodes)


async def lose_node(settings: Settings, ref: NodeRef) -> None:
    """Do to a local node what a fire does: its processes and its disk are gone.

    For the demo and for drills. The conductor isn't told. The disk goes first: a node
    that was only stopped would be started again on it.
    """
    root = settings.nodes_directory / ref.owner / ref.name / "root"
    lost = root.with_name("root.draft")  # what a node that was never whole has
    await asyncio.to_thread(root.rename, lost)
    await Runc(install_id(settings.state)).destroy(f"{ref.owner}.{ref.name}")
    await trees.remove(lost)


def wipe(settings: Settings) -> None:
    """Remove all that this install has on the machine, files included. Needs no database.

    Raises Refused where an install of the same name is up: the nodes are that one's too.
    """
    with install.held(install_id(settings.state), settings.state):
        uvloop.run(_wipe(settings))


async def _wipe(settings: Settings) -> None:
    provider = local_provider(settings)
    for owner in provider.owners():
        nodes = await provider.observe(owner)
        await asyncio.gather(*(provider.delete(node.ref) for node in nodes))
    await provider.sweep()
    state = settings.state
    for directory in (
        settings.nodes_directory,
        state / "keys",
        state / "keystone",
        state / RELEASES,
        *leftovers(state),
    ):
        shutil.rmtree(directory, ignore_errors=True)
    for path in (state / "clouds.yaml", state / install.FILE, *state.glob("moorage.db*")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where the install lay before it was restored here
        settings.nodes_directory.parent.rmdir()


def _prepare(settings: Settings) -> None:
    """The state directory, open to walk through and to nothing else.

    Nodes' roots lie below it, and their own root must be able to walk there. Raises Refused
    for one that is half restored.
    """
    if (settings.state / RESTORING).exists():
        raise Refused(f"A restore into {settings.state} was cut off: run `moorage restore` again.")
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.state.chmod(0o711)
    if not _shared(settings) and (file := make_url(settings.database).database):
        # SQLite gives its journals the mode of the database.
        database = Path(file)
        database.touch(mode=0o600)
        database.chmod(0o600)


async def _serve(settings: Settings, reopen_log: Callable[[], None]) -> None:
    ending = Ending(settings.stop_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.ask)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reopen_log)
    async with contextlib.AsyncExitStack() as stack:
        store = failpoints.arm_store(await open_store(settings))
        stack.push_async_callback(store.close)
        found, known = providers(settings), drivers(settings)
        for driver in known.values():
            if isinstance(driver, Closes):
                stack.push_async_callback(driver.aclose)
        conductor = None
        if settings.only != "api":
            limits = Limits(settings.heal_replacements, window=settings.heal_window_seconds)
            conductor = Conductor(
                store,
                World(known, found, ClusterAuthority, settings.heal_seconds, healing=limits),
                lease=settings.lease_seconds,
                alone=not _shared(settings),
                home=home(settings),
            )
            if sign_in.told(settings) is None:
                log.warning(
                    "clusters take no tokens",
                    reason="this conductor was not told where the API listens for them "
                    "(MOORAGE_SIGN_IN_URL), or they are turned off",
                )

        async def conducts() -> None:
            if conducting is None or conducting.done():
                raise RetryLater("the conductor has ended")

        checks: dict[str, Check] = {"store": store.census.try_write}
        asked: list[Listener] = []
        if conductor is not None:
            checks["conductor"] = conducts
        ready = Readiness(checks)
        if settings.only == "conductor":
            api = create_probes(ready=ready, audit=AuditService(store))
        else:
            identity_url, credentials = await stack.enter_async_context(_keystone(settings))
            keystone = await stack.enter_async_context(KeystoneClient(credentials))
            validator = KeystoneValidator(keystone, cache_seconds=settings.token_cache_seconds)
            checks["identity"] = validator.check
            catalogue = Catalogue(
                FLAVORS,
                known,
                found,
                settings.provider,
                store.offers,
                conducting=conductor is not None,
            )
            api = create_api(
                services=open_services(
                    store,
                    catalogue,
                    settings.quotas,
                    templates=settings.quota_templates,
                    heal_seconds=settings.heal_seconds,
                ),
                validator=validator,
                ready=ready,
                identity_url=identity_url,
                rates=Rates(settings.rate, settings.rate_burst),
                trust_proxy=settings.trust_proxy,
            )
            if settings.sign_in_port:
                asked.append(_sign_in_listener(settings, store, keystone))
        # What is there by now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        listeners = [_listener(api, settings), *asked]
        if settings.metrics_port:
            probes = Probes(Page(store.census.count), ready)
            listeners.append(_probing(probes, settings))
        conducting = None if conductor is None else asyncio.create_task(conductor.run())
        await ending.conclude(ready, listeners, conductor, conducting)


async def open_store(settings: Settings) -> Store:
    """Raises what Store.open does."""
    seal = Seal.load_or_create(settings.seal_file)
    return await Store.open(settings.database, seal, key_lost=seal.has(settings.key_lost))


def current_key(settings: Settings) -> str:
    """The name of the key that seals; one is made where there is none. Raises Refused."""
    return Seal.load_or_create(settings.seal_file).name


def _listener(api: Api, settings: Settings) -> Listener:
    bounds = Bounds(
        receive_seconds=settings.receive_seconds,
        send_seconds=settings.send_seconds,
        connections=connections_at_most(settings.connections),
        each=_connections_of_one(settings),
    )
    return Listener(api, settings.host, settings.port, bounds, drain_seconds=DRAIN_SECONDS)


def _sign_in_listener(settings: Settings, store: Store, keystone: KeystoneClient) -> Listener:
    """Keystone is asked apart from the API's own questions: whoever brings many tokens to
    clusters takes nobody's place there. What is believed here and what an API server believes
    after that add up to what the operator has said."""
    seconds = max(0, settings.token_cache_seconds - BELIEVED_SECONDS)
    service = SignInService(store, KeystoneValidator(keystone, cache_seconds=seconds))
    bounds = Bounds(
        connections=connections_at_most(settings.connections),
        each=settings.connections_per_address,
    )
    return Listener(
        TokenReviews(service),
        sign_in.host(settings),
        settings.sign_in_port,
        bounds,
        drain_seconds=1,
        tls=context_of(sign_in.authority(settings).server(SERVER, [])),
    )


def _connections_of_one(settings: Settings) -> int:
    """A proxy's clients all come from its own address; to count them is its business."""
    return 0 if settings.trust_proxy else settings.connections_per_address


def _probing(probes: Probes, settings: Settings) -> Listener:
    bounds = Bounds(connections=100, each=50)
    host, port = settings.metrics_host, settings.metrics_port
    return Listener(probes, host, port, bounds, drain_seconds=1)


@contextlib.asynccontextmanager
async def _keystone(settings: Settings) -> AsyncIterator[tuple[str, Credentials]]:
    """A Keystone: its URL as clients know it, and the credentials that validate tokens."""
    if settings.keystone:
        if settings.keystone_password is None:
            raise Refused(
                f"to validate tokens at {settings.keystone}, the password of its user "
                f"{settings.keystone_user!r} is needed: set MOORAGE_KEYSTONE_PASSWORD"
            )
        yield (
            settings.keystone,
            Credentials(
                settings.keystone,
                settings.keystone_user,
                settings.keystone_password.get_secret_value(),
                settings.keystone_project,
            ),
        )
        return
    reachable = settings.host if settings.host not in ("0.0.0.0", "::") else public_address()  # noqa: S104
    host = settings.public_address or reachable
    spec = KeystoneSpec(
        state=settings.state,
        host=settings.host,
        port=settings.keystone_port,
        public_host=host,
        container_infra_url=f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/v1",
        connections=settings.connections,
        each=_connections_of_one(settings),
    )
    keystone = EmbeddedKeystone(spec)
    await keystone.start()
    keeping = asyncio.create_task(keystone.keep(log.warning))
    try:
        save_cloud(settings.state / "clouds.yaml", "moorage", keystone.admin())
        yield spec.identity_url, keystone.service()
    finally:
        keeping.cancel()
        await keystone.stop()


def _plugins(group: str, settings: Settings, make: Callable[[Callable[..., T]], T]) -> dict[str, T]:
    return {
        point.name: make(point.load())
        for point in entry_points(group=group)
        if point.name != "fake" or settings.fakes
    }


def _raise_open_files() -> None:
    """A descriptor for every node that is watched, and for every client."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
