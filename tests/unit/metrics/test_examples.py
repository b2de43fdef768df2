"""The examples for Prometheus and Grafana ask for what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import moorage.conductor.loop
import moorage.store.postgres  # noqa: F401 -- their meters
from moorage.api.probes import Probes
from moorage.api.readiness import Readiness
from moorage.metrics.census import Page
from moorage.model.census import Alike, Census

EXAMPLES = Path(__file__).parents[3] / "examples" / "monitoring"
DOCS = Path(__file__).parents[3] / "docs" / "monitoring.md"
RULES = EXAMPLES / "moorage-alerts.yml"


async def count() -> Census:
    return Census([Alike("CREATE_COMPLETE", "swarm", "HEALTHY", 1, 3)], 0, 0.0)


async def page() -> str:
    assert Probes(Page(count), Readiness({}))
    _, text = await Page(count).render("")
    return text.decode()


async def known() -> set[str]:
    """The names that queries may use."""
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", await page(), re.MULTILINE):
        names.add(name)
        if kind == "histogram":
            names |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return names


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def used(query: str) -> set[str]:
    return set(re.findall(r"\b(?:moorage|process)_[a-z_]+", query))


async def test_alerts_ask_for_what_there_is_and_say_what_to_do() -> None:
    names = await known()
    for rule in rules():
        assert used(rule["expr"]) <= names, rule["alert"]
        assert {"summary", "action"} <= rule["annotations"].keys()
        assert rule["labels"]["severity"] in {"page", "look"}


async def test_the_dashboard_asks_for_what_there_is() -> None:
    names = await known()
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 15
    for query in queries:
        assert used(query) <= names, query
        assert used(query)


def test_prometheus_takes_the_examples() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is in Debian's package prometheus")
    for words in (("rules", RULES), ("config", EXAMPLES / "prometheus.yml")):
        subprocess.run([promtool, "check", *words], check=True, capture_output=True)


def test_every_alert_is_taught() -> None:
    taught = DOCS.read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in taught] == []


async def test_every_metric_is_taught() -> None:
    taught = DOCS.read_text()
    ours = set(re.findall(r"^# TYPE (moorage_\S+)", await page(), re.MULTILINE))
    assert {n for n in ours if not n.endswith("_created") and n not in taught} == set()
