"""Upstream's archive, kubernetes-server-linux-<arch>.tar.gz: what is taken out of it.

The programs in `kubernetes/server/bin` are, and nothing else of it is ever written: no
other name, no link, no owner, no mode. Its format is read here and not by `tarfile`, for that
takes a header's word for how much memory it wants, and calls itself for each header.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moorage.model.errors import Refused
from moorage.releases import binary
from moorage.releases.binary import Binary

PLACE = ("kubernetes", "server", "bin")
MOST_BYTES = 16 << 30
"""Unpacked; upstream's have 2 GB."""
MOST_ENTRIES = 20_000
HEADER_BYTES = 1 << 16
"""Of a long name, or of extended attributes."""
DAMAGED = "The archive is damaged or was cut off"
_UNIT = tarfile.BLOCKSIZE
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}
_HARMLESS = (
    "mtime",
    "atime",
    "ctime",
    "uid",
    "gid",
    "uname",
    "gname",
    "comment",
    "SCHILY.",
    "LIBARCHIVE.",
)
"""Extended attributes that change nothing of what is taken; they are left out."""


def unpack(archive: Path, directory: Path) -> dict[str, Binary]:
    """Write the programs into `directory`; by name what they are.

    Raises Refused for an archive that is not whole, lacks one, holds one twice, or holds
    anything that upstream's don't: a path that leads out of it, a link, a device, sizes
    beyond all reason.
    """
    found: dict[str, Binary] = {}
    with archive.open("rb") as file, gzip.GzipFile(fileobj=file) as stream:
        whole = _Stream(stream)
        for entry in _entries(whole):
            name = _wanted(entry)
            if name is None:
                continue
            if name in found:
                raise Refused(f"The archive holds {entry.path!r} twice.")
            found[name] = binary.keep(entry.read, directory / name)
        whole.read_to_end()
    binary.refuse_missing(set(found), "The archive")
    return found


def _wanted(entry: _Entry) -> str | None:
    parts = tuple(part for part in entry.path.split("/") if part not in ("", "."))
    if entry.path.startswith("/") or ".." in parts or "\0" in entry.path:
        raise Refused(f"The archive holds a path that leads out of it: {entry.path!r}.")
    if entry.is_file and parts[:-1] == PLACE and parts[-1] in binary.KNOWN:
        return parts[-1]
    return None


@dataclass(slots=True)
class _Entry:
    """A file or a directory. What of `left` bytes isn't read is passed over."""

    path: str
    is_file: bool
    left: int
    stream: _Stream

    def read(self, size: int) -> bytes:
        block = self.stream.read(min(size, self.left))
        self.left -= len(block)
        return block


class _Stream:
    """What is unpacked, and how much of it."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._total = 0

    def read(self, size: int) -> bytes:
        """Exactly so many bytes. Raises Refused where there are no more, or too many in all."""
        parts = []
        while size:
            block = self._some(min(size, binary.BLOCK))
            if not block:
                raise Refused(f"{DAMAGED}: it ends in the middle.")
            parts.append(block)
            size -= len(block)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_to_end(self) -> None:
        """What comes after the last entry says nothing, but that the archive is whole."""
        while self._some(binary.BLOCK):
            pass

    def _some(self, most: int) -> bytes:
        try:
            block = self._stream.read(most)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Refused(f"{DAMAGED}: {error}.") from None
        self._total += len(block)
        if self._total > MOST_BYTES:
            raise Refused(f"The archive unpacks to more than {MOST_BYTES >> 30} GiB.")
        return block


def _entries(stream: _Stream) -> Iterator[_Entry]:
    """Files and directories, each with its whole name. Raises Refused for anything else."""
    renamed: str | None = None
    for _ in range(MOST_ENTRIES):
        head = stream.read(_UNIT)
        if not any(head):
            return
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise Refused(f"{DAMAGED}: {error}.") from None
        if info.size < 0:
            raise Refused(f"{DAMAGED}: {info.name!r} has {info.size} bytes.")
        if info.type == tarfile.GNUTYPE_LONGNAME:
            renamed = _text(_header(stream, info.size).partition(b"\0")[0])
            continue
        if info.type in _EXTENDED:
            renamed = _renamed(_header(stream, info.size)) or renamed
            continue
        path = info.name if renamed is None else renamed
        if info.type not in (*_FILES, tarfile.DIRTYPE):
            kind = _KINDS.get(info.type, f"an entry of type {info.type!r}")
            raise Refused(f"The archive holds {kind}, which upstream's never do: {path!r}.")
        renamed = None
        is_file = info.type in _FILES
        entry = _Entry(path, is_file, info.size if is_file else 0, stream)
        yield entry
        while entry.left:
            entry.read(binary.BLOCK)
        _pad(stream, info.size if is_file else 0)
    raise Refused(f"The archive holds more than {MOST_ENTRIES} entries.")


def _header(stream: _Stream, size: int) -> bytes:
    if size > HEADER_BYTES:
        raise Refused(f"{DAMAGED}: a header of {size} bytes.")
    content = stream.read(size)
    _pad(stream, size)
    return content


def _pad(stream: _Stream, size: int) -> None:
    stream.read(-size % _UNIT)


def _renamed(records: bytes) -> str | None:
    """The path in extended attributes. Raises Refused where they change what the entry is.

    Each is `length name=value\\n`, the length its own digits included.
    """
    path = None
    while records:
        length, _, _ = records.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 7 else 0
        name, sign, value = records[len(length) + 1 : size - 1].partition(b"=")
        if not sign or records[size - 1 : size] != b"\n":
            raise Refused(f"{DAMAGED}: its extended attributes can't be read.")
        if name == b"path":
            path = _text(value)
        elif not _text(name).startswith(_HARMLESS):
            raise Refused(f"The archive holds an attribute that is not known: {_text(name)!r}.")
        records = records[size:]
    return path


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
