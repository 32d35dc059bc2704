"""1,000 conversations with the kernel's TCP over a wire that drops, repeats, reorders, delays and damages frames in
the port layer (dataplane/nic_lossy.h below tests/http/echo_server): every byte arrives both ways, and nothing is
stuck. CN_SEED says which ones (default 1)."""
from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from tests.dataplane.namespaces import SERVER_ADDRESS, SERVER_ADDRESS6, Pair, pair

TOP = Path(__file__).resolve().parents[2]
SERVER = TOP / os.environ.get("CN_BUILD", "build") / "echo_server"
PORT = 8000
CONVERSATIONS, AT_ONCE = 1000, 300
PATIENCE_S = 240                                     # of all; a loaded machine is slow


async def converse(seed: int) -> None:
    """A body there, and the same back in the server's JSON, a few times over one connection."""
    dice = random.Random(seed)
    address = dice.choice([SERVER_ADDRESS, SERVER_ADDRESS6])
    reader, writer = await asyncio.open_connection(address, PORT)
    try:
        for _ in range(dice.randint(1, 3)):
            body = dice.randbytes(dice.choice([1, 50, 700, 4000, 20000])).hex()
            writer.write(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
                         f"\r\n{body}".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            answer = json.loads(await reader.readexactly(length))
            assert answer.get("body") == body, f"conversation {seed}: {answer.get('error')}"
    finally:
        writer.close()
    await writer.wait_closed()


async def converse_all(seed: int) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(at: int) -> None:
        async with places:
            await converse(seed * CONVERSATIONS + at)
    await asyncio.wait_for(asyncio.gather(*(one(at) for at in range(CONVERSATIONS))), PATIENCE_S)


def serve(network: Pair, damage: int, seed: int) -> subprocess.Popen[str]:
    flags = ["--address", f"[::]:{PORT}", "--dpdk-device", f"net_af_packet0,iface={network.server_end}",
             "--dpdk-address", f"{SERVER_ADDRESS}/24", "--dpdk-address6", f"{SERVER_ADDRESS6}/64",
             "--damage", str(damage),
             # Seven losses of one segment in a row are 25 s of silence, and not the server's business here.
             "--limit", f"http_receive_ms={PATIENCE_S * 1000}"]
    return subprocess.Popen(network.inside(network.server, str(SERVER), *flags), stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"CN_SEED": str(seed)})


@pytest.mark.parametrize("per_mille", [5, 50])
def test_every_byte_arrives(per_mille: int) -> None:
    """So many of a thousand frames of each kind of damage, in each direction: at 50 a tenth is lost or damaged."""
    seed = int(os.environ.get("CN_SEED", "1"), 0)
    print(f"hostile_wire: CN_SEED={seed:#x}")
    with pair(f"h{per_mille}") as network:
        server = serve(network, 1000 * per_mille, seed)
        try:
            assert server.stdout.readline().strip() == f"[::]:{PORT}"
            with network.enter(network.client):
                asyncio.run(converse_all(seed))
            assert server.poll() is None, "the server has died"
            server.terminate()
            done = [int(count) for count in re.findall(r"\d+", server.stdout.read())]
            assert server.wait(30) == 0
            assert len(done) == 5 and min(done) > 100, done
        finally:
            server.kill()
            server.wait()
