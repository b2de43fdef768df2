"""Two tenants, each of whom tries to see, change, delete and reach what is the other's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moorage.cli.demo_image import TAG, archive, contents, example
from moorage.install import install_id
from tests.real.install import Install, Tenant

pytestmark = pytest.mark.real


@dataclass
class Owned:
    tenant: Tenant
    uuid: str
    docker: dict[str, str]
    nodes: dict[str, str]
    """Address by node name."""


@pytest.fixture(scope="module")
def two(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Owned, ...]]:
    tenants = [install.tenant(name) for name in ("red", "blue")]
    uuids = [t.create("fleet", template=t.make_template(), workers=1) for t in tenants]
    owned = []
    for tenant, uuid in zip(tenants, uuids, strict=True):
        shown = tenant.until_complete(uuid)
        directory = tmp_path_factory.mktemp(tenant.credentials.project_name)
        nodes = {
            "master-0": shown["master_addresses"][0],
            "worker-0": shown["node_addresses"][0],
        }
        owned.append(Owned(tenant, uuid, tenant.docker(uuid, directory), nodes))
    yield tuple(owned)


def a_request() -> str:
    """A signing request as clients send it, with nothing wrong in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def inside(install: Install, uuid: str, node: str, script: str) -> subprocess.CompletedProcess[str]:
    """What the root of a node can do: a shell in it."""
    root = f"/run/moorage/{install_id(install.state)}"
    return subprocess.run(
        ["runc", "--root", root, "exec", "--cwd", "/", f"{uuid}.{node}", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def docker(owned: Owned, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words],
        env=owned.docker | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_api_shows_changes_and_deletes_nothing_of_another(two: tuple[Owned, ...]) -> None:
    red, blue = two
    assert [c["uuid"] for c in red.tenant.ask("GET", "/clusters").body["clusters"]] == [red.uuid]
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    for method, path, body in (
        ("GET", f"/clusters/{blue.uuid}", None),
        ("PATCH", f"/clusters/{blue.uuid}", patch),
        ("DELETE", f"/clusters/{blue.uuid}", None),
        ("GET", f"/certificates/{blue.uuid}", None),
        ("POST", "/certificates", {"cluster_uuid": blue.uuid, "csr": a_request()}),
    ):
        answer = red.tenant.ask(method, path, body)
        # As upstream: what a body names and nobody can find is a bad request.
        assert answer.status == (400 if method == "POST" else 404), (method, path, answer.body)
        assert "could not be found" in answer.body["errors"][0]["title"]
    assert blue.tenant.cluster(blue.uuid)["status"] == "CREATE_COMPLETE"


def test_the_engine_of_another_refuses_ones_certificates(two: tuple[Owned, ...]) -> None:
    red, blue = two
    assert docker(red, "node", "ls").returncode == 0
    stranger = docker(red, "node", "ls", DOCKER_HOST=blue.docker["DOCKER_HOST"])
    assert stranger.returncode != 0
    assert "certificate" in stranger.stderr or "tls" in stranger.stderr.lower()


def test_nothing_answers_without_tls(install: Install, two: tuple[Owned, ...]) -> None:
    host, _, port = two[0].docker["DOCKER_HOST"].removeprefix("tcp://").rpartition(":")
    plain = subprocess.run(
        ["curl", "-sk", "-m", "5", f"https://{host}:{port}/info"], capture_output=True, check=False
    )
    assert plain.returncode != 0
    assert b"Containers" not in plain.stdout


def test_a_node_reaches_its_own_cluster_and_no_other(
    install: Install, two: tuple[Owned, ...]
) -> None:
    red, blue = two

    def knock(address: str, port: int) -> int:
        script = f"timeout 2 bash -c '</dev/tcp/{address}/{port}'"
        return inside(install, red.uuid, "worker-0", script).returncode

    assert knock(red.nodes["master-0"], 2376) == 0
    for address in blue.nodes.values():
        assert knock(address, 2376) != 0
    published = blue.docker["DOCKER_HOST"].removeprefix("tcp://").rpartition(":")
    assert knock(published[0], int(published[2])) != 0


def test_a_node_reaches_nothing_of_the_machine(install: Install, two: tuple[Owned, ...]) -> None:
    red, _ = two
    gateway = red.nodes["worker-0"].rpartition(".")[0] + ".1"
    public = red.docker["DOCKER_HOST"].removeprefix("tcp://").rpartition(":")[0]
    for address in (gateway, public):
        for port in (install.port, install.keystone_port, 22):
            script = f"timeout 2 bash -c '</dev/tcp/{address}/{port}'"
            assert inside(install, red.uuid, "worker-0", script).returncode != 0, (address, port)


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that `docker load` takes: a static busybox, made on the spot."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    path.write_bytes(archive(contents(example())))
    return path


@pytest.mark.parametrize("options", [("-v", "/:/h"), ("--privileged", "-v", "/:/h")])
def test_a_container_with_all_its_powers_sees_nothing_of_the_machine(
    install: Install, two: tuple[Owned, ...], options: tuple[str, ...], busybox: Path
) -> None:
    red, _ = two
    assert docker(red, "load", "-i", str(busybox)).returncode == 0
    secret = Path("/etc/shadow").read_text().splitlines()[0]
    canary = install.state / "canary"
    canary.write_text("the machine's")
    script = f"""
        busybox --install -s /bin
        cat /h/etc/shadow; cat /h{canary}; ls /h/var/lib /h/root /h/home
        echo stolen > /h{canary}; echo x > /h/usr/bin/moorage-was-here
        mount -o remount,rw,bind /h/usr; echo x > /h/usr/bin/moorage-was-here
        mknod /tmp/disk b 254 0 && head -c 512 /tmp/disk | wc -c
        cat /h/proc/1/environ | head -c 100
        dmesg | head -1; echo 77 > /proc/sys/kernel/panic; echo b > /h/proc/sysrq-trigger
        ls /h/dev | grep -E 'vda|sda|nvme|kvm|mem$'
    """
    done = docker(red, "run", "--rm", *options, TAG, "busybox", "sh", "-c", script)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said  # grep's: it found no device of the machine's
    assert secret not in said
    assert "the machine's" not in said
    assert canary.read_text() == "the machine's"
    canary.unlink()
    assert not Path("/usr/bin/moorage-was-here").exists()
    assert "512" not in done.stdout
    assert not {"vda", "sda", "kvm", "mem"} & set(done.stdout.split())
    assert Path("/proc/sys/kernel/panic").read_text().strip() != "77"


def test_a_node_stays_within_its_flavor(install: Install, two: tuple[Owned, ...]) -> None:
    red, _ = two
    # 512 MiB of memory: a process that wants 600 is killed, and the node stays.
    greedy = "head -c 629145600 /dev/zero | tail | wc -c"
    assert "629145600" not in inside(install, red.uuid, "worker-0", greedy).stdout
    limit = "echo 9999999999 > /sys/fs/cgroup/memory/memory.limit_in_bytes || echo refused"
    if Path("/sys/fs/cgroup/memory").exists():
        assert "refused" in inside(install, red.uuid, "worker-0", limit).stdout
    assert red.tenant.until_complete(red.uuid)["health_status"] == "HEALTHY"


def test_a_reader_may_look_and_nothing_else(install: Install, two: tuple[Owned, ...]) -> None:
    red, _ = two
    reader = install.tenant("red", role="reader")
    assert reader.ask("GET", f"/clusters/{red.uuid}").status == 200
    patch = [{"op": "replace", "path": "/node_count", "value": 2}]
    for method, path, body in (
        ("PATCH", f"/clusters/{red.uuid}", patch),
        ("DELETE", f"/clusters/{red.uuid}", None),
        ("POST", "/certificates", {"cluster_uuid": red.uuid, "csr": a_request()}),
        ("POST", "/clustertemplates", {"name": "x", "coe": "swarm", "flavor_id": "tiny"}),
    ):
        assert reader.ask(method, path, body).status == 403, (method, path)


def test_other_users_of_the_machine_read_nothing_of_the_state(
    install: Install, two: tuple[Owned, ...]
) -> None:
    """They may walk through the state directory, as nodes' roots do, and find all doors shut."""
    assert two
    for entry in install.state.iterdir():
        mode = entry.stat().st_mode & 0o777
        closed = mode & 0o007 == 0 if entry.name != "nodes" else mode == 0o711
        assert closed, f"{entry.name}: {mode:o}"
    for root in (install.state / "nodes").glob("*/*"):
        assert (root / "config.json").stat().st_mode & 0o002 == 0
