"""Which part of a list is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from moorage.model.errors import Invalid

MOST = 1000
"""No page is longer, whatever limit is asked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` objects after the one whose uuid is `marker`, in the order of `sort_key`.

    Raises Invalid, naming the field, for a limit below 1 or an unknown `sort_dir`.
    Which sort keys there are is the list's own business.
    """

    limit: int = MOST
    marker: str | None = None
    sort_key: str = "id"
    sort_dir: str = "asc"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise Invalid(f"limit must be at least 1, not {self.limit}.", field="limit")
        if self.sort_dir not in {"asc", "desc"}:
            raise Invalid(
                f"sort_dir must be 'asc' or 'desc', not {self.sort_dir!r}.", field="sort_dir"
            )

    @property
    def size(self) -> int:
        return min(self.limit, MOST)
