"""What values may be: pure checks, each raising Invalid with the field's name.

Where a client may send one value in several spellings, its reading stands here too:
python-magnumclient's `update` sends booleans as "True" and labels as the text of a
Python dict (magnumclient/common/utils.py, args_array_to_patch).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from moorage.model.errors import Invalid
from moorage.model.nodegroup import Taint
from moorage.planning import healing
from moorage.services.access import looks_like_uuid
from moorage.store import storable

CLUSTER_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,241}")
ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LABEL_KEY = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}")
LABEL_VALUE = re.compile(rf"(?:{_PART})?")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
NAME_LENGTH = 255
MASTER_COUNTS = (1, 3, 5, 7)
"""Odd, for a quorum; 7 is the most that Swarm's and etcd's documents advise."""
MOST_NODES = 1000
DEFAULT_TIMEOUT, LONGEST_TIMEOUT = 60, 24 * 60
"""Minutes."""
MOST_LABELS, LABEL_LENGTH, LABEL_VALUE_LENGTH = 128, 255, 4096
TEXT_LENGTH = 4096
MOST_BYTES = 16 * 1024
"""Of all labels of one object together, and of all its other texts, in UTF-8: lists read
every row whole. Of a value written out as text as well: to parse one takes its time."""
TRUE, FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}


def cluster_name(name: str) -> str:
    if not CLUSTER_NAME.fullmatch(name):
        raise Invalid(
            f"The cluster name {shown(name)} must have 1 to 242 characters, start with a letter, "
            "and go on with letters, digits, '_', '.' and '-'.",
            field="name",
        )
    return _no_uuid(name)


def template_name(value: object) -> str | None:
    return None if value is None else _printable_name(value, "template")


def group_name(name: str) -> str:
    """Of any characters that can be printed, as upstream; nodes get a name of their own from it."""
    return _printable_name(name, "node group")


def _printable_name(value: object, what: str) -> str:
    name = text(value, "name", longest=NAME_LENGTH)
    if not name.strip() or not name.isprintable():
        raise Invalid(
            f"The {what} name {shown(name)} must be printable, and not blank.", field="name"
        )
    return _no_uuid(name)


def _no_uuid(name: str) -> str:
    if looks_like_uuid(name):
        raise Invalid(f"The name {name} has the form of a uuid; choose another.", field="name")
    return name


def role(name: str) -> str:
    if not ROLE.fullmatch(name):
        raise Invalid(
            f"The role {shown(name)} must have 1 to 63 letters, digits, '_', '.' and '-'.",
            field="role",
        )
    return name


def batch_size(value: int | None) -> int:
    """None: 1."""
    size = 1 if value is None else value
    if not 1 <= size <= MOST_NODES:
        raise Invalid(
            f"max_batch_size must be from 1 to {MOST_NODES}, not {size}.", field="max_batch_size"
        )
    return size


def node_count(value: object, *, allow_zero: bool) -> int:
    """None: 1."""
    count = 1 if value is None else integer(value, "node_count")
    least = 0 if allow_zero else 1
    if not least <= count <= MOST_NODES:
        raise Invalid(
            f"node_count must be from {least} to {MOST_NODES}, not {count}.", field="node_count"
        )
    return count


def master_count(value: int | None) -> int:
    """None: 1."""
    count = 1 if value is None else value
    if count not in MASTER_COUNTS:
        *others, last = map(str, MASTER_COUNTS)
        raise Invalid(
            f"master_count must be {', '.join(others)} or {last}, not {count}.",
            field="master_count",
        )
    return count


def create_timeout(value: int | None) -> int:
    """Minutes. None or 0: the default."""
    minutes = value or DEFAULT_TIMEOUT
    if not 1 <= minutes <= LONGEST_TIMEOUT:
        raise Invalid(
            f"create_timeout must be from 1 to {LONGEST_TIMEOUT} minutes, not {minutes}.",
            field="create_timeout",
        )
    return minutes


def labels(value: object, field: str = "labels") -> dict[str, str]:
    """A dict of texts (numbers and booleans become texts), or such a dict written as text."""
    pairs = dictionary(value, field)
    if len(pairs) > MOST_LABELS:
        raise Invalid(f"{field} may hold {MOST_LABELS} entries, not {len(pairs)}.", field=field)
    found = {
        line(key, field, longest=LABEL_LENGTH): label_value(entry, field)
        for key, entry in pairs.items()
    }
    refuse_large(field, found)
    if field == "labels" and healing.LABEL in found:
        boolean(found[healing.LABEL], f"labels/{healing.LABEL}")
    return found


def label_value(value: object, field: str = "labels") -> str:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Invalid(f"{field} has a number beyond 64 bits: {shown(value)}.", field=field)
    plain = str(value) if isinstance(value, bool | int | float) else value
    return line(plain, field, longest=LABEL_VALUE_LENGTH)


def refuse_large(field: str, *held: Mapping[str, str] | Iterable[Taint]) -> None:
    """Raises Invalid where all of it together is more than an object may hold."""
    size = 0
    for some in held:
        pairs = some.items() if isinstance(some, Mapping) else ((str(one), "") for one in some)
        size += sum(len(key.encode()) + len(value.encode()) for key, value in pairs)
    if size > MOST_BYTES:
        raise Invalid(
            f"{field}: all labels (and taints) together may have {MOST_BYTES} bytes, not {size}.",
            field=field,
        )


def node_labels(value: object) -> dict[str, str]:
    """Labels for nodes, in the form that Kubernetes demands; Swarm takes them as well."""
    found = labels(value, "node_labels")
    for key, entry in found.items():
        _label_key(key, "node_labels")
        _label_value(key, entry, "node_labels")
    return found


def taints(value: object) -> tuple[Taint, ...]:
    """A list of `key[=value]:effect`, or of objects with those three; or such a list as text."""
    if isinstance(value, str):
        _refuse_long(value, "node_taints")
    listed = _written_out(value) if isinstance(value, str) and value[:1] in {"[", "{"} else value
    if isinstance(listed, str):
        listed = [part for part in listed.split(",") if part]
    if listed is None:
        return ()
    if not isinstance(listed, Sequence) or len(listed) > MOST_LABELS:
        raise Invalid(
            f"node_taints must be a list of at most {MOST_LABELS} taints.", field="node_taints"
        )
    found = tuple(_taint(one) for one in listed)
    if len({(taint.key, taint.effect) for taint in found}) != len(found):
        raise Invalid("node_taints has one key and effect twice.", field="node_taints")
    return found


def _taint(value: object) -> Taint:
    key, entry, effect = _taint_parts(value)
    if not (isinstance(key, str) and isinstance(entry, str) and effect in TAINT_EFFECTS):
        raise Invalid(
            f"node_taints: {shown(value)} is not KEY[=VALUE]:EFFECT, with an effect of "
            f"{', '.join(TAINT_EFFECTS)}.",
            field="node_taints",
        )
    _label_key(key, "node_taints")
    _label_value(key, entry, "node_taints")
    return Taint(key, str(effect), entry)


def _taint_parts(value: object) -> tuple[object, object, object]:
    if isinstance(value, Mapping) and value.keys() <= {"key", "value", "effect"}:
        return value.get("key"), value.get("value") or "", value.get("effect")
    if isinstance(value, str):
        pair, _, effect = value.rpartition(":")
        key, _, entry = pair.partition("=")
        return key, entry, effect
    return None, None, None


def _label_key(key: str, field: str) -> None:
    if not LABEL_KEY.fullmatch(key):
        raise Invalid(
            f"{field}: {shown(key)} must be a name of at most 63 letters, digits, '_', '.' and "
            "'-', perhaps after a domain and a '/'.",
            field=field,
        )
    if key.lower().startswith("moorage."):
        raise Invalid(f"{field}: names that start with 'moorage.' are Moorage's own.", field=field)


def _label_value(key: str, value: str, field: str) -> None:
    if not LABEL_VALUE.fullmatch(value):
        raise Invalid(
            f"{field}: the value {shown(value)} of {key} must have at most 63 letters, digits, "
            "'_', '.' and '-', and begin and end with a letter or digit.",
            field=field,
        )


def dictionary(value: object, field: str) -> Mapping[object, object]:
    if isinstance(value, str):
        _refuse_long(value, field)
        value = _written_out(value)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid(f"{field} must be an object of names and values.", field=field)
    return value


def _refuse_long(written: str, field: str) -> None:
    if len(written) > MOST_BYTES:
        raise Invalid(
            f"{field}, written as text, may have {MOST_BYTES} characters, not {len(written)}.",
            field=field,
        )


def _written_out(value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value


def text(value: object, field: str, longest: int = TEXT_LENGTH) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{field} must be text, not {shown(value)}.", field=field)
    if len(value) > longest:
        raise Invalid(f"{field} may have {longest} characters, not {len(value)}.", field=field)
    if not storable(value):
        raise Invalid(f"{field} has characters that can't be stored.", field=field)
    return value


def line(value: object, field: str, longest: int = TEXT_LENGTH) -> str:
    """Text that may stand in anybody's terminal and log: no control characters, one line."""
    found = text(value, field, longest)
    if not found.isprintable():
        raise Invalid(f"{field}: {shown(found)} must be printable, on one line.", field=field)
    return found


def integer(value: object, field: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,10}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Invalid(f"{field} must be a whole number, not {shown(value)}.", field=field)


def boolean(value: object, field: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in TRUE | FALSE:
        return word in TRUE
    raise Invalid(f"{field} must be true or false, not {shown(value)}.", field=field)


def shown(value: object) -> str:
    """A client's value as an error may quote it: short, and on one line."""
    try:
        quoted = repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        quoted = "a number of thousands of digits"
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."
