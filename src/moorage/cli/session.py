"""The container-infra API and Keystone's, over HTTP, as the tenant's commands use them.

Every answer that is not a success becomes a Failure whose code says which kind it is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from moorage.cli.clouds import Cloud
from moorage.cli.failure import Code, Failure
from moorage.cli.screen import plain

if TYPE_CHECKING:
    from keystoneauth1.session import Session

VERSION = {"OpenStack-API-Version": "container-infra latest"}
PAGE = 500
TIMEOUT = 60.0
CODES = {
    400: Code.USAGE,
    401: Code.DENIED,
    403: Code.DENIED,
    404: Code.NOT_FOUND,
    406: Code.USAGE,
    409: Code.CONFLICT,
    413: Code.USAGE,
    422: Code.USAGE,
    502: Code.UNREACHABLE,
    503: Code.UNREACHABLE,
    504: Code.UNREACHABLE,
}


def open_session(cloud: Cloud) -> Session:
    """Sign in lazily: the first request fetches the token."""
    from keystoneauth1 import exceptions, loading
    from keystoneauth1.session import Session

    logging.getLogger("keystoneauth").addHandler(logging.NullHandler())
    try:
        loader: Any = loading.get_plugin_loader(cloud.auth_type)
        known = {option.dest for option in loader.get_options()}
        auth = loader.load_from_options(**{k: v for k, v in cloud.auth.items() if k in known})
    except (exceptions.NoMatchingPlugin, exceptions.OptionError) as wrong:
        raise Failure(f"the cloud `{cloud.name}` can't be used: {wrong}", code=Code.USAGE) from None
    return Session(auth=auth, verify=cloud.verify, timeout=TIMEOUT, app_name="moorage")


class Service:
    """One service of the catalog. Paths begin with `/`; bodies are JSON."""

    def __init__(self, cloud: Cloud, session: Session, service_type: str, version: str) -> None:
        self._cloud = cloud
        self._session = session
        self._type = service_type
        self._version = version
        self._endpoint: str | None = None

    @property
    def endpoint(self) -> str:
        """Its base URL, version included, no slash at the end."""
        if self._endpoint is None:
            found = self._cloud.endpoint if self._type == "container-infra" else None
            with _reached(self._cloud):
                found = found or self._session.get_endpoint(
                    service_type=self._type,
                    interface=self._cloud.interface,
                    region_name=self._cloud.region,
                )
            if not found:
                raise Failure(
                    f"the cloud `{self._cloud.name}` has no {self._type} service in its catalog",
                    code=Code.UNREACHABLE,
                    mend="`openstack catalog list` shows what it has",
                )
            base = found.rstrip("/")
            self._endpoint = base if base.endswith(self._version) else base + self._version
        return self._endpoint

    @property
    def project_id(self) -> str:
        """The project that the cloud's credentials are for. Raises Failure."""
        with _reached(self._cloud):
            found: str | None = self._session.get_project_id()
        if not found:
            raise Failure(
                f"the credentials of the cloud `{self._cloud.name}` are for no project",
                code=Code.DENIED,
                mend="name its project in clouds.yaml or by OS_PROJECT_NAME",
            )
        return found

    def beside(self, service_type: str, version: str) -> Service:
        """Another service of the same catalog, signed in to as to this one."""
        return Service(self._cloud, self._session, service_type, version)

    def call(self, method: str, path: str, body: object = None, *, seconds: float = TIMEOUT) -> Any:
        """The answer's JSON, None where it has no body; it may take `seconds`. Raises Failure."""
        # A `next` link is a whole URL: only its path counts, so that it can't lead elsewhere.
        url = self.endpoint + path
        with _reached(self._cloud):
            answer = self._session.request(
                url,
                method,
                json=body,
                headers=VERSION,
                raise_exc=False,
                redirect=False,
                timeout=seconds,
            )
        if answer.status_code >= 300:
            raise failure_of(answer.status_code, _json(answer), url)
        return _json(answer) if answer.content else None

    def every(self, path: str, collection: str, *, key: str = "uuid") -> list[dict[str, Any]]:
        """All items of a list, page after page. `key`: the field that names one."""
        items: list[dict[str, Any]] = []
        first = f"{path}{'&' if '?' in path else '?'}limit={PAGE}"
        marker = ""
        while True:
            page = self.call("GET", f"{first}{marker}")[collection]
            items += page
            if len(page) < PAGE:
                return items
            marker = f"&marker={page[-1][key]}"


def container_infra(cloud: Cloud) -> Service:
    return Service(cloud, open_session(cloud), "container-infra", "/v1")


def failure_of(status: int, body: object, url: str) -> Failure:
    """What an error answer says, and the code that it means.

    Magnum's errors are `{"errors": [{"code", "title", "detail"}]}`, Keystone's are
    `{"error": {"code", "title", "message"}}`.
    """
    said = f"the server answered {status}"
    kind = ""
    if isinstance(body, dict):
        match body:
            case {"errors": [{**error}, *_]} | {"error": {**error}}:
                told = error.get("detail") or error.get("message") or error.get("title")
                said = plain(str(told))
                kind = f"{error.get('code')} {error.get('title')} {said}".lower()
    code = CODES.get(status, Code.FAILED)
    if status == 403 and "quota" in kind:
        code = Code.CONFLICT
    return Failure(said, code=code, mend=f"(from {url})" if status >= 500 else "")


def _json(answer: Any) -> object:
    try:
        return answer.json()
    except ValueError:
        return None


@contextlib.contextmanager
def _reached(cloud: Cloud) -> Iterator[None]:
    """Turn what keystoneauth raises into a Failure."""
    from keystoneauth1 import exceptions

    where = _where(cloud.auth)
    try:
        yield
    except exceptions.Unauthorized:
        raise Failure(
            f"{where} does not accept the credentials of the cloud `{cloud.name}`",
            code=Code.DENIED,
            mend="check its user, password and project in clouds.yaml",
        ) from None
    except exceptions.SSLError as wrong:
        raise Failure(
            f"the certificate of {where} is not trusted: {wrong}",
            code=Code.UNREACHABLE,
            mend="name its CA by `cacert:` in clouds.yaml or OS_CACERT",
        ) from None
    except (exceptions.ConnectionError, exceptions.DiscoveryFailure) as wrong:
        raise Failure(
            f"no answer: {wrong}",
            code=Code.UNREACHABLE,
            mend=f"is Moorage up (`moorage up`), and {where} the right Keystone?",
        ) from None
    except exceptions.HttpError as wrong:
        said = f"Keystone at {where} answered {wrong.http_status}: {wrong.message}"
        raise Failure(said, code=CODES.get(wrong.http_status, Code.FAILED)) from None
    except exceptions.ClientException as wrong:
        raise Failure(f"can't sign in at {where}: {wrong}", code=Code.USAGE) from None


def _where(auth: Mapping[str, Any]) -> str:
    parts = urlsplit(str(auth.get("auth_url", "")))
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "Keystone"
