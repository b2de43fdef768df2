"""URLs in answers: they lead back the way the request came."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from typing_extensions import TypedDict

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Link(TypedDict):
    href: str
    rel: str


def base_url(scope: MutableMapping[str, Any], *, trust_proxy: bool) -> str:
    """Scheme and host under which the client asked, e.g. `http://cloud:9511`.

    `trust_proxy`: X-Forwarded-Proto and X-Forwarded-Host count. Without a proxy that
    sets them, anyone could; then they must not.
    """
    scheme, host = scope.get("scheme", "http"), ""
    for name, value in scope["headers"]:
        if name == b"host" and not host:
            host = value.decode("latin-1")
        elif trust_proxy and name == b"x-forwarded-host":
            host = _first(value)
        elif trust_proxy and name == b"x-forwarded-proto" and _first(value) in {"http", "https"}:
            scheme = _first(value)
    if not _HOST.fullmatch(host):
        address, port = scope.get("server") or ("localhost", 80)
        host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{scheme}://{host}"


def _first(value: bytes) -> str:
    return value.decode("latin-1").partition(",")[0].strip()


def links(base: str, collection: str, uuid: str) -> list[Link]:
    """The two links of every object: with the version, and without."""
    return [
        {"href": f"{base}/v1/{collection}/{uuid}", "rel": "self"},
        {"href": f"{base}/{collection}/{uuid}", "rel": "bookmark"},
    ]
