"""Programs as files: whether one is made for this machine, by its ELF header.

https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from moorage.model.errors import Refused

MACHINES = {3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64"}
MACHINES |= {243: "riscv64", 258: "loong64"}
"""The header's e_machine, as Kubernetes names it in its archives."""
KERNEL_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "loongarch64": "loong64",
}
"""What uname says, where that is another name."""
_MAGIC = b"\x7fELF"
_PROGRAMS = (2, 3)
"""e_type: ET_EXEC, ET_DYN."""
_INTERPRETER = 3
"""p_type: PT_INTERP, which what is linked statically doesn't have."""
_SEGMENTS = 256
"""Real programs have a dozen: more are not read."""
_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """`architecture` as in MACHINES, or `machine 1234`. `interpreter`: None where it is static."""

    architecture: str
    interpreter: str | None


def here() -> str:
    """The architecture of this machine, as in MACHINES."""
    name = platform.machine()
    return KERNEL_NAMES.get(name, name)


def read(path: Path) -> Program:
    """Raises Refused where the file is no ELF program, or one that is cut off."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except struct.error:
            raise Refused(f"{path.name} is no ELF program: its header is cut off.") from None
        except _NoProgram as no:
            raise Refused(f"{path.name} is no ELF program: {no}.") from None


class _NoProgram(Exception):
    pass


def _read(file: IO[bytes]) -> Program:
    head = file.read(64)
    if head[:4] != _MAGIC:
        raise _NoProgram(f"it begins with {head[:4]!r}" if head else "it is empty")
    wide, order = head[4] == 2, {1: "<", 2: ">"}.get(head[5])
    if head[4] not in (1, 2) or order is None:
        raise _NoProgram("its class or byte order is unknown")
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    if kind not in _PROGRAMS:
        raise _NoProgram(f"its type is {kind}")
    # e_phoff, e_phentsize, e_phnum; then of each segment p_type, p_offset, p_filesz.
    where, sizes, segment = (32, 54, "I4xQ16xQ") if wide else (28, 42, "II8xI")
    (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, where)
    size, count = struct.unpack_from(f"{order}HH", head, sizes)
    if count > _SEGMENTS or size < struct.calcsize(f"{order}{segment}"):
        raise _NoProgram("its table of segments can't be")
    interpreter = None
    for number in range(count):
        kind, start, length = struct.unpack_from(
            f"{order}{segment}", _at(file, offset + number * size, size)
        )
        if kind == _INTERPRETER:
            path = _at(file, start, min(length, _PATH_BYTES))
            interpreter = path.rstrip(b"\0").decode(errors="replace")
    return Program(MACHINES.get(machine, f"machine {machine}"), interpreter)


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    if offset >= 1 << 62:
        raise _NoProgram("its table of segments can't be")
    file.seek(offset)
    return file.read(size)
