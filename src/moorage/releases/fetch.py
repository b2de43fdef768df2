"""Where an archive comes from: a file of this machine, or an URL.

What is fetched is bounded, and is written down whole before anything looks into it. An
answer that breaks off is told apart from one that is wrong: the one may be tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, urlsplit, urlunsplit

from moorage.model.errors import Invalid, NotFound, Refused, RetryLater

MOST_BYTES = 4 << 30
"""Of an archive; upstream's have some 400 MB."""
SECONDS = 60.0
"""So long a server may say nothing."""
BLOCK = 1 << 20
Tell = Callable[[str], None]
"""What it is at, for a person."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """`size` in bytes; `sha512` in hexadecimal digits."""

    size: int
    sha512: str


def is_url(source: str) -> bool:
    return "://" in source


def shown(source: str) -> str:
    """As it may be told and kept: an URL without what may be a secret."""
    if not is_url(source):
        return str(Path(source).absolute())
    parts = _parts(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def beside(source: str) -> str:
    """Where the SHA-512 of an archive is published."""
    if not is_url(source):
        return f"{source}.sha512"
    parts = _parts(source)
    return urlunsplit(parts._replace(path=f"{parts.path}.sha512", fragment=""))


def save(source: str, target: Path, tell: Tell) -> Fetched:
    """Copy all of it to `target`.

    Raises NotFound, Refused, or RetryLater where it broke off; OSError where it can't be
    read or written on this machine.
    """
    digest, size, told = hashlib.sha512(), 0, 0
    with _opened(source) as stream, target.open("xb") as file:
        while block := stream.read(BLOCK):
            size += len(block)
            if size > MOST_BYTES:
                raise Refused(f"{shown(source)} is larger than {MOST_BYTES >> 30} GiB.")
            digest.update(block)
            file.write(block)
            if stream.size and (now := size * 10 // stream.size) > told:
                told = now
                tell(f"{now * 10} % of {stream.size / 2**20:.0f} MiB read")
    return Fetched(size, digest.hexdigest())


def read(source: str, most: int) -> bytes:
    """All of something that has `most` bytes at the most. Raises as `save` does."""
    content = b""
    with _opened(source) as stream:
        while block := stream.read(most + 1 - len(content)):
            content += block
            if len(content) > most:
                raise Refused(f"{shown(source)} has more than {most} bytes: that can't be.")
    return content


@dataclass(frozen=True, slots=True)
class _Source:
    """`size` in bytes; None where it isn't known beforehand."""

    read: Callable[[int], bytes]
    size: int | None


@contextlib.contextmanager
def _opened(source: str) -> Iterator[_Source]:
    if is_url(source):
        with _answer(source) as answer:
            yield answer
        return
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no file {source}.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{source} is no plain file.")
        yield _Source(file.read, status.st_size)


@contextlib.contextmanager
def _answer(url: str) -> Iterator[_Source]:
    name, parts = shown(url), _parts(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Invalid(f"{name} can't be fetched: write https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise Invalid(f"{name}: a name and password in its URL are not used; fetch it to a file.")
    with _told(name):
        answer: http.client.HTTPResponse = _opener().open(
            urllib.request.Request(url, headers={"User-Agent": "moorage"}),  # noqa: S310 - checked
            timeout=SECONDS,
        )
    with answer:
        length = answer.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and len(length) < 20 else None
        received = 0

        def read(wanted: int) -> bytes:
            nonlocal received
            with _told(name):
                block = answer.read(wanted)
            received += len(block)
            if not block and wanted and size is not None and received < size:
                raise RetryLater(f"{name} broke off after {received} of {size} bytes: try again.")
            return block

        yield _Source(read, size)


def _parts(url: str) -> SplitResult:
    """Raises Invalid for what is none; it isn't shown, for a password may be in it."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    raise Invalid("The URL can't be read: write https://host/path.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Followed, but not from https to anything that a stranger on the way may change."""

    def redirect_request(  # noqa: PLR0917 - urllib calls it so
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise Refused(f"{shown(req.full_url)} leads to {shown(newurl)}, without TLS: refused.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> urllib.request.OpenerDirector:
    """For http and https alone: urllib's own would open files and FTP too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """A server's or a network's trouble as an error of ours."""
    try:
        yield
    except urllib.error.HTTPError as error:
        said = f"{name} answers {error.code} {error.reason}"
        error.close()
        if error.code in {404, 410}:
            raise NotFound(f"{said}.") from None
        if error.code == 429 or error.code >= 500:
            raise RetryLater(f"{said}: try again later.", delay=60) from None
        raise Refused(f"{said}.") from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Refused(
                f"{name}: its certificate is not trusted ({cause.verify_message}). "
                "SSL_CERT_FILE names a CA of your own."
            ) from None
        raise RetryLater(
            f"{name} can't be fetched: {cause or type(cause).__name__}. Try again, or fetch it "
            "elsewhere and give the file."
        ) from None
