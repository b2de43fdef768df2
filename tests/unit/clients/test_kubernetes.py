"""The client of API servers, kubelets and etcd, against ones that a tenant has replaced."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from moorage.clients.kubernetes import ApiRefused, ApiServer, ApiSilent, Etcd, Way
from moorage.clients.kubernetes_wire import NodeObject, PodObject
from moorage.model.ports import CaKeys
from moorage.trust import ClusterAuthority, new_ca

AUTHORITY = ClusterAuthority(CaKeys(new_ca("ours"), secret=b"s" * 32))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NODE = {
    "metadata": {"name": "web-worker-0", "labels": {"a": "b"}, "resourceVersion": "7"},
    "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]},
    "status": {
        "conditions": [{"type": "Ready", "status": "False", "message": "no network"}],
        "nodeInfo": {"kubeletVersion": "v1.20.2", "containerRuntimeVersion": "containerd://1.6"},
    },
}
POD = PodObject.model_validate({"metadata": {"name": "p", "namespace": "n"}})


@pytest.mark.parametrize(
    ("told", "release"),
    [
        ("v1.20.2", "v1.20.2"),
        ("v1.35.0-rc.1+k3s1", "v1.35.0-rc.1+k3s1"),
        ("", ""),
        ("v2.0.0", ""),
        ("1.20.2", ""),
        ("v1.20.2+" + "x" * 41, ""),
        ("v1.20.2\n", ""),
        ("$(reboot)", ""),
    ],
)
def test_a_release_is_believed_where_it_is_one(told: str, release: str) -> None:
    """A tenant may write what it likes into its nodes' status."""
    status = {"nodeInfo": {"kubeletVersion": told}}
    assert NodeObject.model_validate({**NODE, "status": status}).release == release


class Impostor:
    """A TLS server in an API server's place; `answers` maps paths to status and body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.subjects: list[str] = []
        self.port = 0

    async def start(self, tmp_path: Path) -> web.AppRunner:
        pair = AUTHORITY.server("localhost", ["127.0.0.1"])
        file = tmp_path / "server.pem"
        file.write_bytes(pair.certificate + pair.key)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(file)
        tls.load_verify_locations(cadata=AUTHORITY.certificate.decode())
        tls.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        return runner

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peercert")
        self.subjects.append(str(peer["subject"]))
        self.asked.append((request.method, request.path_qs, await request.text()))
        status, body = self.answers.get(request.path, (404, {"message": "not found"}))
        if isinstance(body, str):
            return web.Response(text=body, status=status)
        return web.json_response(body, status=status)


@pytest_asyncio.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[Impostor]:
    made = Impostor()
    runner = await made.start(tmp_path)
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture
async def way() -> AsyncIterator[Way]:
    made = Way()
    yield made
    await made.aclose()


@pytest.fixture
def api(impostor: Impostor, way: Way, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setattr(ApiServer, "port", impostor.port)
    return way.api("cluster", AUTHORITY, "master-0", "127.0.0.1")


@pytest.fixture
def etcd(impostor: Impostor, way: Way, monkeypatch: pytest.MonkeyPatch) -> Etcd:
    monkeypatch.setattr(Etcd, "port", impostor.port)
    return way.etcd("cluster", AUTHORITY, "master-0", "127.0.0.1")


async def test_readiness_and_what_the_certificate_shows(impostor: Impostor, api: ApiServer) -> None:
    impostor.answers["/readyz"] = (200, "ok")
    assert await api.ready() == (AUTHORITY.revision, "")
    said = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac failed\n"
    impostor.answers["/readyz"] = (500, said)
    assert (await api.ready())[1] == "not ready: etcd, poststarthook/rbac"
    assert "system:masters" in impostor.subjects[0]


async def test_nodes_are_read(impostor: Impostor, api: ApiServer) -> None:
    impostor.answers["/api/v1/nodes"] = (200, {"items": [NODE]})
    (node,) = await api.nodes()
    assert (node.name, node.is_ready, node.trouble) == ("web-worker-0", False, "no network")
    assert node.spec.unschedulable
    assert await api.node("other") is None
    await api.delete_node("other")


async def test_a_refusal_tells_the_server_s_own_words(impostor: Impostor, api: ApiServer) -> None:
    impostor.answers["/api/v1/nodes"] = (403, {"kind": "Status", "message": "no\nway"})
    with pytest.raises(ApiRefused, match="answered 403: no way") as refusal:
        await api.nodes()
    assert refusal.value.status == 403


@pytest.mark.parametrize(
    "body", ["hello", {"items": 1}, {"items": [{"metadata": 1}]}, {"items": [{"spec": {}}]}]
)
async def test_nonsense_is_silence(impostor: Impostor, api: ApiServer, body: object) -> None:
    impostor.answers["/api/v1/nodes"] = (200, body)
    with pytest.raises(ApiSilent, match="did not answer as it should"):
        await api.nodes()


async def test_too_much_is_silence(impostor: Impostor, api: ApiServer) -> None:
    impostor.answers["/api/v1/nodes"] = (200, {"items": ["x" * (5 << 20)]})
    with pytest.raises(ApiSilent):
        await api.nodes()


async def test_who_is_not_there_is_silent(way: Way) -> None:
    with pytest.raises(ApiSilent, match="refused the connection"):
        await way.api("cluster", AUTHORITY, "master-0", "127.0.0.1").ready()
    with pytest.raises(ApiSilent, match="has no address"):
        way.kubelet("cluster", AUTHORITY, "worker-0", None)


async def test_an_object_is_set_right_or_made(impostor: Impostor, api: ApiServer) -> None:
    impostor.answers["/apis/x/things"] = (201, {})
    await api.put("/apis/x/things/one", {"metadata": {"name": "one"}})
    assert [(method, path) for method, path, _ in impostor.asked] == [
        ("PATCH", "/apis/x/things/one"),
        ("POST", "/apis/x/things"),
    ]


async def test_what_has_a_label_is_listed(impostor: Impostor, api: ApiServer) -> None:
    items = [{"metadata": {"name": "a:b", "annotations": {"k": "v"}}}, {"metadata": {"name": "c"}}]
    impostor.answers["/apis/x/things"] = (200, {"items": items})
    told = await api.labelled("/apis/x/things", ("example.org/by", "us"))
    assert told == {"/apis/x/things/a:b": {"k": "v"}, "/apis/x/things/c": {}}
    assert impostor.asked[-1][:2] == (
        "GET",
        "/apis/x/things?labelSelector=example.org/by%3Dus",
    )


@pytest.mark.parametrize(("status", "leaves"), [(201, True), (429, False), (404, True)])
async def test_evictions(impostor: Impostor, api: ApiServer, status: int, leaves: bool) -> None:
    impostor.answers["/api/v1/namespaces/n/pods/p/eviction"] = (status, {"message": "so"})
    assert await api.evict(POD, version="policy/v1") is leaves


async def test_members_of_etcd(impostor: Impostor, etcd: Etcd) -> None:
    """Numbers are texts there, and what is false is not said."""
    told = {"members": [{"ID": "12", "name": "a", "peerURLs": ["https://10.0.0.2:2380"]},
                        {"ID": "13", "peerURLs": ["x"], "isLearner": True}]}  # fmt: skip
    impostor.answers["/v3/cluster/member/list"] = (200, told)
    first, second = await etcd.members()
    assert (first.id, first.name, first.is_learner) == (12, "a", False)
    assert (second.id, second.name, second.is_learner) == (13, "", True)
    impostor.answers["/v3/cluster/member/remove"] = (404, {"error": "member not found"})
    await etcd.remove(12)
    assert json.loads(impostor.asked[-1][2]) == {"ID": "12"}
    assert "system:masters" not in impostor.subjects[-1]
