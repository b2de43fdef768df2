"""What API servers and etcd answer, as far as Moorage reads it. Checked, for it is a tenant's."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

_RELEASE = re.compile(r"v1\.\d{1,3}\.\d{1,4}(?:[-+][\w.+-]{1,40})?", re.ASCII)


class _Answer(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class TaintSeen(_Answer):
    key: str
    effect: str
    value: str = ""


class _Condition(_Answer):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Metadata(_Answer):
    name: str
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[dict[str, Any], ...] = ()


class _NodeSpec(_Answer):
    unschedulable: bool = False
    taints: tuple[TaintSeen, ...] = ()
    pod_cidr: str = Field(default="", alias="podCIDR")


class _NodeInfo(_Answer):
    kubelet_version: str = ""
    container_runtime_version: str = ""


class _NodeStatus(_Answer):
    conditions: tuple[_Condition, ...] = ()
    node_info: _NodeInfo = Field(default_factory=_NodeInfo)


class NodeObject(_Answer):
    """A Node, https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/."""

    metadata: _Metadata
    spec: _NodeSpec = Field(default_factory=_NodeSpec)
    status: _NodeStatus = Field(default_factory=_NodeStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def release(self) -> str:
        """What its kubelet is of, such as `v1.20.2`; empty for what is no version of 1.x."""
        told = self.status.node_info.kubelet_version
        return told if _RELEASE.fullmatch(told) else ""

    @property
    def is_ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def keeps_out(self) -> frozenset[tuple[str, str, str]]:
        """Its taints that no pod gets past without a toleration, as key, value and effect."""
        hard = (t for t in self.spec.taints if t.effect != "PreferNoSchedule")
        return frozenset((t.key, t.value, t.effect) for t in hard)

    @property
    def trouble(self) -> str:
        """Why it is not ready, in the cluster's own words; empty where it is."""
        for condition in self.status.conditions:
            if condition.type == "Ready" and condition.status != "True":
                return condition.message or condition.reason or "it is not ready"
        return "" if self.is_ready else "it has not said yet whether it is ready"


class NodeList(_Answer):
    items: tuple[NodeObject, ...] = ()


class _PodSpec(_Answer):
    node_name: str = ""


class _PodStatus(_Answer):
    phase: str = ""


class PodObject(_Answer):
    metadata: _Metadata
    spec: _PodSpec = Field(default_factory=_PodSpec)
    status: _PodStatus = Field(default_factory=_PodStatus)

    @property
    def is_to_leave(self) -> bool:
        """Whether a drain has to wait for it: it runs, and is no daemon's nor the node's own."""
        if self.status.phase in {"Succeeded", "Failed"}:
            return False
        if "kubernetes.io/config.mirror" in self.metadata.annotations:
            return False
        return not any(o.get("kind") == "DaemonSet" for o in self.metadata.owner_references)


class PodList(_Answer):
    items: tuple[PodObject, ...] = ()


class Annotated(_Answer):
    """Any object, as far as its annotations."""

    metadata: _Metadata


class AnnotatedList(_Answer):
    items: tuple[Annotated, ...] = ()


class Version(_Answer):
    git_version: str = ""


class EtcdMember(BaseModel):
    """A member of etcd's cluster, as its gRPC gateway writes it (numbers are strings there).

    https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/ `name` is empty until it has started.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: int = Field(alias="ID")
    name: str = ""
    peers: tuple[str, ...] = Field(default=(), alias="peerURLs")
    is_learner: bool = Field(default=False, alias="isLearner")

    @field_validator("id", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isascii() else value


class MemberAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore")
    members: list[EtcdMember] = Field(default_factory=list)
    member: EtcdMember | None = None
