"""The SHA-512 that upstream publishes of an archive: what decides whether it is that one.

It is worth as much as the way that it came: one that lies beside the archive on a server
that is asked without TLS can be changed together with it.
"""

from __future__ import annotations

import re
from pathlib import Path

from moorage.model.errors import Invalid, NotFound, Refused
from moorage.releases import fetch

_DIGITS = 128
_FORM = re.compile(rf"[0-9a-fA-F]{{{_DIGITS}}}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{32,}", re.ASCII)
_FILE_BYTES = 1 << 16


def expected(source: str, given: str | None) -> str:
    """The SHA-512 of the archive in `source`, as 128 lower-case hexadecimal digits.

    `given`: those digits, or the file or URL that holds them; None: it lies beside the
    archive, as `….sha512`. Raises Refused (Invalid, NotFound) where none can be had.
    """
    if given is None:
        return _beside(source)
    if _FORM.fullmatch(given):
        return given.lower()
    if _HEX.fullmatch(given) and not Path(given).exists():
        raise Invalid(f"{given} is no SHA-512, which has {_DIGITS} hexadecimal digits.")
    return _read(given, source)


def refuse_other(found: str, wanted: str, source: str) -> None:
    """Raises Refused where an archive's SHA-512 is not the published one."""
    if found != wanted:
        raise Refused(
            f"{fetch.shown(source)} is not what was published: its SHA-512 is {found}, and "
            f"{wanted} is expected. It was cut off or changed on its way: fetch it again."
        )


def _beside(source: str) -> str:
    where = fetch.beside(source)
    if where.startswith("http:"):
        raise Refused(
            f"{fetch.shown(where)} is not asked for the SHA-512: without TLS, whoever can change "
            "the archive on its way can change that too. Say it by --sha512, or use https."
        )
    try:
        return _read(where, source)
    except NotFound:
        raise NotFound(
            f"The SHA-512 of {fetch.shown(source)} is not known, for there is no "
            f"{fetch.shown(where)}. Say by --sha512 what upstream publishes "
            "(https://dl.k8s.io/VERSION/kubernetes-server-linux-ARCH.tar.gz.sha512)."
        ) from None


def _read(where: str, source: str) -> str:
    """A file that `sha512sum` could check, of one archive or of many, or the digits alone."""
    name = fetch.shown(source).rpartition("/")[2]
    text = fetch.read(where, _FILE_BYTES).decode("utf-8", "replace")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) > 1:
        rows = [row for row in rows if row[-1].lstrip("*").rpartition("/")[2] == name]
    sums = [row[0] for row in rows]
    if len(set(sums)) != 1 or not _FORM.fullmatch(sums[0]):
        raise Refused(f"{fetch.shown(where)} holds no SHA-512 of {name}.")
    return sums[0].lower()
