"""The container-infra API over HTTP: routes, wire schemas, versions, errors.

One request, from outside in (each a pure ASGI middleware, in this order):

    Requests        gives it an id, logs it, turns every error into an answer
    Versions        OpenStack-API-Version in and out
    Authentication  no token, no further: only `PUBLIC` paths pass without one
    Limits          reads the body: JSON, not too large, not too deep
    FastAPI         routes/ -> services

A handler parses (schemas/), calls one service, and shapes the answer. It decides
nothing: who may do what, and by which rules, is told by the services.
"""

from moorage.api.app import create_api

__all__ = ["create_api"]
