"""Archives that a stranger made, whose sum is right all the same: nothing of them stays."""

from __future__ import annotations

import gzip
import os
import resource
import tarfile
from pathlib import Path

import pytest

from moorage.model.errors import Refused
from moorage.releases import Releases, archive, binary, told
from tests.unit.releases import made

GOOD = made.programs()


def refusal(tmp_path: Path, content: bytes) -> str:
    """Why it is refused; that nothing is left of it, here or elsewhere, is seen to."""
    file = made.published(tmp_path / "shop", content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused) as caught:
        Releases(tmp_path / "state").add(str(file))
    assert sorted(tmp_path.rglob("*")) == before
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "kubernetes/../../evil",
        "kubernetes/server/bin/../../../../kube-apiserver",
        "..",
    ],
)
def test_no_path_leads_out_of_it(tmp_path: Path, name: str) -> None:
    assert "leads out" in refusal(tmp_path, made.archive(GOOD, made.entry(name, b"evil")))
    long = made.entry("@LongLink", name.encode() + b"\0", tarfile.GNUTYPE_LONGNAME)
    assert "leads out" in refusal(tmp_path, made.archive(GOOD, long, made.entry("fine", b"evil")))
    record = b"path=" + name.encode() + b"\n"
    record = f"{len(record) + 3} ".encode() + record
    other = made.entry("x", record, tarfile.XHDTYPE)
    assert "leads out" in refusal(tmp_path, made.archive(GOOD, other, made.entry("fine", b"evil")))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a file with holes"),
        (tarfile.CONTTYPE, "type b'7'"),
        (tarfile.GNUTYPE_LONGLINK, "type b'K'"),
        (b"M", "type b'M'"),
    ],
)
@pytest.mark.parametrize("name", ["kubernetes/more", f"{made.PLACE}/kubelet"])
def test_only_files_and_directories_are_taken(
    tmp_path: Path, kind: bytes, said: str, name: str
) -> None:
    assert said in refusal(tmp_path, made.archive(GOOD, made.entry(name, kind=kind)))


def test_nothing_comes_twice(tmp_path: Path) -> None:
    twice = made.entry("kubernetes/./server//bin/kubelet", GOOD["kubelet"])
    assert "twice" in refusal(tmp_path, made.archive(GOOD, twice))


@pytest.mark.parametrize("size", [1, 40, 512, 5_000])
def test_one_that_ends_in_the_middle(tmp_path: Path, size: int) -> None:
    whole = made.archive(GOOD)
    assert "cut off" in refusal(tmp_path, whole[:-size] if size < len(whole) else whole[:20])
    short = made.tar(GOOD)[: -1024 - size]
    assert "cut off" in refusal(tmp_path, gzip.compress(short))


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x1f\x8b", b"\x1f\x8b" + b"\xff" * 99])
def test_what_is_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    assert "damaged" in refusal(tmp_path, content)
    if content:
        assert "damaged" in refusal(tmp_path, gzip.compress(content * 600))


def test_sizes_beyond_all_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1 << 20
    monkeypatch.setattr(binary, "MOST_BYTES", most)
    large = {**GOOD, "kubelet": bytes(most + 1)}
    assert "kubelet is larger than 1 MiB" in refusal(tmp_path, made.archive(large))
    monkeypatch.setattr(archive, "MOST_BYTES", most)
    bomb = made.entry("kubernetes/addons/zeros", bytes(2 * most))
    assert "unpacks to more than" in refusal(tmp_path, made.archive(GOOD, bomb))
    monkeypatch.setattr(archive, "MOST_ENTRIES", 50)
    crowd = [made.entry(f"kubernetes/{number}") for number in range(50)]
    assert "more than 50 entries" in refusal(tmp_path, made.archive(GOOD, *crowd))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_does_not_say_how_much_memory_is_taken(tmp_path: Path, kind: bytes) -> None:
    zeros = gzip.compress(made.header("x", 4 << 30, kind) + bytes(64 << 20), compresslevel=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "a header of 4294967296 bytes" in refusal(tmp_path, zeros)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_headers_without_end(tmp_path: Path) -> None:
    """`tarfile` calls itself for each of them, and ends in a RecursionError."""
    chain = [made.entry("x", b"13 mtime=1.5\n", tarfile.XHDTYPE)] * 25_000
    assert "more than 20000 entries" in refusal(tmp_path, made.archive(GOOD, *chain))


@pytest.mark.parametrize(
    "record",
    [
        b"12 size=999\n",
        b"22 linkpath=/etc/evil\n",
        b"22 GNU.sparse.major=1\n",
        b"99 path=x\n",
        b"path=x\n",
        b"0 path=x\n",
        b"-1 path=x\n",
        b"99999999999999999999 path=x\n",
        b"\xff\xff\n",
    ],
)
def test_attributes_that_would_change_an_entry(tmp_path: Path, record: bytes) -> None:
    other = made.entry("x", record, tarfile.XHDTYPE)
    said = refusal(tmp_path, made.archive(GOOD, other))
    assert "is not known" in said or "can't be read" in said


def test_a_size_below_zero(tmp_path: Path) -> None:
    head = bytearray(made.header("kubernetes/less", 1))
    head[124:136] = b"\xff" * 12  # base 256: -1
    head[148:156] = b"%06o\0 " % sum(b" " * 8 + head[:148] + head[156:])
    assert "-1 bytes" in refusal(tmp_path, made.archive(GOOD, bytes(head)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_program_is_asked_as_nobody(tmp_path: Path) -> None:
    script = tmp_path / "kube-apiserver"
    script.write_text('#!/bin/sh\necho "Kubernetes v1.$(id -u).0-$(env | wc -l)${1#--}"\n')
    script.chmod(0o755)
    asked = told.version_of(script)
    assert (asked.minor, asked.pre) == (65534, "1version"), "no variable but sh's own PWD"


@pytest.mark.parametrize(
    ("says", "for_ever"),
    [("", False), ("v1.20.2\n", False), ("Kubernetes x\n", False), ("Kubernetes v1.20.2\n", True)],
)
def test_a_program_that_does_not_say_its_version(tmp_path: Path, says: str, for_ever: bool) -> None:
    odd = {**GOOD, "kube-apiserver": made.program(says, for_ever=for_ever)}
    said = refusal(tmp_path, made.archive(odd))
    assert "version of kube-apiserver can't be found out" in said
    assert len(said) < 200


def test_a_program_that_says_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "SECONDS", 0.2)
    script = tmp_path / "kubelet"
    script.write_text("#!/bin/sh\n(sleep 3600 & sleep 3600)\n")
    script.chmod(0o755)
    with pytest.raises(Refused, match="it says nothing"):
        told.version_of(script)
