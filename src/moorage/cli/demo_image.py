"""The demo's image, made on the spot: no registry is asked, no engine builds it.

It holds Debian's static busybox and tini, a page and a script that serves it, and is
laid out as `docker save` does (https://github.com/moby/docker-image-spec, v1.2,
"Combined image JSON + filesystem changeset"). The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

from moorage.cli.failure import Code, Failure

TAG = "moorage/web:1"
EXAMPLE = "web"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
APPLETS = ("sh", "sed", "hostname", "httpd", "cat", "ls", "ps", "wget")
PROGRAMS = {
    "bin/busybox": (("/usr/bin/busybox", "/bin/busybox"), "busybox-static"),
    # As PID 1, busybox would ignore SIGTERM, and a stop would take its ten seconds' grace.
    "sbin/tini": (("/usr/bin/tini-static",), "tini"),
}


def example() -> Path:
    """The directory of the example: in the package, or beside it in a source tree."""
    import moorage

    package = Path(moorage.__file__).parent
    places = (package / "examples" / EXAMPLE, package.parents[1] / "examples" / EXAMPLE)
    for place in places:
        if (place / "compose.yaml").exists():
            return place
    raise Failure(
        f"the example is missing: looked in {', '.join(map(str, places))}", code=Code.NOT_FOUND
    )


def contents(directory: Path) -> dict[str, bytes]:
    """What goes into the image, by path, from this machine's packages and the example."""
    files = {
        "www/page.html": (directory / "page.html").read_bytes(),
        "bin/serve": (directory / "serve").read_bytes(),
    }
    for name, (paths, package) in PROGRAMS.items():
        found = next((path for path in map(Path, paths) if path.exists()), None)
        if found is None:
            raise Failure(
                f"{paths[0]} is missing: the demo's image is made of it",
                code=Code.NOT_FOUND,
                mend=f"apt-get install -y {package}",
            )
        files[name] = found.read_bytes()
    return files


def archive(files: Mapping[str, bytes], machine: str | None = None) -> bytes:
    """A `docker load` archive with one image, one layer and the tag TAG."""
    layer = _layer(files)
    config = _json(
        {
            "architecture": ARCHITECTURES.get(machine or platform.machine(), "amd64"),
            "os": "linux",
            "created": EPOCH,
            "config": {
                "Entrypoint": ["/sbin/tini", "--"],
                "Cmd": ["/bin/serve"],
                "Env": ["PATH=/bin:/sbin"],
                "ExposedPorts": {"8080/tcp": {}},
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
            "history": [{"created": EPOCH, "created_by": "moorage demo"}],
        }
    )
    name, folder = f"{_digest(config)}.json", _digest(layer)
    manifest = [{"Config": name, "RepoTags": [TAG], "Layers": [f"{folder}/layer.tar"]}]
    return _tar(
        {
            name: config,
            f"{folder}/layer.tar": layer,
            "manifest.json": _json(manifest),
        }
    )


def _layer(files: Mapping[str, bytes]) -> bytes:
    directories = sorted({parent for name in files for parent in _parents(name)} | {"tmp"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for directory in directories:
            tar.addfile(_entry(directory, tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755))
        for applet in APPLETS:
            link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, data in sorted(files.items()):
            _add(tar, name, data, 0o755 if "bin/" in name else 0o644)
    return buffer.getvalue()


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents if parent != Path()]


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            _add(tar, name, data, 0o644)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, tarfile.REGTYPE, mode)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """Owner, group and time are always 0: nothing of this machine gets in."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
