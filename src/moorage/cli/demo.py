"""`moorage demo`: the main job, shown on real engines, step by step.

Each step is a function, finds what an earlier run left, and uses it or makes it anew;
so the demo may be cut short anywhere and run again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli import demo_loss, demo_tenant, server
from moorage.cli.clusters import addresses, gone, path_of, settle, until
from moorage.cli.credentials import Credentials, fetch
from moorage.cli.daemon import Home
from moorage.cli.demo_image import archive, contents, example
from moorage.cli.demo_swarm import SERVICE, Docker, Page, client
from moorage.cli.demo_swarm import fetch as fetch_page
from moorage.cli.failure import Code, Failure
from moorage.cli.screen import Progress, Step, say
from moorage.cli.session import Service, container_infra

if TYPE_CHECKING:
    from moorage.settings import Settings

TEMPLATE = "swarm"
CLUSTER = "fleet"
FLAVOR = "tiny"
MASTERS, WORKERS = 1, 2
FIRST, SCALED = 3, 6
PATIENCE = 180.0
"""Seconds for any one step; most take a few."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the steps share."""

    settings: Settings
    progress: Progress
    service: Service
    """The container-infra API, as the tenant."""
    client: str

    @property
    def home(self) -> Home:
        return Home(self.settings.state)

    @property
    def keys(self) -> Path:
        return self.home.state / "demo" / CLUSTER

    def cluster(self) -> dict[str, Any]:
        found: dict[str, Any] = self.service.call("GET", path_of(CLUSTER))
        return found


def run(settings: Settings) -> None:
    """The whole show. Raises Failure at the first step that does not work."""
    if settings.provider != "local":
        raise Failure("the demo runs on nodes of this machine: provider `local`", code=Code.USAGE)
    if os.geteuid() != 0:
        raise Failure(
            "the demo makes nodes on this machine", code=Code.DENIED, mend="run it as root"
        )
    began = time.monotonic()
    docker_client = client()
    progress = Progress(stderr=False)
    bring_up(settings, progress)
    stage = Stage(settings, progress, sign_in(Home(settings.state), progress), docker_client)
    template = make_template(stage)
    make_cluster(stage, template)
    docker = get_keys(stage)
    image = load_image(stage, docker)
    deploy(stage, docker)
    fetch_pages(stage, docker, FIRST)
    scale(stage, docker)
    lose_worker(stage, docker)
    recover(stage, docker, image)
    pages = fetch_pages(stage, docker, SCALED)
    tell_what_next(stage, docker.credentials, pages, time.monotonic() - began)


def bring_up(settings: Settings, progress: Progress) -> None:
    if not server.up(settings, progress):
        progress.note("         -  Moorage is up already: used as it is")


def sign_in(home: Home, progress: Progress) -> Service:
    """A tenant that is no admin; from here on nothing is done as the operator."""
    title = f"project {demo_tenant.PROJECT}, and {demo_tenant.USER}, a member of it (no admin)"
    with progress.step(title) as step:
        cloud, how = demo_tenant.ensure(home.clouds)
        step.result(how)
    return container_infra(cloud)


def make_template(stage: Stage) -> str:
    """The template's uuid."""
    with stage.progress.step(f"cluster template {TEMPLATE}") as step:
        for found in stage.service.every("/clustertemplates", "clustertemplates"):
            if found["name"] == TEMPLATE and found["coe"] == "swarm":
                step.result("found as it was")
                return str(found["uuid"])
        body = {"name": TEMPLATE, "coe": "swarm", "flavor_id": FLAVOR, "master_flavor_id": FLAVOR}
        made = stage.service.call("POST", "/clustertemplates", body)
        step.result("made")
    return str(made["uuid"])


def make_cluster(stage: Stage, template: str) -> None:
    """One manager and two workers, from POST /v1/clusters to CREATE_COMPLETE."""
    title = f"cluster {CLUSTER}: {MASTERS} manager, {WORKERS} workers"
    try:
        there = stage.cluster()
    except Failure as failure:
        if failure.code is not Code.NOT_FOUND:
            raise
    else:
        if _is_usable(there):
            stage.progress.note(f"         -  cluster {CLUSTER} is there already: used as it is")
            settle(stage.service, there["uuid"], title, PATIENCE, stage.progress)
            return
        was = f"{there['status']} with {there['node_count']} workers"
        stage.progress.note(f"         -  cluster {CLUSTER} is {was}: made anew")
        if not str(there["status"]).startswith("DELETE_"):
            stage.service.call("DELETE", f"/clusters/{there['uuid']}")
        gone(stage.service, there["uuid"], f"the old {CLUSTER}", PATIENCE, stage.progress)
    body = {
        "name": CLUSTER,
        "cluster_template_id": template,
        "master_count": MASTERS,
        "node_count": WORKERS,
    }
    uuid = stage.service.call("POST", "/clusters", body)["uuid"]
    settle(stage.service, uuid, title, PATIENCE, stage.progress)


def _is_usable(cluster: dict[str, Any]) -> bool:
    failed_or_going = str(cluster["status"]).startswith("DELETE_") or "FAILED" in cluster["status"]
    return not failed_or_going and cluster["node_count"] == WORKERS


def get_keys(stage: Stage) -> Docker:
    with stage.progress.step(f"moorage cluster config {CLUSTER}") as step:
        credentials = fetch(stage.service, CLUSTER, stage.keys, force=True)
        step.result(f"{credentials.directory}, for {credentials.api_address}")
    return Docker(stage.client, credentials, stage.home.state / "demo" / "docker")


def load_image(stage: Stage, docker: Docker) -> bytes:
    """Make the image and load it into every node's engine: there is no registry."""
    with stage.progress.step("image moorage/web:1, made here") as step:
        image = archive(contents(example()))
        nodes = list(addresses(stage.cluster()))
        got = docker.load(image, nodes)
        step.result(f"{len(image) // 1024} KiB, loaded on {len(got)} of {len(nodes)} nodes")
    return image


def deploy(stage: Stage, docker: Docker) -> None:
    compose = example() / "compose.yaml"
    with stage.progress.step("docker stack deploy -c compose.yaml web") as step:
        docker.deploy(compose, docker.image_id(next(iter(addresses(stage.cluster())))))
        _await_replicas(docker, FIRST, step)


def fetch_pages(stage: Stage, docker: Docker, count: int) -> list[Page]:
    """Fetch every replica's page from this machine, which is outside the cluster."""
    with stage.progress.step(f"{count} pages fetched from outside the cluster") as step:

        def look() -> tuple[list[Page] | None, str]:
            urls = docker.urls()
            pages = [page for page in map(fetch_page, urls) if page]
            said = f"{len(pages)} of {count} replicas answer"
            return (pages if len(pages) == len(urls) == count else None), said

        pages = until(look, step.say, PATIENCE, "the pages")
        step.result(", ".join(sorted(page.replica for page in pages)))
    return pages


def scale(stage: Stage, docker: Docker) -> None:
    with stage.progress.step(f"docker service scale {SERVICE}={SCALED}") as step:
        docker.ask("service", "scale", "--detach", f"{SERVICE}={SCALED}")
        _await_replicas(docker, SCALED, step)


def _await_replicas(docker: Docker, count: int, step: Step) -> None:
    def look() -> tuple[bool | None, str]:
        running, wanted = docker.replicas()
        return (running == wanted == count) or None, f"{running}/{wanted} replicas run"

    until(look, step.say, PATIENCE, f"{count} replicas")
    step.result(f"{count}/{count} replicas run")


def lose_worker(stage: Stage, docker: Docker) -> None:
    """Destroy a worker, and watch the conductor replace it."""
    cluster = stage.cluster()
    known = {node.id for node in docker.nodes()}
    victim = demo_loss.choose(stage.settings, cluster["uuid"])
    with stage.progress.step(f"{victim.name} is destroyed, machine and disk") as step:
        demo_loss.strike(stage.settings, victim)
        step.result("nobody told Moorage")
    with stage.progress.step("the conductor replaces it") as step:

        def look() -> tuple[bool | None, str]:
            now = stage.cluster()
            workers = [node for node in docker.nodes() if not node.manager and node.ready]
            there = len(workers) >= WORKERS and any(node.id not in known for node in workers)
            settled = str(now["status"]).endswith("_COMPLETE")
            said = f"{now['status']}  {now.get('status_reason') or ''}".rstrip()
            return (there and settled) or None, said

        until(look, step.say, PATIENCE, "a new worker")
        step.result(f"{WORKERS} workers are ready again, one of them new")


def recover(stage: Stage, docker: Docker, image: bytes) -> None:
    with stage.progress.step(f"the service is whole again: {SCALED} replicas") as step:
        got = docker.load(image, addresses(stage.cluster()))
        step.say(f"image loaded on {len(got)} new node" + ("s" if len(got) != 1 else ""))
        _await_replicas(docker, SCALED, step)


def tell_what_next(
    stage: Stage, credentials: Credentials, pages: list[Page], seconds: float
) -> None:
    beside = Path(sys.prefix).parent / ".venv-clients" / "bin" / "openstack"
    openstack = str(beside) if beside.exists() else shutil.which("openstack") or "openstack"
    moorage = shutil.which("moorage") or str(Path(sys.argv[0]).absolute())
    state = stage.home.state
    say()
    say(f"All of it took {seconds:.1f} s. What to type next:")
    say()
    say(f"  export OS_CLIENT_CONFIG_FILE={shlex.quote(str(stage.home.clouds))}")
    tenant = demo_tenant.PROJECT
    say(f"  {openstack} --os-cloud {tenant} coe cluster list    # as {demo_tenant.USER}")
    say(f"  {openstack} --os-cloud moorage coe cluster list    # as the operator")
    say(f"  {moorage} cluster show {CLUSTER} --os-cloud {tenant}")
    say()
    say(f"  {credentials.context_line()}")
    say(f"  docker --context {CLUSTER} node ls")
    say(f"  docker --context {CLUSTER} service ps {SERVICE}")
    say()
    say(f"  curl {pages[0].url}    # and {len(pages) - 1} more replicas")
    say()
    say(f"  {moorage} down --purge --state {state}    # leaves nothing behind")
