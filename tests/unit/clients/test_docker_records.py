"""An ear on an engine that sends TLS records without end, and no data in them.

A tenant has its own node's key, and can write such records itself; Python's TLS can't. So the
test's server tells its keys to a file, and what they seal is made here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from moorage.clients.docker import EnginePool, EngineSilent
from tests.unit.clients.test_docker import AUTHORITY, Impostor
from tests.unit.clients.test_docker_events import EVENT, HEAD

RECORDS = 100_000
HANDSHAKE = b"\x16"
TICKET = bytes([4, 0, 0, 15]) + struct.pack(">IIBBH", 7200, 0, 1, 0, 1) + b"t" + b"\0\0"


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, 7.1, without a context."""
    named = b"tls13 " + label
    info = struct.pack(">HB", length, len(named)) + named + b"\0"
    return HKDFExpand(hashes.SHA384(), length, info).derive(secret)


def records(secret: bytes, first: int) -> bytes:
    """RECORDS of a NewSessionTicket each, sealed by TLS_AES_256_GCM_SHA384; `first`: its number."""
    cipher = AESGCM(_expanded(secret, b"key", 32))
    begin = int.from_bytes(_expanded(secret, b"iv", 12), "big")
    head = struct.pack(">BHH", 0x17, 0x0303, len(TICKET) + 1 + 16)
    return b"".join(
        head + cipher.encrypt((begin ^ number).to_bytes(12, "big"), TICKET + HANDSHAKE, head)
        for number in range(first, first + RECORDS)
    )


class Hostile:
    """Answers a request with one event, and then with tickets."""

    def __init__(self, tls: ssl.SSLContext, keys: Path) -> None:
        self._tls, self._keys = tls, keys
        tls.num_tickets = 0
        tls.keylog_filename = str(keys)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.ready = threading.Event()
        self.go_on = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            plain, _ = self._listener.accept()
            with plain.dup() as wire, self._tls.wrap_socket(plain, server_side=True) as sealed:
                sealed.recv(65536)
                sealed.sendall(HEAD + EVENT)
                lines = [line.split() for line in self._keys.read_text().splitlines()]
                secret = next(line[2] for line in lines if line[0] == "SERVER_TRAFFIC_SECRET_0")
                flood = records(bytes.fromhex(secret), 1)
                self.ready.set()
                self.go_on.wait(5)
                wire.sendall(flood)
        except OSError:
            pass  # it was hung up on

    def close(self) -> None:
        self.go_on.set()
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[Impostor]:
    made = Impostor(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def hostile(impostor: Impostor, tmp_path: Path) -> Iterator[Hostile]:
    made = Hostile(impostor.tls, tmp_path / "keys")
    yield made
    made.close()


async def test_records_without_data_do_not_hold_the_loop(hostile: Hostile) -> None:
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            worst = max(worst, loop.time() - before)

    pool = EnginePool(port=hostile.port)
    engine = pool.engine("cluster", AUTHORITY, "master-0", "127.0.0.1")
    ear = await engine.listen({"type": ["node"]})
    changes = ear.changes()
    await anext(changes)
    await asyncio.to_thread(hostile.ready.wait, 20)
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    hostile.go_on.set()
    with pytest.raises(EngineSilent, match="sends more than a Docker Engine does"):
        async with asyncio.timeout(10):
            await anext(changes)
    await asyncio.sleep(0.02)
    ticking.cancel()
    await pool.aclose()
    assert worst < 0.2
