"""Requests a second of one Moorage process, on SQLite and on PostgreSQL, under wrk.

The peer can't be had here: the figures of Magnum 23 (two uwsgi workers, MariaDB) were
measured on a machine of this size, and stand below. wrk, PostgreSQL and the server share
its two cores. The token is warm; PostgreSQL syncs its commits, as SQLite does.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.postgres import private_server
from tests.real.install import Install, Tenant

from bench.line import Line

SECONDS = 4
ROUNDS = 3
CONNECTIONS = (1, 4)
TEMPLATES = 200
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""


@dataclass(frozen=True)
class Case:
    """A request; `magnum`: how many a second Magnum answered; `times`: what is asked of us."""

    what: str
    path: str
    magnum: float
    times: int
    body: str = ""


@dataclass(frozen=True)
class Rate:
    """`p50` and `p99` are in milliseconds."""

    a_second: float
    p50: float
    p99: float


def rates(opened: Callable[[dict[str, str]], AbstractContextManager[Install]]) -> Iterator[Line]:
    """`opened` makes an install with further variables."""
    with opened({}) as install:
        yield from _lines(install, "SQLite")
    with (
        private_server(durable=True) as server,
        server.database() as name,
        opened({"MOORAGE_DATABASE_URL": server.url(name)}) as install,
    ):
        yield from _lines(install, "PostgreSQL")


def _lines(install: Install, database: str) -> Iterator[Line]:
    tenant, nobody = install.tenant("rates"), install.tenant("empty")
    uuid = tenant.make_template("template-0")
    for number in range(1, TEMPLATES):
        tenant.make_template(f"template-{number}", labels={"tier": "gold", "zone": "north"})
    body = json.dumps({"name": "new", "coe": "swarm", "flavor_id": "tiny"})
    for case, asker in (
        (Case("one template", f"/clustertemplates/{uuid}", 174, 5), tenant),
        (Case("a list of 200 templates", "/clustertemplates", 15.5, 20), tenant),
        (Case("a page of 20", "/clustertemplates?limit=20", 35, 20), tenant),
        (Case("an empty cluster list", "/clusters", 223, 20), nobody),
        (Case("create template", "/clustertemplates", 15, 5, body), nobody),
    ):
        for connections in CONNECTIONS:
            yield _line(case, database, connections, _measured(case, asker, connections))


def _line(case: Case, database: str, connections: int, rate: Rate) -> Line:
    wanted = case.times * case.magnum
    tail = rate.p99 / rate.p50
    return Line(
        f"{case.what}, {database}, {connections} connection(s)",
        f"{rate.a_second:.0f}/s, p50 {rate.p50:.2f} ms",
        f"Magnum {case.magnum:g}/s: {rate.a_second / case.magnum:.0f} times",
        f"{case.times} times; p99 {tail:.1f} of 3 p50",
        rate.a_second >= wanted and tail < 3,
    )


def _measured(case: Case, asker: Tenant, connections: int) -> Rate:
    """The round in the middle."""
    if not asker.token:
        asker.token = asker.install.token(asker.credentials)
    with contextlib.ExitStack() as stack:
        script: list[str] = []
        if case.body:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".lua"))
            file.write(POST.format(body=case.body))
            file.flush()
            script = ["-s", file.name]
        argv = [
            *("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", *script),
            *("-H", f"X-Auth-Token: {asker.token}"),
            *("-H", "OpenStack-API-Version: container-infra latest"),
            asker.install.url + case.path,
        ]
        _run(argv)  # what is cold gets warm
        found = sorted((_run(argv) for _ in range(ROUNDS)), key=lambda rate: rate.a_second)
    return found[len(found) // 2]


def _run(argv: list[str]) -> Rate:
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)
    found = re.search(r"Requests/sec: +([0-9.]+)", said)
    if found is None:
        raise RuntimeError(said)
    return Rate(float(found[1]), _percentile(said, 50), _percentile(said, 99))


def _percentile(said: str, which: int) -> float:
    found = re.search(rf" {which}% +([0-9.]+)(us|ms|s)", said)
    if found is None:
        raise RuntimeError(said)
    return float(found[1]) * UNITS[found[2]]
