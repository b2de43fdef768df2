"""`make bench`: Moorage beside a plain script and beside its own limits, as one table.

Every pair is measured in one run, turn about, so that a busy machine is busy for both;
the figures are medians. `docs/performance.md` keeps the table with the machine it came
from: `python -m bench --write` puts it there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from tests.real.install import Tenant

from bench import rates
from bench.kubernetes import kubernetes
from bench.line import Line
from bench.setup import SCALE, delete, opened, until_made

FLOOR = Path(__file__).with_name("floor.py")
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
POLL = 0.02
"""Seconds between a waiting client's questions, for each cluster at once: asking takes CPU too."""
IDLE_SECONDS = 60
console = Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("--only", choices=list(PARTS), help="one part of it")
    options = parser.parse_args()
    parts = [options.only] if options.only else list(PARTS)
    lines = [line for part in parts for line in PARTS[part](options.rounds)]
    table = Table("what", "measured", "beside", "limit", "")
    for line in lines:
        table.add_row(line.what, line.measured, line.beside, line.limit, _mark(line))
    Console().print(table)
    if options.write:
        write(lines)


def engines(rounds: int) -> list[Line]:
    """Creating and deleting real clusters, against bench/floor.py."""
    lines = []
    with opened() as install:
        tenant = install.tenant("bench")
        template = tenant.make_template(flavor_id="small", master_flavor_id="small")
        for clusters, times in ((1, rounds), (5, max(3, rounds // 2))):
            ours: list[tuple[float, float]] = []
            floor: list[tuple[float, float]] = []
            for turn in range(times):
                console.log(f"{clusters} cluster(s) of 1+2 nodes, round {turn + 1} of {times}")
                floor.append(_floor(clusters))
                ours.append(_moorage(tenant, template, clusters))
            for index, what in enumerate(("POST to CREATE_COMPLETE", "DELETE to gone")):
                mine = statistics.median(pair[index] for pair in ours)
                script = statistics.median(pair[index] for pair in floor)
                lines.append(
                    Line(
                        f"{what}, {clusters} cluster(s) of 1+2 at once",
                        f"{mine:.2f} s",
                        f"script {script:.2f} s: {mine / script:.2f} times",
                        "1.25 times",
                        mine <= 1.25 * script,
                    )
                )
    return lines


def server(_: int) -> list[Line]:
    """What the process costs with 100 clusters in the store."""
    with opened(SCALE) as install:
        tenant = install.tenant("bench")
        console.log("100 clusters in the store (fake nodes)")
        _fake_clusters(tenant, 100)
        process = psutil.Process(install.server_pid())
        time.sleep(5)  # what creating them left to do
        before = process.cpu_times()
        time.sleep(IDLE_SECONDS)
        after = process.cpu_times()
        cpu = 100 * (after.user + after.system - before.user - before.system) / IDLE_SECONDS
        rss = process.memory_info().rss / 2**20
    return [
        Line("memory (RSS), 100 clusters", f"{rss:.0f} MB", "", "150 MB", rss <= 150),
        Line("CPU when idle, 100 clusters", f"{cpu:.2f} % of a core", "", "1 %", cpu < 1),
    ]


def requests(_: int) -> list[Line]:
    """Requests a second under load, on both databases."""
    lines = []
    for line in rates.rates(lambda more: opened({**SCALE, **more})):
        console.log(f"{line.what}: {line.measured}")
        lines.append(line)
    return lines


PARTS: dict[str, Callable[[int], list[Line]]] = {
    "engines": engines,
    "server": server,
    "requests": requests,
    "kubernetes": kubernetes,
}


def write(lines: list[Line]) -> None:
    """Replace the table in the page, between its two marks."""
    rows = ["| what | measured | beside | limit | holds |", "|---|---|---|---|---|"]
    rows += [
        f"| {x.what} | {x.measured} | {x.beside} | {x.limit} | {'yes' if x.holds else '**no**'} |"
        for x in lines
    ]
    memory = psutil.virtual_memory().total / 2**30
    machine = (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}."
    )
    head, _, rest = PAGE.read_text().partition("<!-- table -->\n")
    _, _, tail = rest.partition("<!-- /table -->\n")
    text = "\n".join([machine, "", *rows])
    PAGE.write_text(f"{head}<!-- table -->\n{text}\n<!-- /table -->\n{tail}")


def _floor(clusters: int) -> tuple[float, float]:
    argv = [sys.executable, str(FLOOR), "--clusters", str(clusters)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    return figures["create"], figures["delete"]


def _moorage(tenant: Tenant, template: str, clusters: int) -> tuple[float, float]:
    pause = POLL * clusters
    with ThreadPoolExecutor(clusters) as pool:
        start = time.monotonic()
        names = [f"bench-{number}" for number in range(clusters)]
        uuids = list(pool.map(lambda name: _create(tenant, template, name, pause), names))
        created = time.monotonic()
        list(pool.map(lambda uuid: delete(tenant, uuid, pause), uuids))
        return created - start, time.monotonic() - created


def _create(tenant: Tenant, template: str, name: str, pause: float) -> str:
    uuid = tenant.create(name, template=template, workers=2)
    until_made(tenant, uuid, pause)
    return uuid


def _fake_clusters(tenant: Tenant, count: int) -> None:
    template = tenant.make_template("fake", coe="fake", labels={"provider": "fake"})
    uuids = [tenant.create(f"fake-{n}", template=template, workers=2) for n in range(count)]
    for uuid in uuids:
        tenant.until(uuid, lambda shown: shown["status"] == "CREATE_COMPLETE")


def _mark(line: Line) -> str:
    return "[green]holds[/]" if line.holds else "[red]does not hold[/]"


if __name__ == "__main__":
    main()
