"""Baymodels on the wire: cluster templates under their old name, with the old fields.

The fields are those of Magnum 11.0.0 (magnum/api/controllers/v1/baymodel.py): a template's
without `driver`, `project_id` and `user_id`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from moorage.api.schemas.template import TemplateCreate, TemplateFields, template_body
from moorage.model.template import ClusterTemplate

_NOT_YET = ("driver", "project_id", "user_id")


class BaymodelCreate(TemplateCreate):
    """`POST /v1/baymodels`: as a cluster template's."""


class BaymodelBody(TemplateFields):
    """A baymodel as it is shown."""


class BaymodelList(TypedDict):
    baymodels: list[BaymodelBody]
    next: str | None


def baymodel_body(template: ClusterTemplate, base: str) -> BaymodelBody:
    now = template_body(template, base, "baymodels")
    body: Any = {name: value for name, value in now.items() if name not in _NOT_YET}
    shaped: BaymodelBody = body
    return shaped


def baymodel_list(
    templates: Iterable[ClusterTemplate], base: str, following: str | None
) -> BaymodelList:
    return {"baymodels": [baymodel_body(one, base) for one in templates], "next": following}
