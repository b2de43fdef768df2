"""Which labels of a cluster mean something, and what they may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from moorage.drivers.kubernetes.addresses import PODS, SERVICES, ranges, refuse_unfit
from moorage.drivers.kubernetes.hosting import CONTROL_PLANE, KINDS, kind
from moorage.drivers.kubernetes.naming import VERSION
from moorage.model.errors import Invalid, NotFound, Refused
from moorage.releases import Releases, Version

LABELS = frozenset({VERSION, CONTROL_PLANE, SERVICES, PODS})


def checked(
    releases: Releases,
    labels: Mapping[str, str],
    former: Mapping[str, str] | None,
    runs: str = "",
    nodes: Iterable[IPv4Network] = (),
) -> dict[str, str]:
    """A cluster's labels as it will have them: with a release. Raises Invalid.

    Where its masters are still (`runs`), it may go back to, whatever was wanted since. Its
    ranges are compared with what its `nodes` have and need once: they stay, and so do its
    nodes' networks.
    """
    had = former.get(VERSION, "") if former else ""
    asked = _found(releases, labels.get(VERSION) or had)
    if had:
        _refuse_jump(Version.parse(runs or had), asked)
    where = _kind(labels)
    if former is not None and kind(former) != where:
        raise _bad(
            f"{CONTROL_PLANE} of a cluster that is there can't be changed from {kind(former)} to "
            f"{where}: its masters would have to become other nodes. Create another cluster."
        )
    wanted = {**labels, VERSION: str(asked)}
    chosen = ranges(wanted)
    if former is None:
        refuse_unfit(chosen, nodes)
    elif ranges(former) != chosen:
        raise _bad(f"{SERVICES} and {PODS} of a cluster that is there can't be changed.")
    return wanted


def check(releases: Releases, labels: Mapping[str, str], nodes: Iterable[IPv4Network] = ()) -> None:
    """Raises Invalid for a template's labels that no cluster could have now.

    A release that it does not name is for its clusters to find.
    """
    if asked := labels.get(VERSION):
        _found(releases, asked)
    _kind(labels)
    refuse_unfit(ranges(labels), nodes)


def _kind(labels: Mapping[str, str]) -> str:
    where = kind(labels)
    if where not in KINDS:
        raise _bad(f"{CONTROL_PLANE} must be {' or '.join(sorted(KINDS))}, not {where[:40]!r}.")
    return where


def _found(releases: Releases, text: str) -> Version:
    """The release that is meant; the newest one where none is named."""
    try:
        if not text:
            return releases.newest().version
        return releases.get(Version.parse(text)).version
    except NotFound as missing:
        raise _bad(
            f"{missing.reason} An operator can add one: moorage release add kubernetes."
        ) from None
    except Refused as wrong:
        raise _bad(f"{VERSION}: {wrong.reason}") from None


def _refuse_jump(former: Version, asked: Version) -> None:
    """As https://kubernetes.io/releases/version-skew-policy/ has it: one minor version at a time,
    and never back. (Patch releases may go either way.)"""
    step = asked.minor - former.minor
    if step not in {0, 1}:
        why = "not back" if step < 0 else f"to 1.{former.minor + 1} first"
        raise _bad(
            f"from Kubernetes {former} one can't go to {asked}: one minor version at a time, {why}."
        )


def _bad(what: str) -> Invalid:
    return Invalid(f"labels: {what}", field="labels")
