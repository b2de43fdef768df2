"""What several schemas have in common."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, RootModel, WithJsonSchema

from moorage.model.errors import Invalid
from moorage.services import PatchOp


class Sent(BaseModel):
    """A body that a client sends. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _no_truth(value: object) -> object:
    """pydantic takes true for 1; a client that sends it means something else."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")  # noqa: TRY004 - pydantic's
    return value


Count = Annotated[int, BeforeValidator(_no_truth)]
"""A whole number, or one written as text."""
Labels = dict[str, Any] | str
"""Names and values; the CLI may send them written out as text. `services` checks them."""


class Operation(Sent):
    """One operation of a JSON patch (RFC 6902): add, replace or remove."""

    op: Annotated[str, WithJsonSchema({"type": "string", "enum": ["add", "replace", "remove"]})]
    path: str
    value: Any = None


def _operations(body: object) -> object:
    """openstacksdk sends a plain object with the new values: a `replace` of each.

    Its own name for what it changes, the uuid, is among them; the URL says it as well.
    """
    if isinstance(body, dict):
        named = {name: value for name, value in body.items() if name not in {"id", "uuid"}}
        return [
            {"op": "replace", "path": f"/{_escaped(name)}", "value": value}
            for name, value in named.items()
        ]
    return body


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _or_an_object(schema: dict[str, Any]) -> None:
    either = {name: schema.pop(name) for name in ("items", "type")}
    schema["anyOf"] = [either, {"type": "object"}]


class Patch(RootModel[Annotated[list[Operation], BeforeValidator(_operations)]]):
    """A JSON patch; a plain object of new values is taken as well."""

    model_config = ConfigDict(json_schema_extra=_or_an_object)

    def operations(self) -> list[PatchOp]:
        """Raises Invalid for a patch of nothing."""
        if not self.root:
            raise Invalid("The patch is empty: nothing to update.", field="patch")
        return [PatchOp(one.op, one.path, one.value) for one in self.root]


def stamp(time: datetime.datetime | None) -> str | None:
    """As RFC 3339, e.g. `2026-01-31T12:00:00+00:00`."""
    return time.isoformat(timespec="seconds") if time else None
