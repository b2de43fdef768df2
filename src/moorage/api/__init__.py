"""The container-infra API over HTTP: routes, wire schemas, versions, errors.

`asgi.py` is one request from outside in. A handler (routes/) parses (schemas/), calls one
service, and shapes the answer. It decides nothing: who may do what, and by which rules,
is told by the services.
"""

from moorage.api.app import create_api, create_probes
from moorage.api.asgi import Api

__all__ = ["Api", "create_api", "create_probes"]
