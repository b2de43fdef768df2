"""The releases of Kubernetes that are on this machine, and which of them labels may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from moorage.drivers.kubernetes.addresses import PODS, SERVICES, ranges
from moorage.drivers.kubernetes.naming import VERSION
from moorage.drivers.kubernetes.versions import minor
from moorage.model.errors import Invalid

CONTROL_PLANE = "control_plane"
KINDS = frozenset({"nodes"})
"""What CONTROL_PLANE may be: on master nodes."""
LABELS = frozenset({VERSION, CONTROL_PLANE, SERVICES, PODS})
_FORM = re.compile(r"v1\.\d{1,3}\.\d{1,4}")
HINT = "moorage release add kubernetes --help"


def versions(releases: Path) -> list[str]:
    """Those that are installed, the newest first."""
    try:
        found = [path.name for path in releases.iterdir() if _FORM.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    whole = [name for name in found if (releases / name / "kube-apiserver").exists()]
    return sorted(whole, key=_numbers, reverse=True)


def checked(
    releases: Path, labels: Mapping[str, str], former: Mapping[str, str] | None
) -> dict[str, str]:
    """A cluster's labels as it will have them: with a release. Raises Invalid."""
    here = versions(releases)
    had = former.get(VERSION, "") if former else ""
    asked = labels.get(VERSION) or had or (here[0] if here else "")
    if asked not in here:
        there = f"there is {', '.join(here)}" if here else "there is none"
        what = (
            f"Kubernetes {asked} is not installed here" if asked else "Kubernetes is not installed"
        )
        raise _bad(f"{what}; {there}: an operator can add one ({HINT})")
    if had:
        _refuse_jump(had, asked)
    kind = labels.get(CONTROL_PLANE, "nodes")
    if kind not in KINDS:
        raise _bad(f"{CONTROL_PLANE} must be one of {', '.join(sorted(KINDS))}, not {kind[:40]!r}")
    wanted = {**labels, VERSION: asked}
    ranges(wanted)
    if former is not None and ranges(former) != ranges(wanted):
        raise _bad(f"{SERVICES} and {PODS} of a cluster that is there can't be changed")
    return wanted


def _refuse_jump(former: str, asked: str) -> None:
    """As https://kubernetes.io/releases/version-skew-policy/ has it: one minor version at a time,
    and never back. (Patch releases may go either way.)"""
    step = minor(asked) - minor(former)
    if step not in {0, 1}:
        why = "not back" if step < 0 else f"to 1.{minor(former) + 1} first"
        raise _bad(
            f"from Kubernetes {former} one can't go to {asked}: one minor version at a time, {why}"
        )


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in name[1:].split("."))


def _bad(what: str) -> Invalid:
    return Invalid(f"labels: {what}.", field="labels")
