"""The demo's steps, with a docker client and a cloud that are stand-ins."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moorage.cli import demo
from moorage.cli.choices import load
from moorage.cli.clouds import choose
from moorage.cli.credentials import Credentials
from moorage.cli.demo_swarm import Docker, Page, SwarmNode, fetch
from moorage.cli.failure import Failure
from moorage.cli.screen import Progress
from moorage.cli.session import container_infra

from .conftest import StubCloud
from .test_clusters import UUID, cluster

CLIENT = """#!{python}
import json, os, sys
answers = json.load(open({answers!r}))
with open({log!r}, "a") as log:
    kept = {{k: v for k, v in os.environ.items() if k.startswith("DOCKER") or k == "WEB_IMAGE"}}
    log.write(json.dumps([sys.argv[1:], kept]) + "\\n")
words = " ".join(sys.argv[1:])
for begin, answer in answers.items():
    if words.startswith(begin):
        print(answer)
        sys.exit()
sys.exit("no such thing: " + words)
"""


class StubDocker:
    """A docker client that answers by the beginning of its words."""

    def __init__(self, folder: Path) -> None:
        self._answers, self._log = folder / "answers.json", folder / "log"
        self._log.touch()
        path = folder / "docker"
        text = CLIENT.format(python=sys.executable, answers=str(self._answers), log=str(self._log))
        path.write_text(text)
        path.chmod(0o755)
        self.will({})
        keys = Credentials("fleet", folder / "keys", "tcp://192.0.2.7:20001")
        self.client = Docker(str(path), keys, folder / "config")

    def will(self, answers: dict[str, str]) -> None:
        self._answers.write_text(json.dumps(answers))

    @property
    def asked(self) -> list[tuple[str, dict[str, str]]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [(" ".join(words), env) for words, env in lines]


@pytest.fixture
def docker(tmp_path: Path) -> StubDocker:
    return StubDocker(tmp_path)


def test_the_client_hears_of_this_cluster_only(
    docker: StubDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "production")
    monkeypatch.setenv("DOCKER_HOST", "tcp://production:2376")
    docker.will({"version": "1"})
    docker.client.ask("version")
    docker.client.ask("version", node="10.128.0.4")
    mine = {
        "DOCKER_CERT_PATH": str(tmp_path / "keys"),
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CONFIG": str(tmp_path / "config"),
    }
    assert [env for _, env in docker.asked] == [
        mine | {"DOCKER_HOST": "tcp://192.0.2.7:20001"},
        mine | {"DOCKER_HOST": "tcp://10.128.0.4:2376"},
    ]
    assert os.environ["DOCKER_CONTEXT"] == "production"


def test_what_fails_says_what_the_client_said(docker: StubDocker) -> None:
    with pytest.raises(Failure, match=r"`docker node ls .* failed: no such thing"):
        docker.client.nodes()


def test_the_image_is_loaded_only_where_it_is_not(docker: StubDocker) -> None:
    docker.will({"image inspect": "sha256:1"})
    assert docker.client.load(b"image", ["10.128.0.2"]) == []
    docker.will({"load": "Loaded"})
    assert docker.client.load(b"image", ["10.128.0.2", "10.128.0.3"]) == [
        "10.128.0.2",
        "10.128.0.3",
    ]


def test_no_registry_is_asked(docker: StubDocker) -> None:
    docker.will({"stack deploy": ""})
    docker.client.deploy(Path("/x/compose.yaml"), "sha256:1")
    [(words, env)] = docker.asked
    assert words == "stack deploy --resolve-image never -c /x/compose.yaml web"
    assert env["WEB_IMAGE"] == "sha256:1"


@pytest.mark.parametrize(
    ("line", "seen"), [("3/6", (3, 6)), ("6/6 (max 2 per node)", (6, 6)), ("", (0, 0))]
)
def test_replicas(docker: StubDocker, line: str, seen: tuple[int, int]) -> None:
    docker.will({"service ls": line})
    assert docker.client.replicas() == seen


def test_nodes(docker: StubDocker) -> None:
    docker.will({"node ls": "a|master-0|Ready|Leader\nb|worker-0|Down|"})
    assert docker.client.nodes() == [
        SwarmNode("a", "master-0", ready=True, manager=True),
        SwarmNode("b", "worker-0", ready=False, manager=False),
    ]


def test_only_replicas_that_run_have_an_address(docker: StubDocker) -> None:
    port = {"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": 32768, "PublishMode": "host"}
    running = {"State": "running", "PortStatus": {"Ports": [port, port]}}
    tasks = [
        {"NodeID": "a", "Status": running},
        {"NodeID": "a", "Status": {"State": "preparing", "PortStatus": {}}},
        {"NodeID": "gone", "Status": running},
        {"Status": {"State": "pending"}},
    ]
    docker.will(
        {
            "service ps": "one two three four",
            "node ls": "a|master-0|Ready|Leader",
            "node inspect": json.dumps([{"ID": "a", "Status": {"Addr": "10.128.0.2"}}]),
            "inspect --type task": json.dumps(tasks),
        }
    )
    assert docker.client.urls() == ["http://10.128.0.2:32768/"]


@pytest.fixture
def page() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<p>from <b>web-1-worker-0</b></p>")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_names_its_replica(page: str) -> None:
    assert fetch(page) == Page(page, "web-1-worker-0")
    assert fetch("http://127.0.0.1:1/") is None


@pytest.fixture
def stage(cloud: StubCloud, tmp_path: Path) -> demo.Stage:
    service = container_infra(choose(None))
    return demo.Stage(load(tmp_path / "state"), Progress(), service, "docker")


def requests(cloud: StubCloud) -> list[str]:
    return [request for request, _ in cloud.asked if not request.startswith("GET")]


def test_a_cluster_that_is_there_is_used(cloud: StubCloud, stage: demo.Stage) -> None:
    cloud.will("GET /v1/clusters/fleet", cluster("CREATE_IN_PROGRESS"))
    cloud.will(f"GET /v1/clusters/{UUID}", cluster("CREATE_COMPLETE"))
    demo.make_cluster(stage, "swarm")
    assert requests(cloud) == []


@pytest.mark.parametrize(
    ("there", "deleted"),
    [
        (cluster("CREATE_FAILED"), True),
        (cluster("UPDATE_COMPLETE", node_count=5), True),
        (cluster("DELETE_IN_PROGRESS"), False),
    ],
)
def test_one_that_is_of_no_use_is_made_anew(
    cloud: StubCloud, stage: demo.Stage, there: tuple[int, object], deleted: bool
) -> None:
    gone = (404, {"errors": [{"detail": "gone"}]})
    cloud.will("GET /v1/clusters/fleet", there)
    cloud.will(f"DELETE /v1/clusters/{UUID}", (204, None))
    cloud.will(f"GET /v1/clusters/{UUID}", gone, cluster("CREATE_COMPLETE"))
    cloud.will("POST /v1/clusters", (202, {"uuid": UUID}))
    demo.make_cluster(stage, "swarm")
    expected = [f"DELETE /v1/clusters/{UUID}"] if deleted else []
    assert requests(cloud) == [*expected, "POST /v1/clusters"]


def test_a_template_that_is_there_is_used(cloud: StubCloud, stage: demo.Stage) -> None:
    found = {"uuid": UUID, "name": "swarm", "coe": "swarm"}
    cloud.will("GET /v1/clustertemplates", (200, {"clustertemplates": [found]}))
    assert demo.make_template(stage) == UUID
    cloud.will("GET /v1/clustertemplates", (200, {"clustertemplates": []}))
    cloud.will("POST /v1/clustertemplates", (201, {"uuid": "new"}))
    assert demo.make_template(stage) == "new"
