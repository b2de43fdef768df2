"""The client of Docker engines, against engines that a tenant has replaced by his own."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from moorage.clients.docker import Engine, EnginePool, EngineRefused, EngineSilent
from moorage.clients.docker_wire import plain
from moorage.model.cluster import Rotation
from moorage.model.ports import CaKeys, KeyPair
from moorage.trust import ClusterAuthority, new_ca

CA, COMING = new_ca("ours"), new_ca("ours")
AUTHORITY = ClusterAuthority(CaKeys(CA))
TRUST = ClusterAuthority(CaKeys(CA, COMING, Rotation.TRUST))
SERVE = ClusterAuthority(CaKeys(CA, COMING, Rotation.SERVE))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEMBER = {
    "ID": "abc123",
    "Version": {"Index": 7},
    "Spec": {"Role": "worker", "Availability": "active", "Labels": {"disk": "ssd"}},
    "Description": {"Hostname": "web-worker-0", "Engine": {"EngineVersion": "20.10"}},
    "Status": {"State": "ready", "Addr": "10.128.0.3"},
}


class Impostor:
    """A TLS server in an engine's place; `answers` maps paths to handlers."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.answers: dict[str, Handler] = {}
        self.asked: list[str] = []
        self.port = 0
        self._runners: list[web.AppRunner] = []

    async def start(self, authority: ClusterAuthority = AUTHORITY) -> None:
        self.tls = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.show(authority.server("localhost", ["127.0.0.1"]))
        context.load_verify_locations(cadata=AUTHORITY.certificate.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._runners.append(runner)

    def show(self, pair: KeyPair) -> None:
        """This certificate from now on, on new connections."""
        file = self.tmp_path / "server.pem"
        file.write_bytes(pair.certificate + pair.key)
        self.tls.load_cert_chain(file)

    async def stop(self) -> None:
        while self._runners:
            await self._runners.pop().cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path == "/_ping" and "/_ping" not in self.answers:
            return web.Response(text="OK", headers={"Api-Version": "1.41"})
        return await self.answers[request.path.removeprefix("/v1.41")](request)

    def says(self, path: str, body: object, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.Response:
            headers = {"Content-Type": "application/json"}
            return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)

        self.answers[path] = answer


@pytest_asyncio.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[Impostor]:
    made = Impostor(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def engine(impostor: Impostor) -> AsyncIterator[Engine]:
    pool = EnginePool(port=impostor.port)
    yield pool.engine("cluster", AUTHORITY, "worker-0", "127.0.0.1")
    await pool.aclose()


async def test_what_an_engine_says_is_read(impostor: Impostor, engine: Engine) -> None:
    swarm = {"NodeID": "n1", "LocalNodeState": "active", "ControlAvailable": True}
    impostor.says("/info", {"ServerVersion": "20.10", "Swarm": swarm})
    impostor.says("/nodes", [MEMBER])
    info = await engine.info()
    assert (info.version, info.state, info.node_id, info.control) == ("20.10", "active", "n1", True)
    (member,) = await engine.members()
    assert (member.id, member.role, member.labels) == ("abc123", "worker", {"disk": "ssd"})
    assert (member.hostname, member.address, member.reachability) == (
        "web-worker-0",
        "10.128.0.3",
        "",
    )
    assert impostor.asked.count("GET /_ping") == 1


async def test_a_ping_tells_what_the_certificate_shows(impostor: Impostor) -> None:
    pool = EnginePool(port=impostor.port)
    engine = pool.engine("cluster", AUTHORITY, "worker-0", "127.0.0.1")
    try:
        assert await engine.ping() == AUTHORITY.revision
        impostor.show(TRUST.server("localhost", ["127.0.0.1"]))
        assert await engine.ping() == AUTHORITY.revision, "the connection was not kept"
        pool.renew("cluster")
        assert await engine.ping() == TRUST.revision
        # Another phase of the authority has connections of its own.
        impostor.show(SERVE.server("localhost", ["127.0.0.1"]))
        assert await engine.ping() == TRUST.revision
        later = pool.engine("cluster", TRUST, "worker-0", "127.0.0.1")
        assert await later.ping() == SERVE.revision
    finally:
        await pool.aclose()


async def test_a_change_keeps_what_it_does_not_change(impostor: Impostor, engine: Engine) -> None:
    sent = []

    async def update(request: web.Request) -> web.Response:
        sent.append((request.query["version"], await request.json()))
        return web.json_response({})

    impostor.says("/nodes/abc123", MEMBER)
    impostor.answers["/nodes/abc123/update"] = update
    await engine.update_member("abc123", labels={"disk": "ssd"})
    assert sent == []
    await engine.update_member("abc123", availability="drain", labels={"a": "b"})
    labels = {"disk": "ssd", "a": "b"}
    spec = {"Role": "worker", "Availability": "drain", "Labels": labels}
    assert sent == [("7", spec)]


async def test_a_change_that_was_overtaken_is_made_again(
    impostor: Impostor, engine: Engine
) -> None:
    refusals = 2

    async def update(_: web.Request) -> web.Response:
        nonlocal refusals
        refusals -= 1
        error = {"message": "rpc error: code = Unknown desc = update out of sequence"}
        return web.json_response(
            error if refusals >= 0 else {}, status=500 if refusals >= 0 else 200
        )

    impostor.says("/nodes/abc123", MEMBER)
    impostor.answers["/nodes/abc123/update"] = update
    await engine.update_member("abc123", role="manager")
    assert refusals == -1


async def test_what_is_absent_is_removed(impostor: Impostor, engine: Engine) -> None:
    impostor.says("/nodes/abc123", {"message": "not found"}, status=404)
    assert await engine.member("abc123") is None
    await engine.remove_member("abc123")


async def test_a_refusal_is_quoted_in_one_plain_line(impostor: Impostor, engine: Engine) -> None:
    said = "no\n\x1b[31mway\x00 " + "x" * 10_000
    impostor.says("/nodes", {"message": said}, status=503)
    with pytest.raises(EngineRefused) as refusal:
        await engine.members()
    assert refusal.value.status == 503
    assert refusal.value.reason.startswith(
        f"engine of worker-0 at 127.0.0.1:{impostor.port} answered: no [31mway xxx"
    )
    assert len(refusal.value.reason) < 400
    assert refusal.value.reason.isprintable()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(impostor: Impostor, engine: Engine, status: int) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/v1.41/stolen"})

    impostor.answers["/swarm/join"] = elsewhere
    with pytest.raises(EngineSilent, match="redirect"):
        await engine.join_swarm(["10.128.0.2"], "SWMTKN-1-secret")
    impostor.answers["/_ping"] = elsewhere
    with pytest.raises(EngineSilent, match="redirect"):
        await engine.ping()
    assert not [path for path in impostor.asked if "stolen" in path]


async def test_an_endless_answer_is_cut_off(impostor: Impostor, engine: Engine) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        while request.transport and not request.transport.is_closing():
            await answer.write(b" " * 65536)
            await asyncio.sleep(0)
        return answer

    for status in ("/info", "/nodes"):
        impostor.answers[status] = endless
    with pytest.raises(EngineSilent, match="more than 4 MiB"):
        await engine.info()
    with pytest.raises(EngineSilent, match="more than 4 MiB"):
        await engine.members()


async def test_a_compressed_answer_is_not_unpacked(impostor: Impostor, engine: Engine) -> None:
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]", 1)

    async def packed(_: web.Request) -> web.Response:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return web.Response(body=bomb, headers=headers)

    impostor.answers["/nodes"] = packed
    with pytest.raises(EngineSilent, match="did not answer as a Docker Engine"):
        await engine.members()


async def test_an_answer_that_does_not_end_is_given_up(impostor: Impostor, engine: Engine) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    impostor.answers["/info"] = slow
    with pytest.raises(EngineSilent, match=r"did not answer within 0\.05 s"):
        await engine.info(timeout=0.05)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"null",
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps([{**MEMBER, "ID": "../../swarm"}]).encode(),
        json.dumps([{**MEMBER, "ID": ""}]).encode(),
        json.dumps([{**MEMBER, "Spec": "x"}]).encode(),
        json.dumps([MEMBER] * 1001).encode(),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html", ""])
async def test_nonsense_is_told_as_such(
    impostor: Impostor, engine: Engine, body: bytes, kind: str
) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": kind})

    impostor.answers["/nodes"] = nonsense
    with pytest.raises(EngineSilent, match="did not answer as a Docker Engine does"):
        await engine.members()


async def test_an_archive_is_not_opened(impostor: Impostor, engine: Engine) -> None:
    async def archive(_: web.Request) -> web.Response:
        return web.Response(body=b"x", headers={"Content-Type": "application/x-tar"})

    impostor.answers["/nodes"] = archive
    with pytest.raises(EngineSilent, match=r"not answer as a Docker Engine does .*x-tar"):
        await engine.members()


async def test_an_error_that_is_nonsense_is_told_as_such(
    impostor: Impostor, engine: Engine
) -> None:
    impostor.says("/nodes", ["no message"], status=500)
    with pytest.raises(EngineSilent, match="did not answer as a Docker Engine does"):
        await engine.members()


@pytest.mark.parametrize("version", ["", "2.0", "1.41/../../x", "1.41\t"])
async def test_a_strange_version_is_not_believed(
    impostor: Impostor, engine: Engine, version: str
) -> None:
    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": version})

    impostor.answers["/_ping"] = ping
    if version == "1.41\t":  # white space around a header's value is not part of it
        await engine.ping()
        return
    with pytest.raises(EngineSilent, match="answered a ping"):
        await engine.ping()


async def test_another_cluster_s_engine_is_not_believed(tmp_path: Path) -> None:
    impostor = Impostor(tmp_path)
    await impostor.start(ClusterAuthority(CaKeys(new_ca("theirs"))))
    pool = EnginePool(port=impostor.port)
    engine = pool.engine("cluster", AUTHORITY, "worker-0", "127.0.0.1")
    with pytest.raises(EngineSilent, match="certificate that is not its own"):
        await engine.ping()
    assert impostor.asked == []
    await pool.aclose()
    await impostor.stop()


async def test_variables_and_proxies_of_this_machine_have_no_say(
    impostor: Impostor, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "DOCKER_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "DOCKER_CERT_PATH"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "")
    await engine.ping()


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


async def test_the_client_s_key_leaves_nothing_open(impostor: Impostor) -> None:
    pool = EnginePool(port=impostor.port)
    before = descriptors()
    with pool.session("cluster", AUTHORITY):
        assert descriptors() == before
    await pool.aclose()


async def test_a_connection_is_used_again_and_sessions_are_bounded(impostor: Impostor) -> None:
    pool = EnginePool(port=impostor.port, clusters=2)
    for owner in ("a", "a", "b", "c", "c"):
        await pool.engine(owner, AUTHORITY, "worker-0", "127.0.0.1").ping()
    assert list(pool._sessions) == ["b", "c"]
    await pool.aclose()
    assert not pool._sessions


async def test_a_session_in_use_is_not_closed(impostor: Impostor) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        began.set()
        await go_on.wait()
        return web.json_response({"ServerVersion": "20.10"})

    impostor.answers["/info"] = slow
    pool = EnginePool(port=impostor.port, clusters=1)
    asked = asyncio.create_task(pool.engine("a", AUTHORITY, "n", "127.0.0.1").info())
    await began.wait()
    await pool.engine("b", AUTHORITY, "n", "127.0.0.1").ping()
    pool._sessions["a"].revision = "of a CA that was replaced"
    await pool.engine("a", AUTHORITY, "n", "127.0.0.1").ping()
    go_on.set()
    assert (await asked).version == "20.10"
    await pool.aclose()


async def test_nobody_there(unused_tcp_port: int) -> None:
    pool = EnginePool(port=unused_tcp_port)
    engine = pool.engine("cluster", AUTHORITY, "worker-1", "127.0.0.1")
    with pytest.raises(EngineSilent) as silence:
        await engine.info()
    assert silence.value.reason == (
        f"engine of worker-1 at 127.0.0.1:{unused_tcp_port} refused the connection"
    )
    with pytest.raises(EngineSilent, match="has no address"):
        pool.engine("cluster", AUTHORITY, "worker-1", None)
    await pool.aclose()


def test_plain() -> None:
    assert plain("a\r\nb\u202e\x07c  d") == "a b c d"
    assert plain("é" * 300, 10) == "é" * 9 + "…"


async def test_join_tokens_are_exchanged_once_a_note(impostor: Impostor, engine: Engine) -> None:
    """In one change with the note, which is made on what was seen; again, it is done."""
    swarm = {"Version": {"Index": 3}, "Spec": {"Name": "default", "Labels": {"theirs": "1"}}}
    sent: list[tuple[dict[str, str], object]] = []

    async def update(request: web.Request) -> web.Response:
        sent.append((dict(request.query), json.loads(await request.read())))
        if len(sent) == 1:
            body = {"message": "rpc error: update out of sequence"}
            return web.json_response(body, status=500)
        return web.json_response({})

    impostor.says("/swarm", swarm)
    impostor.answers["/swarm/update"] = update
    await engine.rotate_join_tokens({"moorage.credentials": "2"})
    spec = {"Name": "default", "Labels": {"theirs": "1", "moorage.credentials": "2"}}
    query = {"version": "3", "rotateWorkerToken": "true", "rotateManagerToken": "true"}
    assert sent == [(query, spec)] * 2
    impostor.says("/swarm", {**swarm, "Spec": spec})
    await engine.rotate_join_tokens({"moorage.credentials": "2"})
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("cluster", "labels"),
    [(None, None), ({}, None), ({"Spec": {}}, None), ({"Spec": {"Labels": None}}, {}),
     ({"Spec": {"Labels": {"a": "b"}}}, {"a": "b"})],
)  # fmt: skip
async def test_a_manager_tells_the_labels_of_its_swarm(
    impostor: Impostor, engine: Engine, cluster: object, labels: object
) -> None:
    impostor.says("/info", {"ServerVersion": "20.10", "Swarm": {"Cluster": cluster}})
    assert (await engine.info()).swarm_labels == labels
