"""The bundle: what a node is given, and what it is not."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from moorage.model.node import Flavor, NodeRef, NodeSpec, Role
from moorage.providers.local import bundle
from moorage.providers.local.place import Marks, Place
from moorage.providers.local.slots import subid

SPEC = NodeSpec(
    owner="5d0f0b5e-0f2b-4a53-9a43-d0a3a7f0f2c1",
    name="master-0",
    role=Role.MASTER,
    flavor=Flavor("small", vcpus=2, memory_mib=1024, disk_gib=2, pids=4096),
    hostname="demo-master-0",
    expose=2376,
)
MARKS = Marks.of(SPEC, install="abc", slot=17, index=0)
PLACE = Place(Path("/nodes/demo"), NodeRef(SPEC.owner, SPEC.name))


def test_the_marks_survive_the_way_through_the_bundle(tmp_path: Path) -> None:
    place = Place(tmp_path, NodeRef(SPEC.owner, SPEC.name))
    place.directory.mkdir()
    place.write(bundle.config(PLACE, SPEC, MARKS))
    assert place.marks() == MARKS


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"annotations": {}}', '{"annotations": {"a": ""}}']
)
def test_marks_that_are_not_ours_are_none(tmp_path: Path, text: str) -> None:
    place = Place(tmp_path, NodeRef(SPEC.owner, SPEC.name))
    assert place.marks() is None
    place.directory.mkdir()
    place.config.write_text(text)
    assert place.marks() is None


def test_a_node_is_limited_by_its_flavor_and_lives_in_its_clusters_ids() -> None:
    linux = bundle.config(PLACE, SPEC, MARKS)["linux"]
    assert linux["resources"]["memory"] == {"limit": 1024 * 2**20}
    assert linux["resources"]["cpu"] == {"quota": 200_000, "period": 100_000}
    assert linux["resources"]["pids"] == {"limit": 4096}
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": subid(17), "size": 65536}]
    assert linux["gidMappings"] == linux["uidMappings"]
    namespaces = {namespace["type"]: namespace.get("path") for namespace in linux["namespaces"]}
    assert namespaces == {"user": str(PLACE.userns), **dict.fromkeys(bundle.NAMESPACES)}
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}


def test_what_is_bound_from_the_machine_is_read_only_and_short() -> None:
    bound = {
        m["source"]: m["options"]
        for m in bundle.config(PLACE, SPEC, MARKS)["mounts"]
        if m["type"] == "bind"
    }
    assert set(bound) <= {"/usr", "/etc/ssl/certs"}
    assert all({"ro", "nosuid", "nodev"} <= set(options) for options in bound.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to sub-ids: needs root")
def test_what_a_node_shares_with_the_machine_is_read_only() -> None:
    spec = dataclasses.replace(SPEC, shares={"/opt/kubernetes": "/releases/v1.20.2"})
    (mount,) = [
        m
        for m in bundle.config(PLACE, spec, MARKS)["mounts"]
        if m["destination"] == "/opt/kubernetes"
    ]
    assert (mount["source"], mount["type"]) == ("/releases/v1.20.2", "bind")
    assert {"ro", "nosuid", "nodev"} <= set(mount["options"])


def test_a_root_belongs_to_its_sub_ids_and_is_not_laid_twice(tmp_path: Path) -> None:
    place = Place(tmp_path, NodeRef(SPEC.owner, SPEC.name))
    place.directory.mkdir()
    bundle.lay_root(place, SPEC, MARKS, "nameserver 192.0.2.53\n")
    everything = [place.root, *place.root.rglob("*")]
    assert {path.lstat().st_uid for path in everything} == {subid(17)}
    assert {path.lstat().st_gid for path in everything} == {subid(17)}
    assert (place.root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\n"
    # From its first start on the root is the tenant's: a link there must stay untouched.
    victim = tmp_path / "victim"
    victim.write_text("the machine's")
    (place.root / "etc/hostname").unlink()
    (place.root / "etc/hostname").symlink_to(victim)
    bundle.lay_root(place, SPEC, MARKS, "")
    assert victim.read_text() == "the machine's"


def test_nothing_of_the_machines_accounts_is_shared() -> None:
    assert bundle.etc(SPEC, "")["passwd"].count("\n") == 2
    assert set(bundle.etc(SPEC, "")) == {
        *("passwd", "group", "hostname", "hosts", "machine-id", "nsswitch.conf", "resolv.conf")
    }


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str]]]:
    """What was fsynced, in order, and what lay beside it by then."""
    seen: list[tuple[str, set[str]]] = []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path.name, {p.name for p in path.parent.iterdir()}))

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_marks_that_are_there_outlive_a_power_cut(
    tmp_path: Path, synced: list[tuple[str, set[str]]]
) -> None:
    place = Place(tmp_path, NodeRef(SPEC.owner, SPEC.name))
    place.directory.mkdir()
    place.write(bundle.config(PLACE, SPEC, MARKS))
    (draft, before), (directory, _) = synced
    assert (draft, before) == ("config.draft", {"config.draft"})
    assert directory == place.directory.name


def test_a_root_has_its_name_once_its_files_are_on_the_disk(
    tmp_path: Path, synced: list[tuple[str, set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "lchown", lambda *_: None)
    place = Place(tmp_path, NodeRef(SPEC.owner, SPEC.name))
    place.directory.mkdir()
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        assert {name for name, _ in synced} == bundle.etc(SPEC, "").keys()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    bundle.lay_root(place, SPEC, MARKS, "")
    assert place.root.exists()
