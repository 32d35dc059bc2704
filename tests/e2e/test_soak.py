"""A server under clients of every bad kind stays up, frees every page, and does not grow."""
import json
import random
import socket
import threading
import time

from .server import Server, serve

SECONDS = 40
CLIENTS = 12


def body_of(rng: random.Random, stream: bool) -> bytes:
    # Few beginnings, so that prefixes are shared, and random ends.
    prompt = f"{'The same beginning of a long text. ' * rng.randrange(1, 12)}{rng.random()}"
    request = {"prompt": prompt, "max_tokens": rng.randrange(1, 80), "stream": stream, "ignore_eos": True,
               "temperature": rng.choice([0, 1]), "seed": 1, "n": rng.choice([1, 1, 1, 3])}
    return json.dumps(request).encode()


def send(server: Server, body: bytes, timeout: float = 60) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)), timeout=timeout)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: "
              + str(len(body)).encode() + b"\r\n\r\n" + body)
    return s


def read_all(s: socket.socket) -> bytes:
    got = b""
    while piece := s.recv(65536):
        got += piece
    return got


def one(server: Server, rng: random.Random) -> None:
    kind = rng.randrange(6)
    stream = kind != 0
    body = body_of(rng, stream)
    with send(server, body) as s:
        if kind in (0, 1, 2):        # reads the whole answer
            answer = read_all(s)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
            assert not stream or b"data: [DONE]" in answer
        elif kind == 3:              # vanishes in the middle of the stream
            s.recv(200)
        elif kind == 4:              # vanishes at once
            pass
        else:                        # reads slowly, then resets
            for _ in range(3):
                s.recv(64)
                time.sleep(0.02)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def run_clients(server: Server, until: float, seed: int) -> list[BaseException]:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        rng = random.Random(seed + number)
        try:
            while time.monotonic() < until and not failures:
                one(server, rng)
        except BaseException as e:   # noqa: BLE001  (told to the main thread)
            failures.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return failures


def wait_until_idle(server: Server) -> None:
    for _ in range(100):
        if server.metric("cairn_sequences_running") == server.metric("cairn_sequences_waiting") == 0:
            return
        time.sleep(0.1)
    raise AssertionError("sequences are left after all clients have gone")


def test_soak() -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed", seed)
    # Few pages and places, so that sequences wait and are preempted.
    with serve("--kv.bytes", "6M", "--engine.sequences", "8", "--engine.context_tokens", "512") as server:
        assert not (failures := run_clients(server, time.monotonic() + SECONDS / 4, seed)), failures[0]
        wait_until_idle(server)
        before_kib = server.resident_kib()
        assert not (failures := run_clients(server, time.monotonic() + SECONDS, seed + 100)), failures[0]
        wait_until_idle(server)
        after_kib = server.resident_kib()
        assert server.metric('cairn_pages{state="held"}') == 0
        assert server.metric('cairn_sequences_finished_total{reason="cancelled"}') > 0
        assert server.metric('cairn_sequences_finished_total{reason="error"}') == 0
        print(f"resident {before_kib} KiB, {after_kib} KiB after {SECONDS} s more; preemptions "
              f"{server.metric('cairn_preemptions_total'):.0f}")
        assert after_kib - before_kib < 2048
