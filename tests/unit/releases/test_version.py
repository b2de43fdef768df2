"""Versions: what is one, their order, and who uses which."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from moorage.model.errors import Invalid
from moorage.releases import NEWEST, OLDEST, Version, in_use
from tests import made


@pytest.mark.parametrize("text", ["v1.20.2", "v1.37.0-rc.1", "v1.28.3+k3s1", "v1.28.3-gke.1+a.b-c"])
def test_what_is_one(text: str) -> None:
    assert str(Version.parse(text)) == text
    assert Version.parse(text.removeprefix("v")) == Version.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "v", "1", "1.20", "v1.20.2.3", "v01.20.2", "v1.20.2 ", " v1.20.2", "v1.20.2\n"),
        *(
            "v1.20.2-",
            "v1.20.2+",
            "v1.20.2-a..b",
            "v1.20.2-../x",
            "v1.20.2/..",
            "V1.20.2",
            "vv1.2.3",
        ),
        *("v1.20.٢", "v1.20.2-é", "v1.20.999999", "v1.20.2-" + "a" * 60, ".draft-x", "../../etc"),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(Invalid, match="is no version"):
        Version.parse(text)


def test_their_order() -> None:
    words = "v1.9.9 v1.20.2-alpha v1.20.2-alpha.2 v1.20.2-alpha.10 v1.20.2-rc.1 v1.20.2 v1.20.10"
    versions = [Version.parse(word) for word in f"{words} v1.20.10+a v1.37.0 v2.0.0".split()]
    assert sorted([*versions[5:], *versions[:5]]) == versions
    assert OLDEST < NEWEST


def test_who_uses_which() -> None:
    swarm = made.cluster(coe="swarm", labels={"kube_tag": "v1.20.2"})
    master, worker = made.groups()
    newer = dataclasses.replace(worker, labels={"kube_tag": "1.21.0"})
    older = dataclasses.replace(worker, labels={"kube_tag": "v1.19.0"})
    fields: dict[str, Any] = {"coe": "kubernetes", "uuid": "u"}
    users = in_use(
        [
            swarm,
            made.cluster(name="a", labels={"kube_tag": "v1.20.2"}, **fields),
            made.cluster(name="b", labels={"kube_tag": "v1.20.2"}, coe_version="v1.20.2", **fields),
            made.cluster(name="c", coe_version="v1.20.1", labels={"kube_tag": "latest"}, **fields),
            made.cluster(name="d", **fields, fallback=(master, older)),
            dataclasses.replace(made.cluster(name="e", **fields), groups=(master, newer)),
        ]
    )
    assert {str(version): names for version, names in users.items()} == {
        "v1.20.2": ["a (u)", "b (u)"],
        "v1.20.1": ["c (u)"],
        "v1.19.0": ["d (u)"],
        "v1.21.0": ["e (u)"],
    }
