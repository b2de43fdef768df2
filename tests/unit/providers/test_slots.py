"""Slots: one claim a cluster, none shared, none leaked."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorage.model.errors import NoRoom
from moorage.providers.local import slots as slots_module
from moorage.providers.local.slots import FIRST_SUBID, SUBIDS, Slots, subid


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def home(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "nodes" / name
    path.mkdir(parents=True)
    return path


def test_a_cluster_keeps_its_slot_and_another_gets_another(directory: Path, tmp_path: Path) -> None:
    slots = Slots(directory, taken=lambda _: False)
    one, two = home(tmp_path, "one"), home(tmp_path, "two")
    assert (slots.claim(one), slots.claim(two), slots.claim(one)) == (0, 1, 0)
    assert slots.of(two) == 1
    assert slots.holds(0, one)
    assert not slots.holds(0, two)


def test_a_claim_is_on_the_disk_before_anybody_relies_on_it(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []

    def names(handle: int) -> list[str]:
        return [entry.name for entry in Path(f"/proc/self/fd/{handle}").iterdir()]

    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(names(handle)))
    Slots(directory, taken=lambda _: False).claim(home(tmp_path, "one"))
    assert synced == [["0000"]]


def test_what_something_else_uses_is_passed_over(directory: Path, tmp_path: Path) -> None:
    slots = Slots(directory, taken=lambda slot: slot < 3)
    assert slots.claim(home(tmp_path, "one")) == 3


def test_only_its_owner_releases_a_slot_and_the_directory_goes_with_the_last(
    directory: Path, tmp_path: Path
) -> None:
    slots = Slots(directory, taken=lambda _: False)
    one, two = home(tmp_path, "one"), home(tmp_path, "two")
    slots.claim(one)
    slots.release(0, two)
    assert slots.holds(0, one)
    slots.release(0, one)
    assert not directory.exists()


def test_the_claim_of_a_cluster_that_was_removed_by_hand_is_free(
    directory: Path, tmp_path: Path
) -> None:
    slots = Slots(directory, taken=lambda _: False)
    one = home(tmp_path, "one")
    slots.claim(one)
    one.rmdir()
    assert slots.claim(home(tmp_path, "two")) == 0


def test_two_installs_at_once_never_share_a_slot(directory: Path, tmp_path: Path) -> None:
    homes = [home(tmp_path, f"c{number}") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda h: Slots(directory, taken=lambda _: False).claim(h), homes))
        assert sorted(claimed) == list(range(40))
        release = Slots(directory, taken=lambda _: False).release
        list(pool.map(release, claimed, homes))
    assert not directory.exists()


def test_a_full_machine_says_so(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "SLOTS", 1)
    slots = Slots(directory, taken=lambda _: False)
    slots.claim(home(tmp_path, "one"))
    with pytest.raises(NoRoom, match="networks of this machine are in use"):
        slots.claim(home(tmp_path, "two"))


def test_the_sub_ids_stay_below_what_a_signed_32_bit_id_holds() -> None:
    assert subid(0) == FIRST_SUBID
    assert subid(slots_module.SLOTS - 1) + SUBIDS < 2**31
