"""With many clusters, the dispatcher's questions are answered from the first row of an index."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql, sqlite

from moorage.model.template import ClusterTemplate
from moorage.store import Store
from moorage.store.clusters import _visible
from moorage.store.paging import _page
from moorage.store.quotas import _USED_BY
from moorage.store.scope import Scope
from moorage.store.tables import clusters
from tests.unit.store.conftest import a_cluster, added

MANY = 10_000
COPIED = """
INSERT INTO clusters ({columns})
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {many})
SELECT {values} FROM clusters, numbers
"""


@pytest.fixture
async def many(
    store: Store, template: ClusterTemplate, raw: Callable[[str], None], backend: str
) -> Store:
    """Clusters that fall due one after the other from an hour on; half of them are at home here."""
    await added(store, a_cluster(template))
    columns = await store._database.read(
        lambda c: list(c.execute(text("SELECT * FROM clusters")).keys())
    )
    changed = {
        "uuid": "'copy-' || n",
        "name": "'copy-' || n",
        "due_at": f"{time.time() + 3600} + n",
        "home": "CASE WHEN n % 2 = 0 THEN 'here/one' ELSE '' END",
    }
    names = [name for name in columns if name != "id"]
    raw(
        COPIED.format(
            columns=", ".join(names),
            values=", ".join(changed.get(name, name) for name in names),
            many=MANY,
        )
    )
    raw("DELETE FROM clusters WHERE name = 'one'")
    raw("ANALYZE clusters")
    store.claims.settle({"local": "here/one"})
    return store


async def plan_of(store: Store, backend: str, statement: Any, **values: Any) -> str:
    """The database's own words on how it runs the statement."""
    kind: Any = {"postgresql": postgresql, "sqlite": sqlite}[backend]
    compiled = statement.compile(dialect=kind.dialect(paramstyle="named"))
    statement = re.sub(r"::\w+", "", str(compiled))  # the casts are the driver's, not ours
    asked = "EXPLAIN" if backend == "postgresql" else "EXPLAIN QUERY PLAN"

    def explain(connection: Connection) -> str:
        rows = connection.execute(text(f"{asked} {statement}"), compiled.params | values).all()
        return "\n".join(" ".join(map(str, row)) for row in rows)

    return await store._database.read(explain)


async def test_the_next_row_is_found_by_its_index(many: Store, backend: str) -> None:
    plan = await plan_of(many, backend, many.claims._queue.first)
    assert plan.count("ix_clusters_home_due_at") == 2, plan
    assert "Seq Scan" not in plan, plan
    assert "SCAN clusters" not in plan, plan


async def test_a_row_is_taken_by_its_index(
    many: Store, backend: str, raw: Callable[[str], None]
) -> None:
    values = {"at": "here/one", "now": time.time(), "until": time.time() + 30, "worker": "w"}
    plan = await plan_of(many, backend, many.claims._queue.take, **values)
    assert "ix_clusters_home_due_at" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "SCAN clusters" not in plan, plan
    assert "Sort" not in plan, plan
    assert "B-TREE" not in plan, plan


async def test_to_look_takes_no_longer_than_with_few(many: Store) -> None:
    due_in = await many.claims.next_due()
    assert due_in is not None
    assert 3590 < due_in < 3610
    began = time.perf_counter()
    for _ in range(200):
        await many.claims.next_due()
    each = (time.perf_counter() - began) / 200
    assert each < 0.005, f"{each * 1000:.2f} ms"


async def test_a_page_is_not_sorted(many: Store, backend: str) -> None:
    scope = Scope("ours")
    page = _page(clusters, _visible(scope).statement, "id", "asc", after_marker=False)
    plan = await plan_of(many, backend, page, project="ours", most=20)
    assert "Sort" not in plan, plan
    assert "B-TREE" not in plan, plan


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_a_quota_is_summed_without_looking_at_rows(many: Store, backend: str) -> None:
    plan = await plan_of(many, backend, _USED_BY, project="ours")
    assert "COVERING INDEX ix_clusters_project_id_nodes" in plan, plan
