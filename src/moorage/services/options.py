"""The API's fields that no room of ours reads: kept, and shown as the client sent them.

Their bounds and words are Magnum's (magnum/api/controllers/v1/cluster_template.py,
magnum/api/validation.py), so that what is kept here is good there as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from moorage.model.errors import Invalid
from moorage.services import rules

TEMPLATE_OPTIONS: Mapping[str, type] = {
    "apiserver_port": int,
    "cluster_distro": str,
    "dns_nameserver": str,
    "docker_storage_driver": str,
    "docker_volume_size": int,
    "driver": str,
    "external_network_id": str,
    "fixed_network": str,
    "fixed_subnet": str,
    "floating_ip_enabled": bool,
    "http_proxy": str,
    "https_proxy": str,
    "image_id": str,
    "insecure_registry": str,
    "keypair_id": str,
    "master_lb_enabled": bool,
    "network_driver": str,
    "no_proxy": str,
    "registry_enabled": bool,
    "server_type": str,
    "tags": str,
    "tls_disabled": bool,
    "volume_driver": str,
}
BOUNDS = {"apiserver_port": (1024, 65535), "docker_volume_size": (1, 65536)}
"""The least and the most; a volume's size is in GiB."""
SERVER_TYPES = ("vm", "bm")
NETWORK_DRIVERS: Mapping[str, tuple[str, ...]] = {
    "kubernetes": ("flannel", "calico", "cilium"),
    "swarm": ("docker", "flannel"),
    "swarm-mode": ("docker", "flannel"),
    "mesos": ("docker",),
}
"""By COE. Of a COE that Magnum doesn't have, nobody here knows the words."""
CLUSTER_OPTIONS: Mapping[str, type] = {
    "discovery_url": str,
    "docker_volume_size": int,
    "fixed_network": str,
    "fixed_subnet": str,
    "floating_ip_enabled": bool,
    "keypair": str,
    "master_lb_enabled": bool,
    "merge_labels": bool,
}


def checked(options: Mapping[str, object], known: Mapping[str, type]) -> dict[str, object]:
    """The options that were given (not None). Raises Invalid, naming the field."""
    found = {name: one(name, value, known) for name, value in options.items() if value is not None}
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    size = sum(len(value.encode()) for value in texts.values())
    if size > rules.MOST_BYTES:
        longest = max(texts, key=lambda name: len(texts[name]))
        raise Invalid(
            f"{longest}: all texts together may have {rules.MOST_BYTES} bytes, not {size}.",
            field=longest,
        )
    return found


def refuse_unknown_network(coe: str, options: Mapping[str, object]) -> None:
    """Raises Invalid for a network driver that the COE doesn't have."""
    driver, known = options.get("network_driver"), NETWORK_DRIVERS.get(coe)
    if driver is not None and known is not None and driver not in known:
        raise Invalid(
            f"network_driver must be {' or '.join(known)} for {coe}, not {rules.shown(driver)}.",
            field="network_driver",
        )


def one(name: str, value: object, known: Mapping[str, type]) -> object:
    kind = known.get(name)
    if kind is None:
        raise Invalid(f"There is no attribute {rules.shown(name)}.", field=name)
    if kind is bool:
        answer = rules.boolean(value, name)
        if name == "tls_disabled" and answer:
            raise Invalid(
                "tls_disabled can't be true: a cluster's API speaks TLS only.", field=name
            )
        return answer
    if kind is int:
        return _number(name, value)
    word = rules.line(value, name)
    if name == "server_type" and word not in SERVER_TYPES:
        raise Invalid(
            f"server_type must be {' or '.join(SERVER_TYPES)}, not {rules.shown(word)}.",
            field=name,
        )
    return word


def volume_size(value: int | None) -> int | None:
    """GiB. Raises Invalid."""
    return None if value is None else _number("docker_volume_size", value)


def _number(name: str, value: object) -> int:
    number = rules.integer(value, name)
    least, most = BOUNDS[name]
    if not least <= number <= most:
        raise Invalid(f"{name} must be from {least} to {most}, not {number}.", field=name)
    return number
