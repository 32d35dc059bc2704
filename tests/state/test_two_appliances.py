"""Two appliances on one Redis: they race for the same heads, share retries, and a conversation hops between
them at every turn. CN_TURNS makes longer runs; CN_SEED repeats the choices of one."""
import http.client
import itertools
import json
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.server import CAIRN, DEMO, Server, serve

from .redis import DURABLE, Redis

TURNS = int(os.environ.get("CN_TURNS", "2000"))
WRITERS = 8
CONVERSATIONS = 12


class Client:
    """One kept-alive connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)

    def call(self, method: str, path: str, body: dict | None = None, **headers: str) -> tuple[int, dict]:
        data = None if body is None else json.dumps(body)
        fields = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        self.connection.request(method, path, data, fields)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def get(self, path: str) -> dict:
        status, body = self.call("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, body: dict, **headers: str) -> dict:
        status, answer = self.call("POST", path, body, **headers)
        assert status == 200, answer
        return answer

    def turns(self, conversation: str) -> list[dict]:
        """The chain of a conversation, from its export."""
        self.connection.request("GET", f"/v1/conversations/{conversation}/export")
        lines = [json.loads(line) for line in self.connection.getresponse().read().decode().splitlines()]
        assert lines[-1] == {"object": "conversation.export.end", "turns": len(lines) - 2}
        return lines[1:-1]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    with Redis(*DURABLE) as log, Redis("--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy",
                                       "allkeys-lfu") as pages:
        log.wait()
        pages.wait()
        # A machine that is busy with other things must not look like a store that is away.
        flags = ["--state.store", "redis", "--state.log", log.address, "--state.pages", pages.address,
                 "--limits.store_ms", "30000", "--limits.http_idle_ms", "3600000", "--state.timeout_ms", "20000",
                 "--state.page_timeout_ms", "10000"]
        with serve(*flags) as one, serve(*flags) as two:
            one.flags = flags            # for a third
            yield one, two


def until(server: Server, series: str, value: float, timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while server.metric(series) != value:
        assert time.monotonic() < end, series
        time.sleep(0.01)


@dataclass
class Attempt:
    conversation: str
    text: str
    start: float
    end: float = 0.0
    status: int = 0
    code: str | None = None


def write(server: Server, seed: int, count: int, conversations: list[str], out: list[Attempt]) -> None:
    """Adds items and turns to whichever conversation comes up, and notes what it was told."""
    rng, client = random.Random(seed), Client(server)
    for n in range(count):
        conversation = rng.choice(conversations)
        text = f"{seed} {n}"
        attempt = Attempt(conversation, text, time.monotonic())
        if rng.random() < 0.3:
            body = {"conversation": conversation, "input": text, "max_output_tokens": 1}
            status, answer = client.call("POST", "/v1/responses", body)
        else:
            item = {"type": "message", "role": "user", "content": text}
            status, answer = client.call("POST", f"/v1/conversations/{conversation}/items", {"items": [item]})
        attempt.end, attempt.status = time.monotonic(), status
        attempt.code = answer.get("error", {}).get("code") if status != 200 else None
        out.append(attempt)


def user_text(turn: dict) -> str:
    return turn["input"][0]["content"][0]["text"]


def check(attempts: list[Attempt], chain: list[dict]) -> None:
    """The chain is a linear order of what was acknowledged, each once, and of nothing else; and what was
    acknowledged before something else was sent comes before it."""
    order = [user_text(turn) for turn in chain]
    assert len(set(order)) == len(order), "a turn is there twice"
    by_text = {a.text: a for a in attempts}
    assert set(order) <= set(by_text), "a turn that nobody sent"
    acknowledged = {a.text for a in attempts if a.status == 200}
    unknown = {a.text for a in attempts if a.status == 503}
    assert acknowledged <= set(order) <= acknowledged | unknown, (acknowledged - set(order), set(order) - acknowledged)
    latest_start = 0.0
    for text in order:
        assert by_text[text].end > latest_start, f"{text} comes after one that was sent later"
        latest_start = max(latest_start, by_text[text].start)


def test_races_are_linearizable(pair: tuple[Server, Server]) -> None:
    seed = int(os.environ.get("CN_SEED", random.randrange(1 << 30)))
    print(f"CN_SEED={seed}")
    client = Client(pair[0])
    conversations = [client.post("/v1/conversations", {})["id"] for _ in range(CONVERSATIONS)]
    attempts: list[Attempt] = []
    threads = [threading.Thread(target=write, args=(pair[i % 2], seed + i, TURNS // WRITERS, conversations,
                                                    attempts)) for i in range(WRITERS)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - start
    assert len(attempts) == TURNS // WRITERS * WRITERS
    refused = [a for a in attempts if a.status != 200]
    # What does not fit the demo model's window is refused before anything is stored. 503: nobody knows.
    assert {(a.status, a.code) for a in refused} <= {(400, "conversation_locked"), (503, "state_unavailable"),
                                                     (400, "context_length_exceeded")}
    lost = sum(a.code == "conversation_locked" for a in refused)
    print(f"{len(attempts)} turns in {took:.1f} s: {len(attempts) - len(refused)} acknowledged, {lost} lost a race")
    assert lost > 0, "nobody raced"
    for conversation in conversations:
        mine = [a for a in attempts if a.conversation == conversation]
        chains = [Client(server).turns(conversation) for server in pair]
        assert chains[0] == chains[1]
        check(mine, chains[0])


def test_one_key_is_one_turn(pair: tuple[Server, Server]) -> None:
    """The same request with the same Idempotency-Key, to both at once, and again later: one turn."""
    client = Client(pair[0])
    conversation = client.post("/v1/conversations", {})["id"]
    for n in range(10):
        body = {"conversation": conversation, "input": f"question {n}", "max_output_tokens": 3}
        told: list[tuple[int, dict]] = []

        def send(server: Server) -> None:
            told.append(Client(server).call("POST", "/v1/responses", body, Idempotency_Key=f"key {n}"))

        threads = [threading.Thread(target=send, args=(server,)) for server in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        send(pair[n % 2])
        good = [answer for status, answer in told if status == 200]
        # One of two at the same moment may find the conversation busy; the later one finds the turn.
        assert all(status == 200 or answer["error"]["code"] == "conversation_locked" for status, answer in told)
        assert told[2][0] == 200 and len({answer["id"] for answer in good}) == 1, told
        assert len({json.dumps(answer["output"]) for answer in good}) == 1
    assert [user_text(turn) for turn in client.turns(conversation)] == [f"question {n}" for n in range(10)]


class Mortal:
    """An appliance that is killed and started again."""

    def __init__(self, flags: list[str]) -> None:
        self.command = [CAIRN, "serve", "--model", DEMO, "--listen", "127.0.0.1:0", "--log.level", "off", *flags]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.server = Server(self.process, f"http://{line.split()[-1]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def insist(servers: list[Mortal], conversations: list[str], texts: list[str], seed: int) -> None:
    """Sends each text to each conversation until it is acknowledged, to whichever server is there, always with the key of the text."""
    rng = random.Random(seed)
    for conversation, text in itertools.product(conversations, texts):
        body = {"conversation": conversation, "input": text, "max_output_tokens": 2}
        while True:
            try:
                status, answer = Client(rng.choice(servers).server).call(
                    "POST", "/v1/responses", body, Idempotency_Key=f"{conversation} {text}")
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                time.sleep(0.01)
                continue
            if status == 200:
                break
            # The server that died held no lock, but a try that it began may have moved the head.
            assert answer["error"]["code"] in ("conversation_locked", "state_unavailable"), answer


def test_killed_appliances_double_nothing(pair: tuple[Server, Server]) -> None:
    """Two appliances are killed at random moments while clients insist on their turns: each is there once."""
    seed = int(os.environ.get("CN_SEED", random.randrange(1 << 30)))
    print(f"CN_SEED={seed}")
    rng, client = random.Random(seed), Client(pair[0])
    mortals = [Mortal(pair[0].flags) for _ in range(2)]
    conversations = [client.post("/v1/conversations", {})["id"] for _ in range(max(6, TURNS // 333))]
    texts = [f"text {n}" for n in range(120)]
    threads = [threading.Thread(target=insist, args=(mortals, conversations[i::6], texts, seed + i))
               for i in range(6)]
    for thread in threads:
        thread.start()
    kills = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(rng.uniform(0.02, 0.25))
        victim = rng.choice(mortals)
        victim.kill()
        victim.start()
        kills += 1
    for mortal in mortals:
        mortal.kill()
    print(f"{len(texts) * len(conversations)} turns, {kills} kills")
    assert kills >= 3
    for conversation in conversations:
        assert [user_text(turn) for turn in client.turns(conversation)] == texts


def prove(server: Server, conversation: str) -> str:
    proof = subprocess.run([CAIRN, "prove", conversation, "--url", server.url], text=True, capture_output=True)
    assert proof.returncode == 0, proof
    assert re.search(r"^10 turns, \d+ tokens, three times each: 0 differ", proof.stdout, re.M), proof
    return proof.stdout


def test_a_conversation_hops(pair: tuple[Server, Server]) -> None:
    """Told here and there in turn, a conversation has the same tokens as one that stayed in its place, and the
    pages that one appliance computed are found by the other."""
    def ask(client: Client, conversation: str, n: int) -> tuple[str, int]:
        words = f"Here is sentence number {n}, which is longer than one page of sixteen tokens. Say it again."
        answer = client.post("/v1/responses", {"conversation": conversation, "input": words, "seed": n,
                                               "temperature": 0.8, "max_output_tokens": 24})
        return (answer["output"][0]["content"][0]["text"],
                answer["usage"]["input_tokens_details"]["cached_tokens"])

    clients = [Client(server) for server in pair]
    there, here = (clients[0].post("/v1/conversations", {})["id"] for _ in range(2))
    hopped = [ask(clients[n % 2], there, n) for n in range(10)]
    stayed = [ask(clients[0], here, n) for n in range(10)]
    assert [text for text, _ in hopped] == [text for text, _ in stayed]
    assert sum(cached for _, cached in hopped) > 0
    tokens = [[turn["tokens"] for turn in clients[1].turns(c)] for c in (there, here)]
    assert tokens[0] == tokens[1]
    # Any turn of it can be had again on either, bit for bit, and on others that never saw it.
    for server in pair:
        prove(server, there)
        until(server, "cairn_write_behind_pages", 0)
    for _ in range(5):               # a busy machine may find computing faster than restoring
        with serve(*pair[0].flags) as third:
            until(third, 'cairn_store_up{role="pages"}', 1)
            told = prove(third, there)
        if "prompt tokens came from pages that were restored" in told:
            return
    pytest.fail(f"five appliances restored nothing: {told}")


def test_a_fork_is_shared(pair: tuple[Server, Server]) -> None:
    """Forked on one appliance, gone on with on the other: both branches keep what they share."""
    one, two = (Client(server) for server in pair)
    conversation = one.post("/v1/conversations", {})["id"]
    ids = [one.post("/v1/responses", {"conversation": conversation, "input": f"turn {n}",
                                      "max_output_tokens": 4})["id"] for n in range(4)]
    fork = two.post(f"/v1/conversations/{conversation}/fork", {"at": ids[1]})["id"]
    two.post("/v1/responses", {"conversation": fork, "input": "another way", "max_output_tokens": 4})
    one.post("/v1/responses", {"conversation": conversation, "input": "the old way", "max_output_tokens": 4})
    assert [t["id"] for t in one.turns(fork)[:2]] == ids[:2]
    assert [user_text(t) for t in one.turns(fork)] == ["turn 0", "turn 1", "another way"]
    assert [user_text(t) for t in two.turns(conversation)][3:] == ["turn 3", "the old way"]
    tree = one.get(f"/v1/conversations/{fork}/tree")
    assert {c["id"] for c in tree["conversations"]} == {conversation, fork}
    assert len(tree["turns"]) == 6
