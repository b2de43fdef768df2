"""Versions as upstream numbers them, and the range of them that Moorage knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from moorage.model.errors import Invalid, Refused

OLDEST, NEWEST = (1, 20), (1, 37)
"""Major and minor of the first and the last one that Moorage knows how to run.

1.20 is what can be built from Debian's sources (`make kubernetes`); 1.37 is upstream's last one
(August 2026). With minor versions flags come and go, API versions end and defaults change: one
that is not known would be refused by its own programs in the middle of making a cluster.
"""
_FORM = re.compile(
    r"v?(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})"
    r"(?:-([0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*))?(?:\+([0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*))?",
    re.ASCII,
)
_LONGEST = 64


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version. `pre` is what follows `-`, and `build` what follows `+`.

    In order: those of before a release come before it; `build` decides where all else is the
    same, so that sorting is certain (semver.org leaves that open).
    """

    major: int
    minor: int
    patch: int
    pre: str = ""
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """`v1.20.2`, or without the `v`. Raises Invalid for what is none."""
        found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise Invalid(f"{text[:_LONGEST]!r} is no version: write it as v1.20.2.")
        major, minor, patch, pre, build = found.groups(default="")
        return cls(int(major), int(minor), int(patch), pre, build)

    def __str__(self) -> str:
        pre, build = self.pre and f"-{self.pre}", self.build and f"+{self.build}"
        return f"v{self.major}.{self.minor}.{self.patch}{pre}{build}"

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[object, ...]:
        numbered = [
            (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in self.pre.split(".")
        ]
        return (self.major, self.minor, self.patch, not self.pre, numbered, self.build)


def refuse_unknown(version: Version) -> None:
    """Raises Refused for a version that is older or newer than those that Moorage knows."""
    if OLDEST <= (version.major, version.minor) <= NEWEST:
        return
    oldest, newest = ("{}.{}".format(*end) for end in (OLDEST, NEWEST))
    mend = "a newer Moorage may know it" if version > Version(*NEWEST, 0) else "take a newer one"
    raise Refused(f"Kubernetes {version} is not among {oldest} to {newest}: {mend}.")
