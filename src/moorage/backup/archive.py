"""The file: a tar archive that says what must be in it.

    manifest.json       kind, format, versions, and size and SHA-256 of each part
    <the parts>         only names that are known here, only plain files, each once
    manifest.sha256     the sum of the first; a file that was cut off does not have it

It is read front to back, so that it may come from a pipe. The sums find what was damaged
or cut off. They are no signature: who can write such a file can write its sums too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from moorage.model.errors import Refused

KIND = "moorage backup"
FORMAT = 1
MANIFEST, SUM = "manifest.json", "manifest.sha256"
SQLITE, PGDUMP = "database.sqlite", "database.pgdump"
SEAL, SETTINGS, INSTALL = "seal.key", "settings.json", "install"
KEYSTONE = "keystone"
"""The directory of the embedded Keystone's own parts."""
PARTS = re.compile(
    r"database\.(sqlite|pgdump)|seal\.key|settings\.json|install|"
    r"keystone/(keystone\.db|bootstrapped|(admin|moorage)\.password|"
    r"(fernet|credential)-keys/[0-9]{1,9})"
)
"""What an archive may hold: nothing is ever written under a name that is not one of these."""
MANIFEST_BYTES = 1 << 20
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """`size` is in bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself. `made_at` is RFC 3339, in UTC.

    `keystone` is the embedded Keystone's version; None where the install uses another.
    `state` and `nodes` are the directories of the install when it was saved.
    """

    moorage: str
    keystone: str | None
    made_at: str
    host: str
    state: str
    nodes: str
    install: str
    parts: Mapping[str, Part]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts.values())

    def written(self) -> bytes:
        return json.dumps({"kind": KIND, "format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def read(cls, text: bytes) -> Manifest:
        """Raises Refused for what is none, and for that of a newer Moorage."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value.pop("kind") != KIND:
                raise Refused(FOREIGN)
            number = int(value.pop("format"))
            if number > FORMAT:
                raise Refused(
                    f"The backup was made by a newer Moorage ({value.get('moorage')}): its format "
                    f"is {number}, and this one ({FORMAT}) can't read it. Install that version."
                )
            parts = {name: Part(**part) for name, part in value.pop("parts").items()}
            return cls(**value, parts=parts)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(FOREIGN) from None


FOREIGN = "This is not a backup of Moorage."
DAMAGED = "The backup is damaged or was cut off"


def part_of(path: Path) -> Part:
    with path.open("rb") as file:
        return Part(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write(stream: IO[bytes], manifest: Manifest, directory: Path) -> None:
    """The archive of the parts in `directory`."""
    told = manifest.written()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_entry(MANIFEST, len(told)), io.BytesIO(told))
        for name, part in manifest.parts.items():
            with (directory / name).open("rb") as file:
                tar.addfile(_entry(name, part.size), file)
        total = hashlib.sha256(told).hexdigest().encode()
        tar.addfile(_entry(SUM, len(total)), io.BytesIO(total))


def unpack(stream: IO[bytes], directory: Path) -> Manifest:
    """Write the parts into `directory`. Raises Refused for anything that is not as it should be."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            return _unpack(tar, directory)
    except tarfile.ReadError as error:
        first = not any(directory.iterdir())
        raise Refused(FOREIGN if first else f"{DAMAGED}: {error}.") from None
    except (tarfile.TarError, EOFError) as error:
        raise Refused(f"{DAMAGED}: {error}.") from None


def _unpack(tar: tarfile.TarFile, directory: Path) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not _plain(first):
        raise Refused(FOREIGN)
    told = _content(tar, first)
    manifest = Manifest.read(told)
    if strange := [name for name in manifest.parts if not PARTS.fullmatch(name)]:
        raise Refused(f"{FOREIGN} It names a part {strange[0]!r}.")
    missing = dict(manifest.parts)
    while (entry := tar.next()) is not None and entry.name != SUM:
        part = missing.pop(entry.name, None)
        if part is None or not _plain(entry):
            raise Refused(f"{DAMAGED}: {entry.name!r} does not belong in it.")
        source = tar.extractfile(entry)
        assert source is not None  # noqa: S101 - it is a plain file
        if _copied(source, directory / entry.name) != part:
            raise Refused(f"{DAMAGED}: {entry.name} is not as it was saved.")
    if missing:
        raise Refused(f"{DAMAGED}: {min(missing)} is missing.")
    if entry is None or not _plain(entry):
        raise Refused(f"{DAMAGED}: its end is missing.")
    if _content(tar, entry) != hashlib.sha256(told).hexdigest().encode():
        raise Refused(f"{DAMAGED}: {MANIFEST} is not as it was saved.")
    return manifest


def _plain(entry: tarfile.TarInfo) -> bool:
    return entry.isreg() and not entry.issparse()


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(entry)
    assert source is not None  # noqa: S101 - it is a plain file
    return source.read(MANIFEST_BYTES)


def _copied(source: IO[bytes], target: Path) -> Part:
    """Copy to `target`, for its owner only; what was there to copy."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while block := source.read(BLOCK):
            file.write(block)
            digest.update(block)
            size += len(block)
    return Part(size, digest.hexdigest())


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
