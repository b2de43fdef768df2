"""The user namespace that a node gets, and who made it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.providers.local.slots import subid

LENDER = """
import asyncio, os, sys
from pathlib import Path
from moorage.providers.local import userns

async def lend():
    async with userns.lent(Path(sys.argv[1]), int(sys.argv[2])):
        print(os.readlink(sys.argv[1]).split("/")[2], flush=True)
        await asyncio.sleep(60)

asyncio.run(lend())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a sub-id's user a namespace: needs root")
def test_its_maker_ends_with_the_server_however_that_ends(tmp_path: Path) -> None:
    uid = subid(4094)
    argv = [sys.executable, "-c", LENDER, str(tmp_path / "user"), str(uid)]
    for _ in range(5):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            maker = os.pidfd_open(int(server.stdout.readline()))
            namespace = os.open(tmp_path / "user", os.O_RDONLY)
            mapped = (tmp_path / "user").readlink().parents[1] / "uid_map"
            assert mapped.read_text().split() == ["0", str(uid), "65536"]
            server.kill()
        assert select.select([maker], [], [], 5.0)[0], "it lives on"
        os.close(maker)
        os.close(namespace)
