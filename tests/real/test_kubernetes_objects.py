"""Moorage's own objects in a tenant's cluster, whose admins may delete them."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from moorage.install import install_id
from moorage.providers.local.runtime import Runc
from tests.real.clients import Shell
from tests.real.install import Install
from tests.real.kubernetes import HOSTED, Kubectl, add_release, kubectl_of, load, pod

pytestmark = [pytest.mark.real, pytest.mark.kubernetes]
log = logging.getLogger(__name__)
LABEL = "app.kubernetes.io/managed-by=moorage"
OURS = {
    "clusterrolebinding": {"members", "readers", "kubelet-clients", "resolvers"},
    "clusterrole": {"resolvers"},
}
EACH = [
    *((kind, f"moorage:{name}", ()) for kind, names in OURS.items() for name in sorted(names)),
    *((kind, "kube-dns", ("-n", "kube-system")) for kind in ("service", "endpoints")),
]
BACK_SECONDS = 20.0
"""A look is every 2 s here; what was done before it, and the machine, take the rest."""


@pytest.fixture(scope="module")
def kubectl(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    add_release(install)
    tenant = install.tenant("red")
    uuid = tenant.create("web", template=tenant.make_template("hosted", **HOSTED), workers=1)
    tenant.until_complete(uuid, 120)
    asyncio.run(load(Runc(install_id(install.state)), uuid, "worker-0"))
    shell = Shell(tenant, tmp_path_factory.mktemp("user"))
    return kubectl_of(shell, "web", tmp_path_factory.mktemp("config"))


def found(kubectl: Kubectl, *words: str) -> dict[str, Any]:
    """The object; empty where there is none, or the tenant has no right to know for now."""
    told = kubectl.run("get", *words, "-o", "json", code=None)
    value: dict[str, Any] = json.loads(told) if told.startswith("{") else {}
    return value


def said(value: dict[str, Any]) -> dict[str, Any]:
    """What Moorage says in it: not who it is, nor when it was made."""
    meta = {key: value["metadata"].get(key) for key in ("name", "labels", "annotations")}
    rest = {key: part for key, part in value.items() if key not in {"metadata", "status"}}
    return {**rest, "metadata": meta}


def test_what_an_admin_deletes_is_made_again(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.run("wait", "--for=condition=Ready", "node", "--all")
    kubectl.until(lambda: bool(found(kubectl, "serviceaccount", "default")))
    kubectl.apply(pod("talks", "/bin/sh", "-c", "echo hello; exec sleep 1000"))
    kubectl.run("wait", "--for=condition=Ready", "pod/talks", "--timeout=60s")
    listed = kubectl.run("get", "-A", "-l", LABEL, "-o", "name", ",".join({k for k, *_ in EACH}))
    assert len(listed.split()) == len(EACH), "each of them has the label, and nothing else"
    for kind, name, where in EACH:
        before = found(kubectl, kind, name, *where)
        kubectl.run("delete", kind, name, *where, "--wait=false")

        def is_back(
            words: tuple[str, ...] = (kind, name, *where), former: dict[str, Any] = before
        ) -> bool:
            now = found(kubectl, *words)
            is_another = bool(now) and now["metadata"]["uid"] != former["metadata"]["uid"]
            return is_another and said(now) == said(former)

        took = kubectl.until(is_back, BACK_SECONDS)
        log.info("%s %s came back after %.1f s", kind, name, took)
    # A kubelet believes a refusal for 30 s.
    kubectl.until(lambda: kubectl.run("logs", "talks", code=None) == "hello\n")
