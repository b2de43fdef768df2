"""An ear on engines that fall silent, lie, or have far too much to tell."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from moorage.clients import docker_events
from moorage.clients.docker import EnginePool, EngineSilent
from moorage.clients.docker_events import OVERHEAD, Ear
from tests.unit.clients.test_docker import AUTHORITY, Impostor

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'8\r\n{"a":1}\n\r\n'
END = b"0\r\n\r\n"


class Engine:
    """A TLS server that says what a test has it say to each request; `asked` are their heads."""

    def __init__(self, impostor: Impostor) -> None:
        self.impostor = impostor
        self.asked: list[str] = []
        self.connections = 0
        self.port = 0

    async def start(self, speak: Speak) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.asked.append(head.decode())
                    await speak(reader, writer)
                    await writer.drain()
            writer.close()

        self.server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.impostor.tls)
        self.port = self.server.sockets[0].getsockname()[1]

    async def ear(self) -> Ear:
        pool = EnginePool(port=self.port)
        engine = pool.engine("cluster", AUTHORITY, "master-0", "127.0.0.1")
        try:
            return await engine.listen({"type": ["node"]})
        finally:
            await pool.aclose()


@pytest_asyncio.fixture
async def engine(tmp_path: object) -> AsyncIterator[Engine]:
    impostor = Impostor(tmp_path)  # type: ignore[arg-type]
    await impostor.start()
    made = Engine(impostor)
    yield made
    made.server.close()
    await impostor.stop()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_events, "PULSE", 0.2)
    monkeypatch.setattr(docker_events, "GRACE", 0.1)


async def heard(ear: Ear, count: int) -> int:
    """How many changes, up to `count`; EngineSilent is passed on."""
    number = 0
    async with asyncio.timeout(10), contextlib.aclosing(ear.changes()) as changes:
        async for _ in changes:
            number += 1
            if number == count:
                break
    return number


async def test_events_are_heard_and_asked_for_again_on_one_connection(engine: Engine) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + EVENT)
        await asyncio.sleep(0.1)
        writer.write(EVENT + END)

    await engine.start(speak)
    assert await heard(await engine.ear(), 5) == 5
    assert engine.connections == 1
    assert engine.asked[0].startswith(
        "GET /events?filters=%7B%22type%22%3A+%5B%22node%22%5D%7D&until="
    )
    assert "since=" not in engine.asked[0]
    until = engine.asked[0].partition("until=")[2].partition(" ")[0]
    assert f"since={until} " in engine.asked[1], "nothing in between is missed"


async def test_an_engine_that_hangs_does_not_end_its_answer(engine: Engine) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)

    await engine.start(speak)
    with pytest.raises(EngineSilent, match=r"^engine of master-0 at .* tells nothing$"):
        await heard(await engine.ear(), 1)


async def test_an_engine_that_does_not_begin_to_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    await engine.start(speak)
    ear = await engine.ear()
    monkeypatch.setattr(docker_events, "CONNECT_SECONDS", 0.1)
    with pytest.raises(EngineSilent, match="tells nothing"):
        await heard(ear, 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"what?\r\n\r\n", "did not answer as a Docker Engine does"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "answered with status 500"),
        (b"HTTP/1.1 302 F\r\nLocation: http://x/\r\n\r\n", "answered with status 302"),
        (
            b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "status 101|Docker Engine",
        ),
        (HEAD + b"ffffffffffffffffffff\r\n", "did not answer as a Docker Engine does"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 2 * OVERHEAD, "sends more than a Docker Engine"),
        (HEAD + b"1\r\na\r\n" * OVERHEAD, "sends more than a Docker Engine does"),
        (HEAD + END.removesuffix(b"\r\n") + b"T: " + b"a" * 2 * OVERHEAD, "sends more than"),
    ],
)
async def test_what_no_engine_says(engine: Engine, answer: bytes, said: str) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    await engine.start(speak)
    with pytest.raises(EngineSilent, match=said):
        await heard(await engine.ear(), 1_000_000)


async def test_one_that_breaks_off(engine: Engine) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await writer.drain()
        writer.close()

    await engine.start(speak)
    with pytest.raises(EngineSilent, match="closed the connection"):
        await heard(await engine.ear(), 1)


async def test_one_whose_clock_is_ahead_is_not_asked_without_a_pause(engine: Engine) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + END)

    await engine.start(speak)
    ear = await engine.ear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.55), contextlib.aclosing(ear.changes()) as changes:
            async for _ in changes:
                pass
    assert 2 <= len(engine.asked) <= 6


async def test_a_flood_waits_with_its_sender_and_nothing_of_it_is_kept(engine: Engine) -> None:
    sent = 0
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    await engine.start(speak)
    ear = await engine.ear()
    async with contextlib.aclosing(ear.changes()) as changes:
        await anext(changes)
        await asyncio.sleep(0.2)  # whoever listens takes its time with the hint
        waiting, began = sent, time.process_time()
        tracemalloc.start()
        await asyncio.sleep(0.3)
        assert sent == waiting, "the sender waits"
        assert time.process_time() - began < 0.1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


async def test_nobody_there(engine: Engine) -> None:
    async def speak(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None: ...

    await engine.start(speak)
    engine.server.close()
    with pytest.raises(EngineSilent, match="refused the connection"):
        await engine.ear()
