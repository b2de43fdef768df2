"""`make bench-scale`: what 10, 100 … 10,000 clusters of ten nodes cost one Moorage process.

The nodes are fakes: what is measured is the store, the conductor and the API. At each size:

    idle        CPU of the process with nothing to do but its looks, of one core
    memory      resident, the fakes' own nodes among it
    change      PATCH node_count until UPDATE_COMPLETE is written, one cluster at a time
    page        GET /clusters?limit=10, over one connection

and at the end a burst: 1,000 creates at once, until the last one is complete. Written as
JSON, so that `bench/plot.py` draws what was measured and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import sqlite3
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from tests.real.install import Install, Tenant

from bench.line import Line
from bench.setup import SCALE, Asker, opened
from moorage.planning import truth

SIZES = (10, 100, 1_000, 3_000, 10_000)
WORKERS = 9
BURST = 1_000
CHANGES = 100
PAGES = 300
IDLE_SECONDS, LONG_IDLE_SECONDS = 45.0, 300.0
HEAL_SECONDS = 40.0
SETTLE_SECONDS = 5.0
CLIENTS = 4
POLL_SECONDS = 0.02
FIGURES = Path(__file__).parent.parent / "docs" / "scale.json"
console = Console(stderr=True)


@dataclass(frozen=True)
class Figures:
    """Of one size. Times in seconds, memory in MiB, `idle` in hundredths of a core."""

    clusters: int
    nodes: int
    idle: float
    memory: float
    change_median: float
    change_p99: float
    page: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--burst", type=int, default=BURST)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {FIGURES.name}")
    options = parser.parse_args()
    with opened(SCALE) as install:
        found, drained = measured(install, sorted(options.sizes), options.burst)
    table = Table("what", "measured", "beside", "limit", "holds")
    for line in lines(found, options.burst, drained):
        table.add_row(
            line.what, line.measured, line.beside, line.limit, "yes" if line.holds else "NO"
        )
    Console().print(table)
    if options.write:
        FIGURES.write_text(json.dumps(record(found, options.burst, drained), indent=1) + "\n")


def measured(install: Install, sizes: list[int], burst: int) -> tuple[list[Figures], float]:
    tenant = install.tenant("scale")
    process = psutil.Process(install.server_pid())
    template = tenant.make_template("fake", coe="fake", labels={"provider": "fake"})
    found: list[Figures] = []
    there = 0
    for size in sizes:
        seconds = grow(tenant, template, there, size)
        console.log(f"{size} clusters: {size - there} made in {seconds:.1f} s")
        there = size
        found.append(figures(tenant, process, size))
        console.log(str(found[-1]))
    return found, grow(tenant, template, there, there + burst)


def grow(tenant: Tenant, template: str, there: int, size: int) -> float:
    """Create up to `size` clusters; seconds until the last one is complete."""
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        names = (f"c{number}" for number in range(there, size))
        list(pool.map(lambda name: tenant.create(name, template=template, workers=WORKERS), names))
    while unfinished(tenant.install):
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def unfinished(install: Install) -> int:
    """Looked up in the file, so that waiting is no load on the server."""
    with contextlib.closing(sqlite3.connect(install.state / "moorage.db")) as database:
        asked = "SELECT count(*) FROM clusters WHERE status NOT LIKE '%COMPLETE'"
        count: int = database.execute(asked).fetchone()[0]
        return count


def change(asker: Asker, name: str) -> float:
    """Seconds from the PATCH until the cluster is seen as it is wanted."""
    count = asker.get(f"/clusters/{name}")["node_count"]
    patch = [{"op": "replace", "path": "/node_count", "value": 19 - count}]
    began = time.monotonic()
    answer = asker.tenant.ask("PATCH", f"/clusters/{name}", patch)
    if answer.status != 202:
        raise RuntimeError(str(answer))
    while asker.get(f"/clusters/{name}")["status"] != "UPDATE_COMPLETE":
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def figures(tenant: Tenant, process: psutil.Process, size: int) -> Figures:
    asker = Asker(tenant)
    pace = truth.paced(HEAL_SECONDS, size).longest
    time.sleep(pace if pace > HEAL_SECONDS else SETTLE_SECONDS)  # until all had their next look
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(min(max(pace, IDLE_SECONDS), LONG_IDLE_SECONDS))
    after, spent = process.cpu_times(), time.monotonic() - began
    idle = 100 * (after.user + after.system - before.user - before.system) / spent
    changes = [
        change(asker, f"c{n * size // min(size, CHANGES)}") for n in range(min(size, CHANGES))
    ]
    pages = []
    for _ in range(PAGES):
        began = time.perf_counter()
        asker.get("/clusters?limit=10")
        pages.append(time.perf_counter() - began)
    return Figures(
        clusters=size,
        nodes=size * (WORKERS + 1),
        idle=round(idle, 2),
        memory=round(process.memory_info().rss / 2**20, 1),
        change_median=round(statistics.median(changes), 4),
        change_p99=round(sorted(changes)[int(len(changes) * 0.99)], 4),
        page=round(statistics.median(pages), 6),
    )


def lines(found: list[Figures], burst: int, drained: float) -> list[Line]:
    """The largest size against what is asked for, the smallest one beside it."""
    first, last = found[0], found[-1]
    ratio = last.page / first.page
    quick = last.change_median <= 1 and last.change_p99 <= 5
    change = f"{last.change_median:.2f} s, p99 {last.change_p99:.2f} s"
    page = f"{first.page * 1000:.2f} ms: {ratio:.2f} times"
    rows = [
        ("idle", f"{last.idle:.1f} % of a core", f"{first.idle:.1f} %", "10 %", last.idle < 10),
        ("memory", f"{last.memory:.0f} MiB", f"{first.memory:.0f}", "400 MiB", last.memory < 400),
        ("a change", change, f"{first.change_median:.2f} s", "1 s, p99 5 s", quick),
        ("a page of 10", f"{last.page * 1000:.2f} ms", page, "1.5 times", ratio <= 1.5),
    ]
    made = f"{burst} created at once, to the last one complete"
    return [
        *(
            Line(
                f"{what}, {last.clusters} clusters", seen, f"{first.clusters}: {was}", limit, holds
            )
            for what, seen, was, limit, holds in rows
        ),
        Line(made, f"{drained:.1f} s", f"{burst / drained:.0f} a second", "", True),
    ]


def record(found: list[Figures], burst: int, drained: float) -> dict[str, Any]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "measured": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "burst": {"clusters": burst, "seconds": round(drained, 2)},
        "sizes": [asdict(one) for one in found],
    }


if __name__ == "__main__":
    main()
