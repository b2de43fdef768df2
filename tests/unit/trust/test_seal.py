from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.model.errors import Refused
from moorage.trust.seal import Seal, SealBroken

OLD, NEW = Seal([b"o" * 32]), Seal([b"n" * 32, b"o" * 32])


@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_is_sealed_opens_in_its_place_and_nowhere_else(secret: bytes, place: str) -> None:
    sealed = OLD.seal(secret, place)
    assert OLD.open(sealed, place) == secret
    with pytest.raises(SealBroken):
        OLD.open(sealed, place + "x")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_breaks_it(where: int, flip: int) -> None:
    sealed = bytearray(OLD.seal(b"secret", "row"))
    sealed[where % len(sealed)] ^= flip
    with pytest.raises(SealBroken):
        OLD.open(bytes(sealed), "row")


@given(st.binary(max_size=60))
def test_any_other_bytes_are_broken_and_no_crash(data: bytes) -> None:
    with pytest.raises(SealBroken):
        OLD.open(data, "row")


def test_a_secret_is_never_sealed_twice_alike() -> None:
    assert OLD.seal(b"secret", "row") != OLD.seal(b"secret", "row")


def test_a_new_key_on_top_still_opens_what_the_old_one_sealed() -> None:
    assert NEW.open(OLD.seal(b"secret", "row"), "row") == b"secret"
    with pytest.raises(SealBroken, match="not here"):
        OLD.open(NEW.seal(b"secret", "row"), "row")


def test_errors_and_reprs_hold_no_key() -> None:
    assert "oooo" not in repr(OLD)
    with pytest.raises(SealBroken) as caught:
        OLD.open(b"\x01" + b"oooo" + b"x" * 40, "row")
    assert "oooo" not in str(caught.value)


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "seal.key"
    before = os.umask(0)
    try:
        sealed = Seal.load_or_create(path).seal(b"secret", "row")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Seal.load_or_create(path).open(sealed, "row") == b"secret"
    assert [entry.name for entry in path.parent.iterdir()] == ["seal.key"]


def test_processes_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    path, seals = tmp_path / "seal.key", list[Seal]()
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        seals.append(Seal.load_or_create(path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seals) == 8
    assert all(seal.open(seals[0].seal(b"s", "row"), "row") == b"s" for seal in seals)
    assert [entry.name for entry in tmp_path.iterdir()] == ["seal.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "seal.key"
    Seal.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(Refused, match="chmod 600"):
        Seal.load_or_create(path)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"short\n", b"AAAA\n", b"\xff\xfe\n"])
def test_a_file_without_keys_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="backup"):
        Seal.load_or_create(path)
    assert path.read_bytes() == content


def test_keys_have_names() -> None:
    old, new = Seal([b"o" * 32]), Seal([b"n" * 32])
    both = Seal([b"n" * 32, b"o" * 32])
    assert old.name != new.name == both.name, "the name of the one that seals"
    assert both.has(old.name)
    assert both.has(new.name)
    assert not old.has(new.name)
    assert not old.has(None)
    assert not old.has("")


def test_what_follows_from_the_key_is_the_same_wherever_the_key_is() -> None:
    assert OLD.secret("a") == Seal([b"o" * 32]).secret("a")
    assert len({OLD.secret("a"), OLD.secret("b"), NEW.secret("a"), b"o" * 32}) == 4
    assert len(OLD.secret("a")) == 32
