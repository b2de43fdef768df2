"""Releases side by side: added whole or not at all, found, and removed when nobody needs them."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.model.errors import Conflict, Invalid, MoorageError, NotFound, Refused
from moorage.releases import Release, Releases, Version, release
from tests.unit.releases import made

OLD, NEW = Version(1, 20, 2), Version(1, 37, 1)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def releases(state: Path) -> Releases:
    return Releases(state)


def added(releases: Releases, tmp_path: Path, version: str = "v1.20.2") -> Release:
    content = made.archive(made.programs(version))
    return releases.add(str(made.published(tmp_path / version, content))).release


def refused(releases: Releases, source: Path, sha512: str | None = None) -> str:
    """Why it is; the state directory stays as it was."""
    before = sorted(releases.directory.parent.parent.rglob("*"))
    with pytest.raises(Refused) as caught:
        releases.add(str(source), sha512)
    assert sorted(releases.directory.parent.parent.rglob("*")) == before
    return caught.value.reason


def test_an_archive_becomes_a_directory(tmp_path: Path, releases: Releases, state: Path) -> None:
    umask = os.umask(0o077)
    try:
        there = added(releases, tmp_path)
    finally:
        os.umask(umask)
    assert there.directory == state / "releases" / "kubernetes" / "v1.20.2"
    assert (there.version, there.version.minor) == (OLD, 20)
    assert {path.name for path in there.directory.iterdir()} == {*made.KNOWN, release.FILE}
    for name, content in made.programs().items():
        path = there.directory / name
        assert path.read_bytes() == content
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o755, os.geteuid())
        assert there.binaries[name].sha512 == made.sum_of(content)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (there.directory, *there.directory.parents)
    ]
    assert modes[:4] == [0o755, 0o755, 0o755, 0o711], "nodes pass through, and read the last"
    told = json.loads((there.directory / release.FILE).read_bytes())
    assert told["version"] == "v1.20.2"
    assert told["source"] == str(tmp_path / "v1.20.2" / "k8s.tar.gz")
    assert told["sha512"] == made.sum_of(made.archive(made.programs()))
    assert there == releases.get(OLD)


def test_kubeadm_need_not_be_there(tmp_path: Path, releases: Releases) -> None:
    content = made.archive(made.programs(names=made.KNOWN[:-1]))
    there = releases.add(str(made.published(tmp_path, content))).release
    assert "kubeadm" not in there.binaries


def test_the_very_same_is_there_already(tmp_path: Path, releases: Releases) -> None:
    first = added(releases, tmp_path)
    file = tmp_path / "v1.20.2" / "k8s.tar.gz"
    again = releases.add(str(file))
    assert (again.release, again.is_new) == (first, False)
    file.unlink()
    assert not releases.add(str(file)).is_new, "its sum is known: nothing is fetched"
    folder = made.folder(tmp_path / "folder", made.programs())
    assert not releases.add(str(folder)).is_new
    assert not list(releases.directory.glob(".*"))


def test_one_version_is_one_content(tmp_path: Path, releases: Releases) -> None:
    first = added(releases, tmp_path)
    other = {**made.programs(), "kubectl": made.program("another")}
    assert f"other programs (from {first.source})" in refused(
        releases, made.folder(tmp_path / "other", other)
    )
    (first.directory / "kubectl").write_bytes(made.programs()["kubectl"][:-1] + b"L")
    for source in (tmp_path / "v1.20.2" / "k8s.tar.gz", tmp_path / "other"):
        assert "kubectl is not as it was added" in refused(releases, source)


def test_several_side_by_side(tmp_path: Path, releases: Releases) -> None:
    with pytest.raises(NotFound, match="moorage release add"):
        releases.newest()
    for version in ("v1.9.9", "v1.38.0", "v2.0.0"):
        content = made.archive(made.programs(version))
        with pytest.raises(Refused, match=r"not among 1\.20 to 1\.37"):
            releases.add(str(made.published(tmp_path / version, content)))
    for version in ("v1.20.2", "v1.37.1", "v1.20.15", "v1.37.2-rc.1", "v1.28.3+k3s1"):
        assert str(added(releases, tmp_path, version).version) == version
    assert [str(each.version) for each in releases.list()] == [
        *("v1.37.2-rc.1", "v1.37.1", "v1.28.3+k3s1", "v1.20.15", "v1.20.2"),
    ]
    assert releases.newest().version == NEW
    with pytest.raises(
        NotFound, match=r"no release v1\.30\.0 .* there is v1\.37\.2-rc\.1, v1\.37\.1,"
    ):
        releases.get(Version(1, 30, 0))


@pytest.mark.parametrize("name", made.KNOWN[:-1])
def test_one_that_is_incomplete(tmp_path: Path, releases: Releases, name: str) -> None:
    content = {other: text for other, text in made.programs().items() if other != name}
    assert f"it lacks {name}." in refused(releases, made.published(tmp_path, made.archive(content)))
    assert f"it lacks {name}." in refused(releases, made.folder(tmp_path / "folder", content))


def test_a_coredns_of_its_own(tmp_path: Path, releases: Releases) -> None:
    archive = made.published(tmp_path, made.archive(made.programs()))
    plain = tmp_path / "coredns"
    plain.write_bytes(made.program("CoreDNS-1.8.0\n"))
    first = releases.add(str(archive), coredns=plain).release
    assert (first.directory / "coredns").read_bytes() == plain.read_bytes()
    assert releases.having("coredns") == {"v1.20.2"}
    assert not releases.add(str(archive), coredns=plain).is_new
    assert not releases.add(str(archive)).is_new, "the archive is there, and more"
    plain.write_bytes(made.program("CoreDNS-1.9.0\n"))
    with pytest.raises(Conflict, match="there already with other programs"):
        releases.add(str(archive), coredns=plain)
    releases.remove(first.version, {})
    assert releases.having("coredns") == set()
    for odd, why in (
        (made.program(machine=made.ELSEWHERE), "is made for "),
        (made.program(interpreter="/lib64/ld-linux-x86-64.so.2"), "linked statically"),
        (b"#!/bin/sh\n", "is no ELF program"),
    ):
        plain.write_bytes(odd)
        with pytest.raises(Refused, match=f"^coredns {why}|^coredns .*{why}"):
            releases.add(str(archive), coredns=plain)
    with pytest.raises(FileNotFoundError):
        releases.add(str(archive), coredns=tmp_path / "nowhere")
    assert releases.list() == []
    directory = made.folder(tmp_path / "folder", made.programs())
    (directory / "coredns").write_bytes(made.program("CoreDNS-1.8.0\n"))
    assert "coredns" in releases.add(str(directory)).release.binaries


def test_a_clients_archive(tmp_path: Path, releases: Releases) -> None:
    content = made.archive({}, made.entry("kubernetes/client/bin/kubectl", b"x"))
    said = refused(releases, made.published(tmp_path, content))
    assert "lacks kube-apiserver, kube-controller-manager" in said
    assert "not of the client's" in said


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (made.program(machine=made.ELSEWHERE), "is made for "),
        (b"#!/bin/sh\necho Kubernetes v1.20.2\n", "is no ELF program"),
        (b"", "is no ELF program: it is empty"),
        (made.program()[:20], "its header is cut off"),
        (made.program()[:70], "its header is cut off"),
        (made.program()[:16] + b"\1" + made.program()[17:], "its type is 1"),
        (made.program()[:56] + b"\xff\xff" + made.program()[58:], "table of segments can't be"),
        (made.program(interpreter="/lib/ld.so"), "needs /lib/ld.so"),
    ],
)
@pytest.mark.parametrize("name", ["kube-proxy", "kubelet"])
def test_what_does_not_run_here(
    tmp_path: Path, releases: Releases, odd: bytes, said: str, name: str
) -> None:
    content = {**made.programs(), name: odd}
    reason = refused(releases, made.published(tmp_path, made.archive(content)))
    assert name in reason
    assert said in reason


def test_both_architectures_are_named(tmp_path: Path) -> None:
    content = made.archive(
        {name: made.program(machine=made.ARM64) for name in made.KNOWN},
    )
    there = Releases(tmp_path / "state", architecture="s390x", version_of=lambda _: OLD)
    said = refused(there, made.published(tmp_path, content))
    assert "made for arm64, and this machine is s390x" in said
    assert "kubernetes-server-linux-s390x.tar.gz" in said


def test_a_kubelet_may_need_the_c_library(tmp_path: Path) -> None:
    """Upstream's was linked to it for years; nodes see this machine's."""
    loader = tmp_path / "ld.so"
    loader.touch()
    content = made.archive({**made.programs(), "kubelet": made.program(interpreter=str(loader))})
    there = Releases(tmp_path / "state", version_of=lambda _: OLD)
    assert there.add(str(made.published(tmp_path, content))).is_new


def test_programs_of_two_releases(tmp_path: Path, releases: Releases) -> None:
    mixed = {**made.programs(), "kubelet": made.programs("v1.20.3")["kubelet"]}
    said = refused(releases, made.published(tmp_path, made.archive(mixed)))
    assert "kube-apiserver is v1.20.2, and kubelet is v1.20.3" in said


def test_nothing_runs_that_is_not_what_was_published(tmp_path: Path, state: Path) -> None:
    def run(path: Path) -> Version:
        raise AssertionError(path)

    there = Releases(state, version_of=run)
    good = made.archive(made.programs())
    file = made.published(tmp_path, good)
    file.write_bytes(made.archive({**made.programs(), "kubelet": made.program("evil")}))
    said = refused(there, file)
    assert f"{made.sum_of(good)} is expected" in said
    assert made.sum_of(file.read_bytes()) in said
    file.write_bytes(good[:-1])
    assert "cut off or changed on its way" in refused(there, file, made.sum_of(good).upper())
    odd = {**made.programs(), "kubectl": made.program(machine=made.ELSEWHERE)}
    assert "is made for" in refused(there, made.published(tmp_path, made.archive(odd)))


def test_a_sum_is_needed(tmp_path: Path, releases: Releases) -> None:
    content = made.archive(made.programs())
    file = made.published(tmp_path, content)
    beside = file.with_name("k8s.tar.gz.sha512")
    beside.unlink()
    assert f"there is no {beside}. Say by --sha512" in refused(releases, file)
    for text in (
        "",
        "no sum",
        "ab" * 32,
        f"{made.sum_of(content)}\n{made.sum_of(b'')}",
        "\xff" * 9,
    ):
        beside.write_text(text)
        assert "holds no SHA-512 of k8s.tar.gz" in refused(releases, file)
    beside.write_text("x" * 70_000)
    assert "more than 65536 bytes" in refused(releases, file)
    other = tmp_path / "SHA512SUMS"
    other.write_text(f"{made.sum_of(b'')}  other.gz\n{made.sum_of(content)} *./k8s.tar.gz\n")
    assert releases.add(str(file), str(other)).is_new


@pytest.mark.parametrize("given", ["ab" * 32, "ab" * 65, "abcd" * 20])
def test_another_sum_is_told_apart(tmp_path: Path, releases: Releases, given: str) -> None:
    file = made.published(tmp_path, made.archive(made.programs()))
    with pytest.raises(Invalid, match="is no SHA-512, which has 128"):
        releases.add(str(file), given)
    with pytest.raises(NotFound, match="no file"):
        releases.add(str(file), "sum.txt")


def test_a_directory_is_taken_as_it_is(tmp_path: Path, releases: Releases) -> None:
    folder = made.folder(tmp_path / "built", {**made.programs(), "SHA512SUMS": b"ours"})
    assert "has no SHA-512" in refused(releases, folder, "ab" * 64)
    there = releases.add(str(folder)).release
    assert (there.sha512, there.source) == (None, str(folder))
    assert sorted(there.binaries) == sorted(made.KNOWN)
    (folder / "kubelet").unlink()
    (folder / "kubelet").symlink_to("/etc/shadow")
    assert "kubelet is a link" in refused(releases, folder)
    (folder / "kubelet").unlink()
    os.mkfifo(folder / "kubelet")
    assert "kubelet is no plain file" in refused(releases, folder)


def test_a_source_that_is_no_file(tmp_path: Path, releases: Releases) -> None:
    assert "There is no file" in refused(releases, tmp_path / "none.tar.gz", "ab" * 64)
    os.mkfifo(tmp_path / "pipe")
    assert "no plain file" in refused(releases, tmp_path / "pipe", "ab" * 64)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_one_that_was_packed_by_another_program(
    tmp_path: Path, releases: Releases, form: int
) -> None:
    assert releases.add(
        str(made.published(tmp_path, made.by_tarfile(made.programs(), form)))
    ).is_new


def test_it_is_removed_when_nobody_needs_it(tmp_path: Path, releases: Releases) -> None:
    there = added(releases, tmp_path)
    added(releases, tmp_path, "v1.37.1")
    users = {OLD: [f"c{number}" for number in range(7)]}
    with pytest.raises(Conflict, match="in use by c0, c1, c2, c3, c4 and 2 more: upgrade"):
        releases.remove(OLD, users)
    assert releases.get(OLD) == there
    releases.remove(NEW, users)
    releases.remove(OLD, {})
    assert list(releases.directory.iterdir()) == []
    with pytest.raises(NotFound, match="there is none"):
        releases.remove(OLD, {})


def test_a_damaged_one_is_told_and_can_go(tmp_path: Path, releases: Releases) -> None:
    good = added(releases, tmp_path, "v1.37.1")
    for number, text in enumerate((b"", b"[]", b"{}", b'{"version": "v1.30.1"}')):
        broken = releases.directory / f"v1.30.{number}"
        broken.mkdir()
        (broken / release.FILE).write_bytes(text)
    lacking = added(releases, tmp_path).directory
    (lacking / "kubelet").unlink()
    moved = added(releases, tmp_path, "v1.20.3").directory
    moved.rename(releases.directory / "v1.20.9")
    assert list(releases.list()) == [good]
    assert releases.newest() == good
    assert len(releases.damaged()) == 6
    for name in ("v1.30.0", "v1.30.1", "v1.30.2", "v1.30.3", "v1.20.2", "v1.20.9"):
        with pytest.raises(Refused, match=f"damaged: .* moorage release remove kubernetes {name}"):
            releases.get(Version.parse(name))
        releases.remove(Version.parse(name), {})
    assert not releases.damaged()


def test_one_at_a_time(tmp_path: Path, releases: Releases, state: Path) -> None:
    def meanwhile(_: str) -> None:
        for other in (Releases(state).add, lambda _: Releases(state).remove(NEW, {})):
            with pytest.raises(Conflict, match="just now"):
                other(str(tmp_path))
        said.append("refused")

    said: list[str] = []
    added(releases, tmp_path, "v1.37.1")
    file = made.published(tmp_path, made.archive(made.programs()))
    assert releases.add(str(file), tell=meanwhile).is_new
    assert said


def test_a_full_disk_changes_nothing(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made.published(tmp_path, made.archive(made.programs()))
    before, real, left = sorted(tmp_path.rglob("*")), os.fsync, [0]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for number in range(len(made.KNOWN) + 2):  # each program, release.json, its directory
        left[0] = number
        with pytest.raises(OSError, match="No space left"):
            releases.add(str(file))
        assert sorted(tmp_path.rglob("*")) == before, number


def test_killed_anywhere_it_is_added_by_the_next(tmp_path: Path, state: Path) -> None:
    """SIGKILL at each sync to the disk, in a process of its own."""
    file = made.published(tmp_path, made.archive(made.programs()))
    for number in range(1, 60):
        child = os.fork()
        if child == 0:
            _killed_at(number, lambda: Releases(state).add(str(file)))
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        there = Releases(state).list()
        assert not Releases(state).damaged()
        assert Releases(state).add(str(file)).is_new is not bool(there), number
        assert [path.name for path in Releases(state).directory.iterdir()] == ["v1.20.2"]
        Releases(state).remove(OLD, {})
    else:
        raise AssertionError("it never came to its end")
    assert number > len(made.KNOWN)


def test_killed_anywhere_it_is_removed_by_the_next(tmp_path: Path, state: Path) -> None:
    releases = Releases(state)
    added(releases, tmp_path)
    child = os.fork()
    if child == 0:
        _killed_at(1, lambda: Releases(state).remove(OLD, {}))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not releases.list()
    assert list(releases.directory.iterdir()), "what is left of it"
    added(releases, tmp_path)
    assert [path.name for path in releases.directory.iterdir()] == ["v1.20.2"]


def _killed_at(number: int, work: Callable[[], object]) -> None:
    """In a child: SIGKILL at the n-th sync, else exit code 0."""
    real, left = os.fsync, [number]

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = sync  # type: ignore[assignment]
    try:
        work()
    except MoorageError:
        os._exit(9)
    finally:
        os._exit(0)
