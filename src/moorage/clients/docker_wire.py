"""The parts of the Docker Engine API's objects that are read here (API 1.41 and later).

https://docs.docker.com/engine/api/v1.41/ has them all. A field that an engine leaves
out is empty; one of another type is a ValidationError (a ValueError).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)


def plain(text: str, most: int = 200) -> str:
    """Foreign text for a line of ours: printable, in one line, at most `most` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


Text = Annotated[str, AfterValidator(plain)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,64}$")]
"""A swarm's own identifiers. They become parts of paths."""
EMPTY_IF_NULL = BeforeValidator(lambda found: found or {})
Labels = Annotated[Mapping[str, str], EMPTY_IF_NULL]
Token = Annotated[str, StringConstraints(pattern=r"^SWMTKN-[A-Za-z0-9-]{1,200}$")]


def _at(*path: str, default: Any = "") -> Any:
    return Field(default, validation_alias=AliasPath(path[0], *path[1:]))


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)


class EngineInfo(_Wire):
    """`/info`: the engine, and its own view of the swarm.

    `state` is inactive, pending, active, error or locked. `control`: it is a manager, and
    its swarm can be changed through it. `error` says why the state is not active.
    `swarm_labels` are the swarm's own, as managers tell them; None where it does not.
    """

    version: Text = _at("ServerVersion")
    state: Text = _at("Swarm", "LocalNodeState")
    node_id: Id | Literal[""] = _at("Swarm", "NodeID")
    control: bool = _at("Swarm", "ControlAvailable", default=False)
    error: Text = _at("Swarm", "Error")
    swarm_labels: Annotated[Mapping[str, str] | None, EMPTY_IF_NULL] = _at(
        "Swarm", "Cluster", "Spec", "Labels", default=None
    )


class SwarmMember(_Wire):
    """A node as the swarm's managers see it. Role: manager or worker.

    `state` is ready, down, unknown or disconnected; `message` says why. `reachability` is
    empty but for managers. `spec` is the part that a client may change, with the version
    `index`.
    """

    id: Id = Field(validation_alias="ID")
    index: int = _at("Version", "Index", default=0)
    spec: Mapping[str, Any] = Field(default_factory=dict, validation_alias="Spec", repr=False)
    role: Text = _at("Spec", "Role")
    availability: Text = _at("Spec", "Availability")
    labels: Labels = Field(default_factory=dict, validation_alias=AliasPath("Spec", "Labels"))
    hostname: Text = _at("Description", "Hostname")
    version: Text = _at("Description", "Engine", "EngineVersion")
    state: Text = _at("Status", "State")
    message: Text = _at("Status", "Message")
    address: Text = _at("Status", "Addr")
    reachability: Text = _at("ManagerStatus", "Reachability")


class SwarmState(_Wire):
    """The swarm as a whole: the part that a client may change, with the version `index`."""

    index: int = _at("Version", "Index", default=0)
    spec: Mapping[str, Any] = Field(default_factory=dict, validation_alias="Spec", repr=False)
    labels: Labels = Field(default_factory=dict, validation_alias=AliasPath("Spec", "Labels"))


class JoinTokens(_Wire):
    """The secrets that make an engine a member."""

    manager: Token = Field(validation_alias=AliasPath("JoinTokens", "Manager"), repr=False)
    worker: Token = Field(validation_alias=AliasPath("JoinTokens", "Worker"), repr=False)


class Task(_Wire):
    state: Text = _at("Status", "State")


MOST_MEMBERS = 1000
MemberList: TypeAdapter[list[SwarmMember]] = TypeAdapter(
    Annotated[list[SwarmMember], Field(max_length=MOST_MEMBERS)]
)
MOST_TASKS = 10_000
TaskList: TypeAdapter[list[Task]] = TypeAdapter(Annotated[list[Task], Field(max_length=MOST_TASKS)])
