"""What differs between the releases of Kubernetes, from 1.20 to the current one: one table.

Whatever else asks for a version asks this table, so that a new release is looked at in one
place. Each row names the minor versions of 1.x in which something is so, and where that is
written. Patch releases change none of it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_CHANGES = "https://github.com/kubernetes/kubernetes/blob/master/CHANGELOG/CHANGELOG-1.{}.md"
_FORM = re.compile(r"v1\.(\d{1,3})\.\d{1,4}(?:[-+].*)?")


@dataclass(frozen=True, slots=True)
class Span:
    """From minor version `since` to the one before `until`; None: from the first, to this day."""

    since: int | None
    until: int | None
    source: str

    def holds(self, minor: int) -> bool:
        return (self.since is None or minor >= self.since) and (
            self.until is None or minor < self.until
        )


class Fact(enum.Enum):
    """Something that some releases have and others don't."""

    INSECURE_PORT = Span(None, 24, _CHANGES.format(24))
    """Controller-manager and scheduler listen without TLS too, unless told `--port=0`."""
    RUNTIME_FLAG = Span(None, 24, _CHANGES.format(24))
    """The kubelet runs Docker itself, unless told `--container-runtime=remote`."""
    RUNTIME_ENDPOINT_FLAG = Span(None, 27, _CHANGES.format(27))
    """The kubelet is told of its runtime by a flag; later by its configuration."""
    TAINTS_FLAG = Span(None, 23, _CHANGES.format(23))
    """A new node's taints are a flag; later `registerWithTaints` of the configuration."""
    PAUSE_FLAG = Span(None, 29, "https://github.com/kubernetes/kubernetes/pull/118544")
    """The kubelet must be told of the pause image, or collects it as garbage. Later it asks the
    runtime which images are pinned: containerd tells from 1.6.22 and 1.7.2 on
    (https://github.com/kubernetes/kubernetes/pull/123144), and Debian 12 has 1.6.20."""
    IN_USER_NAMESPACE = Span(22, None, "https://github.com/kubernetes/enhancements/issues/2033")
    """The gate KubeletInUserNamespace: what the kernel refuses there is no end."""
    FAIL_CGROUP_V1 = Span(31, None, "https://github.com/kubernetes/kubernetes/pull/126031")
    """The kubelet may refuse cgroup v1, and from 1.35 on does, unless told otherwise
    (https://github.com/kubernetes/kubernetes/pull/134298)."""
    CRI_V1 = Span(23, None, _CHANGES.format(23))
    """The kubelet speaks CRI v1; before v1alpha2 alone, which containerd 2 has no more."""
    CRI_V1_ONLY = Span(26, None, _CHANGES.format(26))
    """And nothing else any more; containerd speaks it from 1.6 on."""
    MASTER_LABEL = Span(None, 24, "https://github.com/kubernetes/enhancements/issues/2067")
    """Masters are labelled and tainted `node-role.kubernetes.io/master`."""
    CONTROL_PLANE_TAINT = Span(24, None, "https://github.com/kubernetes/enhancements/issues/2067")
    """That is their taint as well."""
    EVICTION_V1 = Span(22, None, _CHANGES.format(22))
    """Pods are evicted by `policy/v1`; before, by `policy/v1beta1`, which ended with 1.25."""
    WATCH_LIST = Span(
        32,
        38,
        "https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/WatchList/",
    )
    """The API server may offer lists as watches, and most of these releases do. With an etcd that
    can't tell how far it is (before 3.4.31 and 3.5.13; Debian 12 has 3.4.23) it then refuses
    clients that ask. From 1.38 on it can't be turned off any more
    (https://github.com/kubernetes/enhancements/pull/6388)."""

    def holds(self, version: str) -> bool:
        """For a version such as `v1.20.2`. Raises ValueError for what is none of 1.x."""
        return self.value.holds(minor(version))


def minor(version: str) -> int:
    """The minor version: 20 of `v1.20.2`. Raises ValueError for what is none of 1.x."""
    found = _FORM.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r} is no version of Kubernetes 1.x")
    return int(found[1])
