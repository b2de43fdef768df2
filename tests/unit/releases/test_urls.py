"""Archives from a server on this machine: one that answers well, and all the others."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moorage.model.errors import Invalid, NotFound, Refused, RetryLater
from moorage.releases import Releases, fetch
from tests.unit.releases import made

CONTENT = made.archive(made.programs())
SUM = made.sum_of(CONTENT)
NAME = "/v1.20.2/kubernetes-server-linux-amd64.tar.gz"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Shop:
    """A server; `answers`: by path what it does. Each path that was asked is in `asked`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.asked.append(self.path)
                shop.answers.get(self.path.partition("?")[0], status(404))(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that refuses our certificate."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def content(data: bytes, *, claims: int | None = None) -> Answer:
    """`claims`: the length that it says, whatever comes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if claims is None else claims))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def to(url: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Half of it, and then the connection is gone."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def shop() -> Iterator[Shop]:
    opened = Shop()
    try:
        yield opened
    finally:
        opened.end()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made_of = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("shop") / "shop.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(made_of.public_bytes(pem) + key.private_bytes(pem, form, plain))
    return file


@pytest.fixture
def safe(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """One that has TLS, and is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    opened = Shop(context)
    try:
        yield opened
    finally:
        opened.end()


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "state")


def nothing_is_there(tmp_path: Path) -> bool:
    return not (tmp_path / "state").exists()


def test_the_sum_is_asked_beside_it(safe: Shop, releases: Releases) -> None:
    safe.answers = {NAME: content(CONTENT), f"{NAME}.sha512": content(SUM.encode())}
    said: list[str] = []
    added = releases.add(f"{safe.url}{NAME}?token=hush#part", tell=said.append)
    assert added.is_new
    assert safe.asked == [f"{NAME}.sha512?token=hush", f"{NAME}?token=hush"]
    assert added.release.source == f"{safe.url}{NAME}", "nothing secret is kept of it"
    assert said[0].startswith("100 % of 0 MiB")
    assert not releases.add(safe.url + NAME).is_new
    assert len(safe.asked) == 3, "only the sum is asked for once more"


def test_without_tls_a_sum_has_to_be_said(shop: Shop, releases: Releases, tmp_path: Path) -> None:
    shop.answers = {NAME: content(CONTENT), "/sums": content(f"{SUM}  x.gz\n".encode())}
    with pytest.raises(Refused, match="without TLS, whoever can change"):
        releases.add(shop.url + NAME)
    assert shop.asked == []
    assert nothing_is_there(tmp_path)
    assert releases.add(shop.url + NAME, SUM).is_new
    assert not releases.add(shop.url + NAME, f"{shop.url}/sums").is_new


def test_a_redirect_is_followed_but_never_out_of_tls(
    safe: Shop, shop: Shop, releases: Releases, tmp_path: Path
) -> None:
    shop.answers = {
        "/there": content(CONTENT),
        "/loop": to("/loop"),
        "/file": to("file:///etc/passwd"),
    }
    safe.answers = {NAME: to(f"{shop.url}/there"), "/sum": to(f"{shop.url}/sum")}
    with pytest.raises(Refused, match="without TLS: refused"):
        releases.add(safe.url + NAME, SUM)
    with pytest.raises(Refused, match="without TLS: refused"):
        releases.add(shop.url + NAME, f"{safe.url}/sum")
    for path in ("/loop", "/file"):
        with pytest.raises(Refused, match="answers 302"):
            releases.add(shop.url + path, SUM)
    assert "/there" not in shop.asked
    assert nothing_is_there(tmp_path)
    shop.answers["/away"] = to(safe.url + "/there")
    safe.answers["/there"] = content(CONTENT)
    assert releases.add(f"{shop.url}/away", SUM).is_new


def test_a_certificate_that_nobody_trusts(
    safe: Shop, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(Refused, match="certificate is not trusted"):
        releases.add(safe.url + NAME, SUM)
    assert safe.asked == []
    assert nothing_is_there(tmp_path)


@pytest.mark.parametrize("sent", [0, 10, len(CONTENT) - 1])
def test_one_that_breaks_off_may_be_tried_again(
    shop: Shop, releases: Releases, tmp_path: Path, sent: int
) -> None:
    shop.answers[NAME] = content(CONTENT[:sent], claims=len(CONTENT))
    with pytest.raises(RetryLater, match=f"broke off after {sent} of {len(CONTENT)} bytes"):
        releases.add(shop.url + NAME, SUM)
    shop.answers[NAME] = reset
    with pytest.raises(RetryLater, match=r"Connection reset|broke off"):
        releases.add(shop.url + NAME, SUM)
    assert nothing_is_there(tmp_path)


def test_one_that_says_too_small_a_length(shop: Shop, releases: Releases, tmp_path: Path) -> None:
    shop.answers[NAME] = content(CONTENT, claims=len(CONTENT) - 1)
    with pytest.raises(Refused, match="is not what was published"):
        releases.add(shop.url + NAME, SUM)
    assert nothing_is_there(tmp_path)


def test_one_that_never_ends(
    shop: Shop, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(64):
            handler.wfile.write(bytes(1 << 16))

    shop.answers[NAME] = shop.answers["/sum"] = endless
    with pytest.raises(Refused, match="more than 65536 bytes"):
        releases.add(shop.url + NAME, f"{shop.url}/sum")
    monkeypatch.setattr(fetch, "MOST_BYTES", 1 << 20)
    with pytest.raises(Refused, match="is larger than"):
        releases.add(shop.url + NAME, SUM)
    assert nothing_is_there(tmp_path)


def test_one_that_says_nothing(
    shop: Shop, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        ended.wait(20)

    shop.answers[NAME] = wait
    monkeypatch.setattr(fetch, "SECONDS", 0.1)
    try:
        with pytest.raises(RetryLater, match="timed out"):
            releases.add(shop.url + NAME, SUM)
    finally:
        ended.set()
    assert nothing_is_there(tmp_path)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, NotFound), (410, NotFound), (403, Refused), (429, RetryLater), (503, RetryLater)],
)
def test_of_another_answer(
    shop: Shop, releases: Releases, tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    shop.answers[NAME] = status(code)
    with pytest.raises(kind, match=f"{NAME} answers {code}"):
        releases.add(shop.url + NAME, SUM)
    assert nothing_is_there(tmp_path)


def test_a_sum_that_is_not_published(safe: Shop, releases: Releases, tmp_path: Path) -> None:
    safe.answers[NAME] = content(CONTENT)
    with pytest.raises(NotFound, match=rf"there is no {safe.url}{NAME}\.sha512\. Say by --sha512"):
        releases.add(safe.url + NAME)
    assert nothing_is_there(tmp_path)


def test_nobody_answers(releases: Releases, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        with pytest.raises(RetryLater, match="Connection refused"):
            releases.add(url, SUM)
    assert nothing_is_there(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/x", "file:///etc/passwd", "http://", "https:///x", "http://host:99999/x"),
        *("http://[::1/x", "https://ada:hush@host/x", "://"),
    ],
)
def test_what_is_no_url_that_we_ask(releases: Releases, tmp_path: Path, url: str) -> None:
    with pytest.raises(Invalid) as caught:
        releases.add(url, SUM)
    assert "hush" not in caught.value.reason
    assert nothing_is_there(tmp_path)
