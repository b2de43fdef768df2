"""The API's fields that no room of ours reads: kept, and shown as the client sent them."""

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
    return {name: one(name, value, known) for name, value in options.items() if value is not None}


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
        return rules.integer(value, name)
    return rules.text(value, name)
