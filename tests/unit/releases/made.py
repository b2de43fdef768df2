"""Releases as tests make them: real programs of two hundred bytes, and archives of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from moorage.releases import binary, elf

KNOWN = (*binary.NEEDED, "kubeadm")
AMD64, ARM64 = 62, 183
PLACE = "kubernetes/server/bin"
HERE = {"amd64": AMD64, "arm64": ARM64}[elf.here()]
ELSEWHERE = {AMD64: ARM64, ARM64: AMD64}[HERE]
_BASE = 0x400000


def program(
    says: str = "Kubernetes v1.20.2\n",
    *,
    machine: int = HERE,
    interpreter: str | None = None,
    for_ever: bool = False,
) -> bytes:
    """An ELF program that writes `says` and ends; or `for_ever`, again and again."""
    segments = 2 if interpreter else 1
    start = 64 + 56 * segments
    code_bytes = 33 if machine == AMD64 else 32
    code = (_amd64 if machine == AMD64 else _arm64)(_BASE + start + code_bytes, says, for_ever)
    assert len(code) == code_bytes
    body = code + says.encode()
    end = start + len(body)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, end, end, 4096)
    path = b"" if interpreter is None else interpreter.encode() + b"\0"
    more = struct.pack("<IIQQQQQQ", 3, 4, end, 0, 0, len(path), len(path), 1) if path else b""
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    fields = (2, machine, 1, _BASE + start, 64, 0, 0, 64, 56, segments, 0, 0, 0)
    head = ident + struct.pack("<HHIQQQIHHHHHH", *fields)
    return head + load + more + body + path


def _amd64(message: int, says: str, for_ever: bool) -> bytes:
    write = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\xbe" + struct.pack("<I", message)
    write += b"\xba" + struct.pack("<I", len(says)) + b"\x0f\x05"
    again = b"\xeb" + struct.pack("b", -len(write) - 2)
    return write + (again if for_ever else b"\x90\x90") + b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"


def _arm64(_: int, says: str, for_ever: bool) -> bytes:
    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    again = 0x17FFFFFB  # b .-20
    words = [movz(8, 64), movz(0, 1), 0x10000000 | 6 << 5 | 1, movz(2, len(says)), 0xD4000001]
    words += [again] if for_ever else [movz(8, 93)]
    return struct.pack("<8I", *words, movz(0, 0), 0xD4000001)


def programs(version: str = "v1.20.2", names: Iterable[str] = KNOWN) -> dict[str, bytes]:
    """By name. Each release has other programs, as real ones do."""
    return {name: program(f"Kubernetes {version}\n") + name.encode() for name in names}


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> bytes:
    """One entry of a tar archive, with what belongs to it."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), ""
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname, info.size = "/etc/shadow", 0
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Only what an entry begins with, whatever it claims."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def tar(binaries: Mapping[str, bytes], *before: bytes) -> bytes:
    """An archive as upstream's, but not compressed; `before` it all, other entries."""
    whole = b"".join(before) + entry("kubernetes/", kind=tarfile.DIRTYPE)
    whole += entry("kubernetes/LICENSES/vendor/" + "deep/" * 30 + "LICENSE", b"free")
    whole += entry(f"{PLACE}/kube-apiserver.tar", b"an image")
    for name, content in binaries.items():
        whole += entry(f"{PLACE}/{name}", content)
    return whole + bytes(1024)


def archive(binaries: Mapping[str, bytes], *before: bytes) -> bytes:
    return gzip.compress(tar(binaries, *before), compresslevel=1, mtime=0)


def sum_of(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def published(directory: Path, content: bytes, name: str = "k8s.tar.gz") -> Path:
    """The archive in a file, and its sum beside it as upstream writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_bytes(content)
    file.with_name(f"{name}.sha512").write_text(sum_of(content))
    return file


def folder(directory: Path, binaries: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name, content in binaries.items():
        (directory / name).write_bytes(content)
    return directory


def by_tarfile(binaries: Mapping[str, bytes], form: int) -> bytes:
    """As Python packs it: by another program than upstream's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as packed:
        for name, content in binaries.items():
            info = tarfile.TarInfo(f"./{PLACE}/{name}")
            info.size, info.mtime = len(content), 1.5
            packed.addfile(info, io.BytesIO(content))
    return stream.getvalue()
