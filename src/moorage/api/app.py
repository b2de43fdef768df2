"""The API put together."""

from __future__ import annotations

from moorage.api.asgi import Api
from moorage.api.openapi import description
from moorage.api.rates import Rates
from moorage.api.readiness import Readiness
from moorage.api.routes import (
    actions,
    audit,
    baymodels,
    bays,
    catalogue,
    certificates,
    clusters,
    credentials,
    events,
    mservices,
    nodegroups,
    orphans,
    quotas,
    root,
    stats,
    templates,
)
from moorage.model.caller import Caller
from moorage.model.errors import Unauthenticated
from moorage.model.ports import TokenValidator
from moorage.services import AuditService, Services


def create_api(
    *,
    services: Services,
    validator: TokenValidator,
    ready: Readiness,
    identity_url: str,
    rates: Rates | None = None,
    trust_proxy: bool = False,
) -> Api:
    """The ASGI application.

    `identity_url` is told to whoever comes without a token; `rates` None: no limit.
    `trust_proxy`: a proxy in front of it sets X-Forwarded-For, -Host, -Prefix and -Proto,
    and no client can.
    """
    routers = [
        root.routes(ready),
        templates.routes(services.templates),
        clusters.routes(services.clusters),
        actions.routes(services.clusters),
        nodegroups.routes(services.nodegroups),
        certificates.routes(services.certificates, services.clusters),
        credentials.routes(services.clusters),
        quotas.routes(services.quotas),
        stats.routes(services.quotas),
        mservices.routes(services.heartbeats),
        orphans.routes(services.orphans),
        events.routes(services.events),
        audit.routes(services.audit),
        catalogue.routes(services.catalogue),
        bays.routes(services.clusters),
        baymodels.routes(services.templates),
    ]
    routes = [route for router in routers for route in router.routes]
    return Api(
        [*routes, description(routes)],
        validator=validator,
        audit=services.audit,
        identity_url=identity_url,
        rates=rates or Rates(0, 0),
        trust_proxy=trust_proxy,
    )


def create_probes(*, ready: Readiness, audit: AuditService) -> Api:
    """As the API without its objects: for a process that only conducts, and serves nobody."""
    return Api(
        root.routes(ready).routes,
        validator=_Nobody(),
        audit=audit,
        identity_url="",
        rates=Rates(0, 0),
    )


class _Nobody:
    """Knows no token."""

    async def validate(self, token: str, address: str = "") -> Caller:
        del token, address
        raise Unauthenticated("this process serves no API.")
