"""A release as it lies on the disk, and what is written beside its programs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from moorage.model.errors import Refused
from moorage.releases import binary
from moorage.releases.binary import Binary
from moorage.releases.version import Version

FILE = "release.json"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Release:
    """`binaries`: by name; each is the file of that name in `directory`, which never changes.

    `architecture` as in upstream's names, e.g. amd64. `source`: the file, URL or directory
    that it was added from; `sha512` that of the archive, None where it was a directory.
    `added_at` is RFC 3339, in UTC.
    """

    version: Version
    directory: Path
    binaries: Mapping[str, Binary]
    architecture: str
    source: str
    sha512: str | None
    added_at: str

    @property
    def size(self) -> int:
        """In bytes, of all binaries."""
        return sum(each.size for each in self.binaries.values())

    def as_dict(self) -> dict[str, object]:
        """What `release.json` holds: the same names, and nothing that a JSON can't."""
        told = {**asdict(self), "version": str(self.version)}
        del told["directory"]
        return told

    def written(self) -> bytes:
        return json.dumps(self.as_dict(), indent=1).encode() + b"\n"


def read(directory: Path) -> Release:
    """The release in `directory`. Raises Refused where its files aren't as they were added."""
    try:
        with (directory / FILE).open("rb") as file:
            told = json.loads(file.read(_MOST_BYTES))
        binaries = {name: Binary(**each) for name, each in told.pop("binaries").items()}
        version = Version.parse(told.pop("version"))
        release = Release(version=version, directory=directory, binaries=binaries, **told)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(directory, f"its {FILE} can't be read") from None
    except Refused as wrong:
        raise _damaged(directory, wrong.reason) from None
    if str(version) != directory.name:
        raise _damaged(directory, f"it says that it is {version}")
    binary.refuse_missing(set(binaries), str(directory))
    for name, each in binaries.items():
        if _size(directory / name) != each.size:
            raise _damaged(directory, f"{name} is not as it was added")
    return release


def refuse_changed(release: Release) -> None:
    """Read all of it: raises Refused where a file is not as it was added."""
    for name, each in release.binaries.items():
        with (release.directory / name).open("rb") as file:
            if hashlib.file_digest(file, "sha512").hexdigest() != each.sha512:
                raise _damaged(release.directory, f"{name} is not as it was added")


def _size(path: Path) -> int | None:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return None


def _damaged(directory: Path, why: str) -> Refused:
    return Refused(
        f"The release in {directory} is damaged: {why.rstrip('.')}. Add it again after: "
        f"moorage release remove kubernetes {directory.name}"
    )
