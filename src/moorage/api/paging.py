"""Queries of lists: the page that is asked for, what it is filtered by, and the next link."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode

from moorage.api.context import Context
from moorage.api.errors import shown
from moorage.model.errors import Invalid
from moorage.model.page import MOST, Page

PAGE = ("limit", "marker", "sort_key", "sort_dir")
TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


class Numbered(Protocol):
    @property
    def id(self) -> int: ...


T = TypeVar("T", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is asked for: the page, and its other parameters as they were given."""

    page: Page = field(default_factory=Page)
    filters: Mapping[str, str] = field(default_factory=dict)

    def flag(self, *names: str) -> bool:
        """Whether one of `names` is true. Raises Invalid where it is neither true nor false."""
        return any(flag(self.filters[name], name) for name in names if name in self.filters)

    def following(self, asked: Context, marks: Sequence[str | int]) -> str | None:
        """The URL of the page after this one, whose objects have these `marks`.

        None where the page is not full: then there are no more. It keeps all parameters.
        """
        if len(marks) < self.page.size:
            return None
        query = {
            "limit": self.page.size,
            "sort_key": self.page.sort_key,
            "sort_dir": self.page.sort_dir,
            **self.filters,
            "marker": marks[-1],
        }
        return f"{asked.base_url}{asked.path}?{urlencode(query)}"

    def cut(self, found: Sequence[T], keys: Sequence[str]) -> list[T]:
        """The page of a list that is here whole; `id` is what it is marked by.

        Raises Invalid for a key that is not among `keys`, and for an unknown marker.
        """
        page = self.page
        if page.sort_key not in keys:
            raise Invalid(
                f"Can't sort by {shown(page.sort_key)}: sort_key is one of {', '.join(keys)}.",
                field="sort_key",
            )
        order = operator.attrgetter(page.sort_key)
        rows = sorted(found, key=order, reverse=page.sort_dir == "desc")
        marks = [str(row.id) for row in rows]
        if page.marker is not None and page.marker not in marks:
            raise Invalid(f"The marker {shown(page.marker)} was not found.", field="marker")
        first = 0 if page.marker is None else marks.index(page.marker) + 1
        return rows[first : first + page.size]


_EVERYTHING = Listing()


def listing(asked: Context, *filters: str, numbered: bool = False) -> Listing:
    """The page that is asked for; `filters` are what else may be asked.

    `numbered`: markers are row numbers. Raises Invalid, with the parameter's name and value.
    """
    if not asked.scope["query_string"]:
        return _EVERYTHING
    query = parameters(asked, *PAGE, *filters)
    marker = query.get("marker")
    if numbered and marker is not None:
        _whole(marker, "marker")
    page = Page(
        limit=_whole(query["limit"], "limit") if "limit" in query else MOST,
        marker=marker,
        sort_key=query.get("sort_key", "id"),
        sort_dir=query.get("sort_dir", "asc"),
    )
    return Listing(page, {name: value for name, value in query.items() if name not in PAGE})


def parameters(asked: Context, *known: str) -> dict[str, str]:
    """The query. Raises Invalid, naming it, for a parameter that is not among the `known`."""
    raw = asked.scope["query_string"].decode("latin-1")
    query = dict(parse_qsl(raw, keep_blank_values=True))
    if unknown := query.keys() - set(known):
        name = min(unknown)
        raise Invalid(f"There is no query parameter {shown(name)}.", field=name)
    return query


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", text):
        raise Invalid(f"{name} must be a whole number, not {shown(text)}.", field=name)
    return int(text)


def flag(text: str, name: str) -> bool:
    word = text.lower()
    if word in TRUE | FALSE:
        return word in TRUE
    raise Invalid(f"{name} must be true or false, not {shown(text)}.", field=name)


_DESCRIBED: Mapping[str, tuple[dict[str, Any], str]] = {
    "limit": (
        {"type": "integer", "minimum": 1},
        f"So many at most; {MOST} without it, and never more.",
    ),
    "marker": ({"type": "string"}, "The last object of the page before: its uuid."),
    "sort_key": ({"type": "string", "default": "id"}, "The field to sort by."),
    "sort_dir": ({"type": "string", "enum": ["asc", "desc"], "default": "asc"}, "Which way."),
    "all_projects": ({"type": "boolean"}, "Not the caller's project alone; for admins."),
    "all_tenants": ({"type": "boolean"}, "The old name of all_projects."),
    "role": ({"type": "string"}, "Only node groups of that role."),
    "force": ({"type": "boolean"}, "Let it end though something can't be removed; for admins."),
    "forget": ({"type": "boolean"}, "Drop the note only, and touch nothing."),
    "rollback": ({"type": "boolean"}, "Undo the change if it fails; from version 1.3 on."),
    "project_id": ({"type": "string"}, "Whose; without it the caller's own, an admin's: all."),
    "type": ({"type": "string", "enum": ["cluster", "all"]}, "Which figures; cluster without it."),
    "kind": ({"type": "string"}, "Only offers of that kind."),
    "provider": ({"type": "string"}, "The provider; without it the default one, or all."),
}


def described(*names: str, numbered: bool = False) -> dict[str, Any]:
    """For `openapi_extra`: the query parameters of a route that reads them itself.

    `numbered` as in `listing`.
    """
    told = dict(_DESCRIBED)
    if numbered:
        told["marker"] = ({"type": "integer"}, "The last object of the page before: its id.")
    return {
        "parameters": [
            {"name": name, "in": "query", "schema": told[name][0], "description": told[name][1]}
            for name in names
        ]
    }
