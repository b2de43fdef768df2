"""Pages of lists: the query into a Page, and the link to the one after."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from moorage.api.context import context_of
from moorage.api.errors import shown
from moorage.model.errors import Invalid
from moorage.model.page import MOST, Page

_KNOWN = frozenset({"limit", "marker", "sort_key", "sort_dir", "all_projects"})


def listing(request: Request) -> tuple[Page, bool]:
    """The page that is asked for, and whether it is of all projects.

    Raises Invalid, with the parameter's name and value.
    """
    raw = request.scope["query_string"]
    if not raw:
        return Page(), False
    query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
    if unknown := query.keys() - _KNOWN:
        name = min(unknown)
        raise Invalid(f"There is no query parameter {shown(name)}.", field=name)
    page = Page(
        limit=_limit(query["limit"]) if "limit" in query else MOST,
        marker=query.get("marker"),
        sort_key=query.get("sort_key", "id"),
        sort_dir=query.get("sort_dir", "asc"),
    )
    return page, flag(query.get("all_projects", "false"), "all_projects")


def _limit(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", text):
        raise Invalid(f"limit must be a whole number, not {shown(text)}.", field="limit")
    return int(text)


def flag(text: str, field: str) -> bool:
    word = text.lower()
    if word in {"true", "1", "yes"}:
        return True
    if word in {"false", "0", "no"}:
        return False
    raise Invalid(f"{field} must be true or false, not {shown(text)}.", field=field)


def next_link(request: Request, page: Page, count: int, last: str, *, every: bool) -> str | None:
    """The URL of the page after one of `count` objects, the last with the uuid `last`.

    None where the page is not full: then there are no more.
    """
    if count < page.size:
        return None
    query = {
        "limit": page.size,
        "sort_key": page.sort_key,
        "sort_dir": page.sort_dir,
        "marker": last,
    }
    if every:
        query["all_projects"] = "true"
    return f"{context_of(request).base_url}{request.scope['path']}?{urlencode(query)}"
