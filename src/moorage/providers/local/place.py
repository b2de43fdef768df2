"""A node's place on this machine: its directory and the marks in it.

The marks are the annotations of the OCI bundle. They are written first (after the
directory and the slot) and removed last, and are enough to find everything else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moorage.model.node import NodeRef, NodeSpec, Role

PREFIX = "org.moorage."


@dataclass(frozen=True, slots=True)
class Marks:
    """What is written on a node."""

    install: str
    owner: str
    node: str
    role: Role
    slot: int
    index: int
    memory_mib: int
    expose: int | None
    revision: str = ""
    address: str = ""
    """It follows from slot and index as long as the pool is the same; empty for nodes of before
    this was written down."""

    @classmethod
    def of(cls, spec: NodeSpec, *, install: str, slot: int, index: int, address: str = "") -> Marks:
        return cls(
            install=install,
            owner=spec.owner,
            node=spec.name,
            role=spec.role,
            slot=slot,
            index=index,
            memory_mib=spec.flavor.memory_mib,
            expose=spec.expose,
            revision=spec.revision,
            address=address,
        )

    def annotations(self) -> dict[str, str]:
        return {PREFIX + name: "" if v is None else str(v) for name, v in asdict(self).items()}

    @classmethod
    def read(cls, annotations: dict[str, str]) -> Marks:
        """Raises KeyError or ValueError where the annotations are not ours."""
        value = {name.removeprefix(PREFIX): text for name, text in annotations.items()}
        return cls(
            install=value["install"],
            owner=value["owner"],
            node=value["node"],
            role=Role(value["role"]),
            slot=int(value["slot"]),
            index=int(value["index"]),
            memory_mib=int(value["memory_mib"]),
            expose=int(value["expose"]) if value["expose"] else None,
            revision=value.get("revision", ""),
            address=value.get("address", ""),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one node; nothing in it need exist."""

    home: Path
    """The cluster's directory."""
    ref: NodeRef

    @property
    def directory(self) -> Path:
        return self.home / self.ref.name

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def draft(self) -> Path:
        """The root that is not whole: being made, or lost."""
        return self.directory / "root.draft"

    @property
    def userns(self) -> Path:
        """Leads to its user namespace while runc makes it, and is not there else."""
        return self.directory / "userns"

    @property
    def config(self) -> Path:
        return self.directory / "config.json"

    @property
    def container(self) -> str:
        """The node's name for runc."""
        return f"{self.ref.owner}.{self.ref.name}"

    def marks(self) -> Marks | None:
        """None where the node was never whole, or is gone."""
        try:
            return Marks.read(json.loads(self.config.read_bytes())["annotations"])
        except (FileNotFoundError, KeyError, ValueError):
            return None

    def mark(self, marks: Marks) -> None:
        """Write other marks on a node that has some; what else its config says stays."""
        config = json.loads(self.config.read_bytes())
        self.write({**config, "annotations": {**config["annotations"], **marks.annotations()}})

    def write(self, config: dict[str, Any]) -> None:
        """Write the bundle's config, and with it the marks: whole, or not at all."""
        draft = self.config.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump(config, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.config)
        sync(self.directory)


@dataclass(frozen=True, slots=True)
class Places:
    """All nodes of one install."""

    nodes: Path

    def home(self, owner: str) -> Path:
        return self.nodes / owner

    def of(self, ref: NodeRef) -> Place:
        return Place(self.home(ref.owner), ref)

    def all(self, owner: str) -> list[Place]:
        try:
            names = sorted(entry.name for entry in self.home(owner).iterdir())
        except FileNotFoundError:
            return []
        return [self.of(NodeRef(owner, name)) for name in names]

    def owners(self) -> Iterator[str]:
        if self.nodes.exists():
            yield from sorted(entry.name for entry in self.nodes.iterdir())


def sync(path: Path) -> None:
    """Wait until a file, or what a directory lists, would outlive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def promised_mib(places: Places) -> dict[NodeRef, int]:
    """The memory that was promised to each node of the install."""
    return {
        place.ref: marks.memory_mib
        for owner in places.owners()
        for place in places.all(owner)
        if (marks := place.marks())
    }
