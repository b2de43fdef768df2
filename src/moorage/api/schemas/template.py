"""Cluster templates on the wire."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from moorage.api.links import Link, links
from moorage.api.schemas.common import Count, Labels, Sent, stamp
from moorage.model.template import ClusterTemplate
from moorage.services import NewTemplate


class TemplateCreate(Sent):
    """`POST /v1/clustertemplates`."""

    coe: str
    name: str | None = None
    flavor_id: str | None = None
    master_flavor_id: str | None = None
    labels: Labels | None = None
    public: bool | None = None
    hidden: bool | None = None

    apiserver_port: Count | None = None
    cluster_distro: str | None = None
    dns_nameserver: str | None = None
    docker_storage_driver: str | None = None
    docker_volume_size: Count | None = None
    driver: str | None = None
    external_network_id: str | None = None
    fixed_network: str | None = None
    fixed_subnet: str | None = None
    floating_ip_enabled: bool | None = None
    http_proxy: str | None = None
    https_proxy: str | None = None
    image_id: str | None = None
    insecure_registry: str | None = None
    keypair_id: str | None = None
    master_lb_enabled: bool | None = None
    network_driver: str | None = None
    no_proxy: str | None = None
    registry_enabled: bool | None = None
    server_type: str | None = None
    tags: str | None = None
    tls_disabled: bool | None = None
    volume_driver: str | None = None

    def wanted(self) -> NewTemplate:
        return NewTemplate(
            coe=self.coe,
            name=self.name,
            flavor_id=self.flavor_id,
            master_flavor_id=self.master_flavor_id,
            labels=self.labels,
            options={name: getattr(self, name) for name in _OPTIONS},
            public=bool(self.public),
            hidden=bool(self.hidden),
        )


_OPTIONS = tuple(
    name
    for name in TemplateCreate.model_fields
    if name not in {"coe", "name", "flavor_id", "master_flavor_id", "labels", "public", "hidden"}
)


class TemplateFields(TypedDict):
    """What a cluster template had already when it was called a baymodel."""

    uuid: str
    name: str | None
    coe: str
    image_id: str | None
    flavor_id: str
    master_flavor_id: str
    dns_nameserver: str | None
    keypair_id: str | None
    external_network_id: str | None
    fixed_network: str | None
    fixed_subnet: str | None
    network_driver: str | None
    apiserver_port: int | None
    docker_volume_size: int | None
    docker_storage_driver: str | None
    cluster_distro: str | None
    http_proxy: str | None
    https_proxy: str | None
    no_proxy: str | None
    volume_driver: str | None
    registry_enabled: bool
    insecure_registry: str | None
    labels: dict[str, str]
    tls_disabled: bool
    public: bool
    hidden: bool
    server_type: str
    master_lb_enabled: bool
    floating_ip_enabled: bool
    tags: str | None
    created_at: str | None
    updated_at: str | None
    links: list[Link]


class TemplateBody(TemplateFields):
    """A cluster template as it is shown."""

    project_id: str
    user_id: str
    driver: str | None


class TemplateList(TypedDict):
    clustertemplates: list[TemplateBody]
    next: str | None


_UNSET: dict[str, Any] = {
    **dict.fromkeys(_OPTIONS),
    "registry_enabled": False,
    "tls_disabled": False,
    "master_lb_enabled": False,
    "floating_ip_enabled": False,
    "server_type": "vm",
}


def template_body(
    template: ClusterTemplate, base: str, collection: str = "clustertemplates"
) -> TemplateBody:
    body: Any = {
        **_UNSET,
        **template.options,
        "uuid": template.uuid,
        "name": template.name,
        "coe": template.coe,
        "flavor_id": template.flavor_id,
        "master_flavor_id": template.master_flavor_id,
        "labels": template.labels,
        "public": template.public,
        "hidden": template.hidden,
        "project_id": template.project_id,
        "user_id": template.user_id,
        "created_at": stamp(template.created_at),
        "updated_at": stamp(template.updated_at),
        "links": links(base, collection, template.uuid),
    }
    shaped: TemplateBody = body
    return shaped


def template_list(
    templates: list[ClusterTemplate], base: str, following: str | None
) -> TemplateList:
    shaped = [template_body(template, base) for template in templates]
    return {"clustertemplates": shaped, "next": following}
