"""JSON columns: from their text, quickly. A long list is mostly this."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def from_text(text: str) -> Any:
    """What json.loads makes of it, in a fifth of the time."""
    try:
        return _decode(text)
    except msgspec.DecodeError:
        # json.dumps writes some things that are not quite JSON: NaN, half a surrogate pair.
        return json.loads(text)
