"""Whose rows a query may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Select


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows of one project, or of all of them where `project_id` is None.

    Public templates that are not hidden are seen in every scope.
    """

    project_id: str | None


EVERYTHING = Scope(None)
"""For an admin, and for Moorage itself."""


class Visible(NamedTuple):
    """What a scope may see of a table: a statement, and its parameters' values.

    The statement is one that its module keeps: what is built on it is kept by it, because
    building a statement costs more than running it.
    """

    statement: Select[Any]
    values: Mapping[str, Any] = MappingProxyType({})
