"""The cache of the embedded Keystone: in memory, and bounded.

Without a cache Keystone takes half a second to validate a token. dogpile's own memory
backend never forgets: every token that was ever shown would stay, for years.
oslo.cache takes no backend but those it knows by name, so this one takes that name.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dogpile.cache import register_backend
from dogpile.cache.backends.memory import MemoryBackend

ENTRIES = 4096
"""In each of Keystone's seven regions. A token's entry takes a few KiB."""


class _Newest(OrderedDict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > ENTRIES:
            self.popitem(last=False)


class BoundedBackend(MemoryBackend):
    """Forgets the oldest entry when it is full; Keystone then asks its database again."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__({**arguments, "cache_dict": _Newest()})  # type: ignore[no-untyped-call]


def register() -> None:
    """Be `dogpile.cache.memory` in this process. To be called before Keystone's set-up."""
    register_backend("dogpile.cache.memory", __name__, BoundedBackend.__name__)  # type: ignore[no-untyped-call]
