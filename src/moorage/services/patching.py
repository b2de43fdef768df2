"""JSON patches (RFC 6902) as the container-infra API uses them: add, replace and remove.

`replace` sets also what was not set: Magnum's clients use both words alike. What a
patch touches is named by its first path segment, the attribute.
"""

from __future__ import annotations

import re

from moorage.model.errors import Invalid
from moorage.services import rules
from moorage.services.requests import PatchOp

OPERATIONS = frozenset({"add", "replace", "remove"})
MOST_OPERATIONS = 200
PROTECTED = frozenset({"id", "uuid", "project_id", "user_id", "created_at", "updated_at", "links"})


def target(operation: PatchOp) -> tuple[str, str | None]:
    """The attribute, and the key within it: `/labels/a~1b` is ("labels", "a/b").

    Raises Invalid for an unknown operation, a bad path or a protected attribute; also for
    add and replace without a value, as upstream: else a client that forgot the value, or
    sent null for "unchanged", would set the default, and lose nodes by it.
    """
    if operation.op not in OPERATIONS:
        raise Invalid(
            f"The operation {rules.shown(operation.op)} is not add, replace or remove.", field="op"
        )
    parts = operation.path.split("/")
    if parts[0] or not 2 <= len(parts) <= 3 or not parts[1]:
        raise Invalid(
            f"The path {rules.shown(operation.path)} is not /attribute or /attribute/key.",
            field="path",
        )
    attribute, *keys = map(_unescaped, parts[1:])
    if attribute in PROTECTED:
        raise Invalid(f"The attribute {attribute} can't be changed.", field=attribute)
    if operation.op != "remove" and operation.value is None:
        raise Invalid(
            f"To {operation.op} {rules.shown(attribute)} needs a value that is not null; "
            "remove takes it away.",
            field=attribute,
        )
    return attribute, keys[0] if keys else None


def _unescaped(segment: str) -> str:
    if re.search(r"~(?![01])", segment):
        raise Invalid(f"The path segment {rules.shown(segment)} has a stray '~'.", field="path")
    return segment.replace("~1", "/").replace("~0", "~")


def refuse_too_many(count: int) -> None:
    if count > MOST_OPERATIONS:
        raise Invalid(f"A patch may have {MOST_OPERATIONS} operations, not {count}.", field="patch")
