"""Which clusters run on which release."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from moorage.model.cluster import Cluster
from moorage.model.errors import Invalid
from moorage.releases.releases import ENGINE
from moorage.releases.version import Version

LABEL = "kube_tag"
"""Of a cluster, a node group or a template: the version that is wanted."""


def in_use(clusters: Iterable[Cluster]) -> dict[Version, list[str]]:
    """The names of the clusters by each version that one wants, runs, or may have to go back to."""
    users: dict[Version, list[str]] = defaultdict(list)
    for cluster in clusters:
        if cluster.coe == ENGINE:
            for version in set(_versions(cluster)):
                users[version].append(f"{cluster.name} ({cluster.uuid})")
    return dict(users)


def _versions(cluster: Cluster) -> Iterator[Version]:
    groups = (*cluster.groups, *(cluster.fallback or ()))
    labels = (cluster.labels, *(group.labels for group in groups))
    for text in (cluster.coe_version, *(each.get(LABEL) for each in labels)):
        try:
            yield Version.parse(text or "")
        except Invalid:  # none, or a word that no release has
            continue
