"""The demo's image: the same bytes from the same files, in the layout of `docker save`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import yaml

from moorage.cli.demo_image import TAG, archive, example

FILES = {"bin/busybox": b"box", "sbin/tini": b"init", "bin/serve": b"#!", "www/page.html": b"<b>"}


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar}


def read(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def test_the_same_files_make_the_same_bytes() -> None:
    again = dict(reversed(FILES.items()))
    assert archive(FILES, "x86_64") == archive(again, "x86_64")
    assert archive(FILES, "x86_64") != archive(FILES | {"www/page.html": b"<i>"}, "x86_64")


def test_every_digest_fits() -> None:
    image = archive(FILES, "aarch64")
    [entry] = json.loads(read(image, "manifest.json"))
    assert entry["RepoTags"] == [TAG]
    config = read(image, entry["Config"])
    assert entry["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    layer = read(image, entry["Layers"][0])
    known = json.loads(config)
    assert known["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert known["architecture"] == "arm64"
    assert known["config"]["Entrypoint"][0] == "/sbin/tini"


def test_programs_can_be_run_and_nothing_belongs_to_anyone() -> None:
    image = archive(FILES, "x86_64")
    [entry] = json.loads(read(image, "manifest.json"))
    inside = members(read(image, entry["Layers"][0]))
    assert {inside[name].mode for name in ("bin/busybox", "sbin/tini", "bin/serve")} == {0o755}
    assert inside["www/page.html"].mode == 0o644
    assert inside["bin/sh"].linkname == "busybox"
    assert {(e.uid, e.gid, e.mtime, e.uname) for e in inside.values()} == {(0, 0, 0, "")}
    names = list(inside)
    assert names.index("bin") < names.index("bin/sh") < names.index("bin/busybox")


def test_the_compose_file_needs_no_ipvs_and_no_registry() -> None:
    compose = yaml.safe_load((example() / "compose.yaml").read_text())
    web = compose["services"]["web"]
    assert web["image"] == "${WEB_IMAGE}"
    assert web["deploy"]["endpoint_mode"] == "dnsrr"
    assert web["ports"] == [{"target": 8080, "mode": "host"}]
