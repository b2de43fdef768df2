"""The way a request came: URLs in answers lead back along it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,8}")


class Link(TypedDict):
    href: str
    rel: str


def base_url(scope: Mapping[str, Any], headers: Mapping[bytes, bytes], *, trust_proxy: bool) -> str:
    """Scheme and host under which the client asked, e.g. `http://cloud:9511`.

    `trust_proxy`: X-Forwarded-Proto, -Host and -Prefix count. Without a proxy that sets
    them, anyone could; then they must not.
    """
    scheme: str = scope.get("scheme", "http")
    host = headers.get(b"host", b"").decode("latin-1")
    prefix = ""
    if trust_proxy:
        host = _first(headers.get(b"x-forwarded-host")) or host
        forwarded = _first(headers.get(b"x-forwarded-proto"))
        scheme = forwarded if forwarded in {"http", "https"} else scheme
        prefix = _first(headers.get(b"x-forwarded-prefix")).rstrip("/")
    if not _HOST.fullmatch(host):
        address, port = scope.get("server") or ("localhost", 80)
        host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"


def client_address(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], *, trust_proxy: bool
) -> str:
    """The client's IP address. Behind a trusted proxy: the last that X-Forwarded-For names.

    The proxy put that one there itself; those before it are the client's own word.
    """
    if trust_proxy and (forwarded := headers.get(b"x-forwarded-for")):
        said = forwarded.decode("latin-1").rpartition(",")[2].strip()
        try:
            return str(ipaddress.ip_address(said.strip("[]")))
        except ValueError:
            pass
    client = scope.get("client")
    return str(client[0]) if client else ""


def _first(value: bytes | None) -> str:
    return value.decode("latin-1").partition(",")[0].strip() if value else ""


def links(base: str, collection: str, uuid: str) -> list[Link]:
    """The two links of every object: with the version, and without."""
    return [
        {"href": f"{base}/v1/{collection}/{uuid}", "rel": "self"},
        {"href": f"{base}/{collection}/{uuid}", "rel": "bookmark"},
    ]
