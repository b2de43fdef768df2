"""Labels of a cluster and of its template: laid over each other, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelDifferences:
    """As the API shows them: `overridden` and `skipped` hold the template's values.

    `overridden`: in both, with another value. `added`: the cluster's only. `skipped`:
    the template's only.
    """

    overridden: Mapping[str, str]
    added: Mapping[str, str]
    skipped: Mapping[str, str]


def laid_over(
    template: Mapping[str, str], own: Mapping[str, str] | None, *, merge: bool
) -> dict[str, str]:
    """A cluster's labels: its own instead of the template's, or over them with `merge`.

    None of its own, as upstream: the template's. So `{}` can't take them off.
    """
    if not own:
        return dict(template)
    return {**template, **own} if merge else dict(own)


def differences(template: Mapping[str, str], cluster: Mapping[str, str]) -> LabelDifferences:
    return LabelDifferences(
        overridden={k: v for k, v in template.items() if cluster.get(k, v) != v},
        added={k: v for k, v in cluster.items() if k not in template},
        skipped={k: v for k, v in template.items() if k not in cluster},
    )
