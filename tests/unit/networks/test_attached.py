"""What the local network takes for a link that is whole."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from moorage.networks import LocalNetwork, links

MINE, MATE = ("mrg7", "10.128.7.2"), ("mrg7", "10.128.7.3")


async def test_a_link_without_its_neighbour_is_not_whole_until_it_is_attached_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, listed, carried = {MATE}, 0, True

    def acquainted() -> frozenset[tuple[str, str]]:
        nonlocal listed
        listed += 1
        return frozenset(known)

    monkeypatch.setattr(links, "carries", lambda *_: carried)
    monkeypatch.setattr(links, "acquainted", acquainted)
    monkeypatch.setattr(links, "attach", lambda *_: known.add(MINE))
    monkeypatch.setattr(links, "uplinks", lambda: links.Uplinks((), 1500))
    network = LocalNetwork(install="x", pool=IPv4Network("10.128.0.0/12"), public_address="::1")
    assert [network.attached(7, index) for index in (0, 1)] == [False, True]
    assert listed == 1, "once for many looks"
    await network.attach("web", 7, "worker-0", 0, 1)
    assert network.attached(7, 0), "seen at once"
    carried = False
    assert not network.attached(7, 0)
