"""Sign-in to a cluster by a token of Keystone's: `cluster config --use-keystone`, as it comes."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid as uuids
from collections.abc import Callable

import pytest

from moorage.drivers.kubernetes.control_plane import WEBHOOK
from moorage.install import install_id
from moorage.model.sign_in import BELIEVED_SECONDS
from moorage.providers.local.runtime import Runc
from moorage.sign_in import public_address
from tests.real.clients import Shell
from tests.real.install import Install, Tenant
from tests.real.kubernetes import (
    ON_NODES,
    Asking,
    Kubectl,
    add_release,
    built,
    load,
    pod,
    review,
)

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
UNAUTHORIZED = "You must be logged in"
TRUSTED, CARRIED = "every node trusts the new CA", "every node has a certificate of the new CA"
"""What a cluster's events say when the first phase, and the second, of three is over."""
LONGEST_GAP = 30.0
"""Seconds in which the API of a single master may be away for another CA."""

Bearing = Callable[[Tenant], Kubectl]


@pytest.fixture(scope="module")
def tenant(install: Install) -> Tenant:
    add_release(install)
    return install.tenant("red")


@pytest.fixture(scope="module")
def shell(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tenant, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def uuid(tenant: Tenant) -> str:
    template = tenant.make_template("k8s", **ON_NODES)
    uuid = tenant.create("web", template=template, workers=1)
    tenant.until_complete(uuid, 120)
    return uuid


@pytest.fixture(scope="module")
def admin(shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """By certificate."""
    assert uuid
    return config(shell, tmp_path_factory)


@pytest.fixture(scope="module")
def bearing(
    install: Install, shell: Shell, uuid: str, tmp_path_factory: pytest.TempPathFactory
) -> Bearing:
    """kubectl with the one kubeconfig for all, and a new token of the tenant's."""
    assert uuid
    kubectl = config(shell, tmp_path_factory, "--use-keystone")
    return lambda who: dataclasses.replace(kubectl, token=install.token(who.credentials))


def config(shell: Shell, directories: pytest.TempPathFactory, *words: str) -> Kubectl:
    directory = directories.mktemp("config")
    shell.coe("cluster", "config", "web", "--dir", str(directory), *words)
    return Kubectl(built() / "kubectl", directory / "config")


def within(install: Install, uuid: str, node: str, *words: str) -> tuple[int, str]:
    """A command in a node: how it ended, and what it said."""
    runc = Runc(install_id(install.state))
    done = asyncio.run(runc.run(f"{uuid}.{node}", list(words), stdin=b"", timeout=30.0))
    return done.returncode, done.stdout.decode()


def ask(install: Install, cluster: str, credential: str, body: bytes = b"") -> int:
    """The status of one question at the listener, from this machine."""
    url = f"https://{public_address()}:{install.sign_in_port}/clusters/{cluster}/token-reviews"
    request = urllib.request.Request(url, body or b"{}", method="POST")
    request.add_header("Authorization", f"Bearer {credential}")
    request.add_header("Content-Type", "application/json")
    anyone = ssl._create_unverified_context()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anyone)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def credential_in(install: Install, uuid: str) -> str:
    """As a tenant's root reads it in its own master."""
    _, text = within(install, uuid, "master-0", "cat", WEBHOOK)
    credential: str = json.loads(text)["users"][0]["user"]["token"]
    return credential


def test_of_service_accounts_nobody_is_asked(install: Install, admin: Kubectl) -> None:
    """The controllers have one each, and by now have used it."""
    admin.run("create", "namespace", "busy")
    admin.until(lambda: bool(admin.get("serviceaccounts", "-n", "busy")["items"]))
    assert "token review" not in install.log()


def test_a_member_does_what_a_certificate_lets_it_do(
    tenant: Tenant, bearing: Bearing, admin: Kubectl
) -> None:
    kubectl = bearing(tenant)
    kubectl.run("create", "configmap", "mine", "--from-literal=a=b")
    assert "yes" in kubectl.run("auth", "can-i", "*", "*", "--all-namespaces")
    user = review(admin, kubectl.token)["user"]
    assert "moorage:members" in user["groups"]
    assert not [name for name in (user["username"], *user["groups"]) if name.startswith("system:m")]


def test_a_reader_only_looks(install: Install, bearing: Bearing, tenant: Tenant) -> None:
    bearing(tenant).run("create", "secret", "generic", "hidden", "--from-literal=a=b")
    reader = bearing(install.tenant("red", role="reader"))
    assert "kube-root-ca.crt" in reader.run("get", "configmaps", "-A")
    assert "forbidden" in reader.run("create", "configmap", "theirs", code=1)
    assert "forbidden" in reader.run("get", "secrets", code=1)


def test_others_are_refused(install: Install, bearing: Bearing, admin: Kubectl) -> None:
    other = bearing(install.tenant("blue"))
    assert UNAUTHORIZED in other.run("get", "namespaces", code=1)
    for token in (other.token, install.token(install.admin().credentials), "gAAAAAforged", "a.b.c"):
        assert not review(admin, token).get("authenticated", False)


def test_a_revoked_token_is_refused_in_time(
    install: Install, bearing: Bearing, tenant: Tenant
) -> None:
    kubectl = bearing(tenant)
    kubectl.run("get", "namespaces")
    assert install.ask_keystone("DELETE", "/auth/tokens", kubectl.token).status == 204
    began = time.monotonic()
    while UNAUTHORIZED not in kubectl.run("get", "namespaces", code=None):
        assert time.monotonic() - began < BELIEVED_SECONDS + 5
        time.sleep(0.5)


def test_only_masters_come_to_the_listener_and_to_nothing_else(install: Install, uuid: str) -> None:
    def status(node: str, port: int) -> str:
        url = f"https://{public_address()}:{port}/"
        words = ("curl", "-sk", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url)
        return within(install, uuid, node, *words)[1]

    assert status("master-0", install.sign_in_port) == "404"
    assert status("worker-0", install.sign_in_port) == "000"
    assert status("master-0", install.port) == status("master-0", install.keystone_port) == "000"


def test_strangers_learn_nothing(install: Install, tenant: Tenant, uuid: str) -> None:
    token = install.token(tenant.credentials)
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    body = json.dumps(asked).encode()
    mine = credential_in(install, uuid)
    assert ask(install, uuid, mine, body) == 200
    assert ask(install, uuid, mine, b"x" * 100_000) == 413
    for cluster, credential in (
        (uuid, ""),
        (uuid, token),
        (uuid, "0" * 64),
        (str(uuids.uuid4()), mine),
    ):
        assert ask(install, cluster, credential, body) == 401


def test_without_moorage_certificates_are_good_and_tokens_fail_at_once(
    install: Install, bearing: Bearing, admin: Kubectl, tenant: Tenant
) -> None:
    late = bearing(tenant)
    install.kill()
    try:
        assert "default" in admin.run("get", "namespaces")
        began = time.monotonic()
        late.run("get", "namespaces", code=1)
        assert time.monotonic() - began < 5
    finally:
        install.up()
    assert "default" in bearing(tenant).run("get", "namespaces")


def test_no_token_is_written_down(
    install: Install, bearing: Bearing, tenant: Tenant, uuid: str
) -> None:
    good, wrong = bearing(tenant), bearing(install.tenant("blue"))
    good.run("get", "namespaces")
    wrong.run("get", "namespaces", code=1)
    credential = credential_in(install, uuid)
    root = install.settings.nodes_directory / uuid / "master-0" / "root"
    logs = [path for path in (root / "var/log/kubernetes").rglob("*") if path.is_file()]
    assert logs
    texts = [install.log(), *(path.read_text(errors="replace") for path in logs)]
    for hidden in (good.token, wrong.token, credential):
        assert not [text for text in texts if hidden in text]
    assert '"event":"token review"' in install.log()


def reached(tenant: Tenant, uuid: str, phase: str) -> float | None:
    """When the exchange of the CA was so far, as the cluster's events tell; None: not yet."""
    events = tenant.ask("GET", f"/clusters/{uuid}/events?limit=1000").body["events"]
    times = [each["at"] for each in events if phase in each["what"]]
    return datetime.datetime.fromisoformat(times[0]).timestamp() if times else None


def test_another_ca_turns_out_certificates_when_it_is_over_and_no_tokens(
    install: Install,
    shell: Shell,
    admin: Kubectl,
    tenant: Tenant,
    uuid: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Until then they are good, but for seconds in which the one master's API is away."""
    asyncio.run(load(Runc(install_id(install.state)), uuid, "worker-0"))
    admin.apply(pod("kept"))
    admin.run("wait", "--for=condition=Ready", "pod/kept", "--timeout=60s")
    before = life(admin, "kept")
    asking = Asking([admin], "/api/v1/namespaces/default/pods/kept")
    with asking.without_end():
        answer = tenant.ask("PATCH", f"/certificates/{uuid}")
        assert answer.status == 202, answer
        tenant.until(uuid, lambda _: reached(tenant, uuid, TRUSTED) is not None)
        newer = config(shell, tmp_path_factory)
        asking.clients.append(newer)
        tenant.until_complete(uuid, 180)
        newer.until(lambda: admin in asking.refused, 20)
    sys.stdout.write(f"longest without an answer, in seconds: {asking.longest()}\n")
    assert asking.gap < LONGEST_GAP
    carried = reached(tenant, uuid, CARRIED)
    assert carried is not None
    assert asking.refused.keys() == {admin}
    assert asking.refused[admin] > carried, "it was turned away before that was over"
    assert life(newer, "kept") == before

    assert "certificate signed by unknown authority" in admin.run("get", "pods", code=1)
    assert UNAUTHORIZED in admin.run("get", "pods", "--insecure-skip-tls-verify", code=1)
    kubectl = config(shell, tmp_path_factory, "--use-keystone")
    token = install.token(tenant.credentials)
    assert "default" in dataclasses.replace(kubectl, token=token).run("get", "namespaces")


def life(kubectl: Kubectl, name: str) -> tuple[str, int, str]:
    """Of a pod: who it is, how often it began anew, and when its first process did."""
    shown = kubectl.get("pod", name)
    (container,) = shown["status"]["containerStatuses"]
    started = kubectl.run("exec", name, "--", "busybox", "cut", "-d ", "-f22", "/proc/1/stat")
    return shown["metadata"]["uid"], container["restartCount"], started
