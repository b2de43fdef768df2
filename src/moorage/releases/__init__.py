"""Releases of an engine: directories of upstream's binaries, each with its version.

    <state>/releases/kubernetes/v1.20.2/     kube-apiserver, kubelet …, release.json

    Releases(state).add(source, …)        an official archive, checked -> Release
    Releases(state).newest()              what the driver runs

That is all that a driver needs to know of Kubernetes: where it came from doesn't matter.
Several lie side by side. A release is there whole or not at all, and never changes.
"""

from moorage.releases.binary import COREDNS
from moorage.releases.release import Release
from moorage.releases.releases import Added, Releases
from moorage.releases.use import in_use
from moorage.releases.version import NEWEST, OLDEST, Version

__all__ = [
    "COREDNS",
    "NEWEST",
    "OLDEST",
    "Added",
    "Release",
    "Releases",
    "Version",
    "in_use",
]
