"""The cluster's DNS, on every master: CoreDNS where the release has it, else a resolver. Pure.

Pods ask the service `kube-dns`, whose endpoints are the masters' own addresses (`access.py`).
"""

from __future__ import annotations

from moorage.drivers.kubernetes import coredns, recursor, zones
from moorage.drivers.kubernetes.place import Place
from moorage.drivers.kubernetes.service import Service

DNS = "dns"
"""The service's name, whichever program it is."""


def services(place: Place) -> list[Service]:
    if place.has_coredns:
        return [coredns.server(DNS)]
    return [recursor.server(DNS), zones.feed(recursor.RELOAD)]


def files(place: Place) -> dict[str, bytes]:
    return coredns.files(place) if place.has_coredns else recursor.files(place)
