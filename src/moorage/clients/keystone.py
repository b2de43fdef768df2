"""Keystone's API as far as Moorage uses it: tokens, and the making of projects and users.

https://docs.openstack.org/api-ref/identity/v3/ says what it all means. Every call
raises RetryLater where Keystone is silent or answers 5xx, and Refused where it says no.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from moorage.model.errors import Refused, RetryLater, Unauthenticated

RENEW_SECONDS = 60.0
"""Our own token is replaced this long before it ends."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs in, and for which project. `auth_url` ends in `/v3`; domains are ids."""

    auth_url: str
    username: str
    password: str = field(repr=False)
    project_name: str
    domain_id: str = "default"


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What Keystone says of a token. `expires_at`: seconds since the epoch.

    `project_id` is None for a token that is for a domain, for the system, or for nothing.
    """

    user_id: str
    user_name: str
    project_id: str | None
    project_name: str | None
    roles: frozenset[str]
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Issued:
    value: str = field(repr=False)
    expires_at: float


class KeystoneClient:
    """Signs in with a password, and again whenever its token ends. Close it after use."""

    def __init__(self, credentials: Credentials, *, timeout: float = 5.0) -> None:
        self._credentials = credentials
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._issued: _Issued | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> KeystoneClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def token(self) -> str:
        """A token of our own that is good for a while. Raises Unauthenticated."""
        issued = self._issued
        if issued is None or time.time() > issued.expires_at - RENEW_SECONDS:
            issued = self._issued = await self._sign_in()
        return issued.value

    async def show_token(self, subject: str) -> TokenInfo | None:
        """What a token is worth; None for one that is forged, expired or revoked.

        Raises Refused where our own user may not ask.
        """
        status, body = await self._authorised(
            "GET", "/auth/tokens?nocatalog=1", headers={"X-Subject-Token": subject}
        )
        if status == 404:
            return None
        if status != 200:
            raise self._refused(f"to validate a token for {self._credentials.username!r}", body)
        return _token_info(body["token"])

    async def ensure_project(self, name: str) -> str:
        """The id of the project `name`, made where it is missing."""
        return await self._ensure(
            "project", name, {"name": name, "domain_id": self._credentials.domain_id}
        )

    async def ensure_user(self, name: str, password: str) -> str:
        """The id of the user `name`, made where it is missing; its password is now this one."""
        domain_id = self._credentials.domain_id
        user_id = await self._ensure(
            "user", name, {"name": name, "domain_id": domain_id, "password": password}
        )
        user = {"id": user_id, "password": password}
        status, _, _ = await self._request(
            "POST",
            "/auth/tokens?nocatalog=1",
            {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}},
            {},
        )
        if status == 401:
            await self._expect(
                f"to change the user {name!r}",
                "PATCH",
                f"/users/{user_id}",
                {"user": {"password": password, "enabled": True}},
            )
            # Keystone counts in whole seconds: it holds a token that is issued in the
            # second of the change for one of the old password's, and refuses it.
            await asyncio.sleep(1.0)
        return user_id

    async def grant(self, user_id: str, project_id: str, role: str) -> None:
        """Give the user the role (by its name) in the project."""
        role_id = await self._find("role", role, domain=False)
        if role_id is None:
            raise Refused(f"Keystone at {self._credentials.auth_url} has no role {role!r}.")
        await self._expect(
            f"to grant the role {role!r}",
            "PUT",
            f"/projects/{project_id}/users/{user_id}/roles/{role_id}",
        )

    async def _ensure(self, kind: str, name: str, wanted: Mapping[str, object]) -> str:
        found = await self._find(kind, name)
        if found is not None:
            return found
        status, body = await self._authorised("POST", f"/{kind}s", {kind: wanted})
        if status == 409:  # another was faster
            found = await self._find(kind, name)
            if found is not None:
                return found
        if status >= 300:
            raise self._refused(f"to make the {kind} {name!r}", body)
        return str(body[kind]["id"])

    async def _find(self, kind: str, name: str, *, domain: bool = True) -> str | None:
        query = f"?name={quote(name, safe='')}"
        if domain:
            query += f"&domain_id={quote(self._credentials.domain_id, safe='')}"
        body = await self._expect(f"to list the {kind}s", "GET", f"/{kind}s{query}")
        found = body[f"{kind}s"]
        return str(found[0]["id"]) if found else None

    async def _expect(
        self, what: str, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Any:
        status, answer = await self._authorised(method, path, body)
        if status >= 300:
            raise self._refused(what, answer)
        return answer

    async def _sign_in(self) -> _Issued:
        who = self._credentials
        domain = {"id": who.domain_id}
        user = {"name": who.username, "domain": domain, "password": who.password}
        status, body, headers = await self._request(
            "POST",
            "/auth/tokens?nocatalog=1",
            {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": {"name": who.project_name, "domain": domain}},
                }
            },
            {},
        )
        if status != 201:
            raise Unauthenticated(
                f"Keystone at {who.auth_url} does not let {who.username!r} into the project "
                f"{who.project_name!r} (HTTP {status}): check its password and role."
            )
        return _Issued(headers["X-Subject-Token"], _seconds(body["token"]["expires_at"]))

    async def _authorised(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """With our own token; one that Keystone no longer takes is renewed, once."""
        token = await self.token()
        status, answer, _ = await self._request(
            method, path, body, {"X-Auth-Token": token, **(headers or {})}
        )
        if status != 401:
            return status, answer
        if self._issued is not None and self._issued.value == token:
            self._issued = None
        token = await self.token()
        status, answer, _ = await self._request(
            method, path, body, {"X-Auth-Token": token, **(headers or {})}
        )
        return status, answer

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Any, Mapping[str, str]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url = self._credentials.auth_url.rstrip("/") + path
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, allow_redirects=False
            ) as response:
                status, text = response.status, await response.text()
                answer = json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RetryLater(
                f"Keystone at {self._credentials.auth_url} does not answer "
                f"({type(error).__name__}).",
                delay=2.0,
            ) from error
        if status >= 500 or status == 429:
            raise RetryLater(
                f"Keystone at {self._credentials.auth_url} answers HTTP {status}.", delay=2.0
            )
        return status, answer, response.headers

    def _refused(self, what: str, body: Any) -> Refused:
        message = ""
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            message = str(body["error"].get("message", ""))
        return Refused(f"Keystone at {self._credentials.auth_url} refuses {what}: {message}")


def _token_info(token: Mapping[str, Any]) -> TokenInfo:
    project = token.get("project") or {}
    return TokenInfo(
        user_id=token["user"]["id"],
        user_name=token["user"]["name"],
        project_id=project.get("id"),
        project_name=project.get("name"),
        roles=frozenset(role["name"].lower() for role in token.get("roles", ())),
        expires_at=_seconds(token["expires_at"]),
    )


def _seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
