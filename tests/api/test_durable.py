"""Turns outlive their appliance: killed processes, two appliances on one Redis, and Redis that is away, slow, full
or damaged. One real redis-server for all; every appliance here keeps its turns in it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from conftest import Server, metric, wait_for

LONG = {"ignore_eos": True}
STORE_MS = 1500


class Redis:
    """A redis-server on a Unix socket, and the few commands that the tests need."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "redis.sock"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.path), "--dir", str(self.directory),
             "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL)
        assert wait_for(self.answers)

    def answers(self) -> bool:
        try:
            return self.send("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def send(self, *words: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(
                b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
            return connection.recv(1 << 20)

    def key_of(self, record_id: str) -> str:
        found = [w for w in self.send("KEYS", f"*{record_id.split('_')[1]}*").decode().split("\r\n") if ":" in w]
        assert len(found) == 1, found
        return found[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def appliance(redis: Redis) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(store_ms: int = STORE_MS) -> Server:
        servers.append(Server({"state.store": "redis", "state.log": f"unix:{redis.path}",
                               "limits.store_ms": str(store_ms), "state.timeout_ms": str(store_ms // 2)}))
        return servers[-1]
    yield start
    for server in servers:
        if server.process.poll() is None:
            assert server.drain() == 0, server.log_text()[-2000:]
        server.close()


@pytest.fixture(scope="module")
def pair(appliance) -> tuple[Server, Server]:
    return appliance(), appliance()


def connect(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


def say(client: openai.OpenAI, text, **more):
    return client.responses.create(model="model", input=text, **more)


def dump(events) -> list[dict]:
    return [e.model_dump() for e in events]


def post(server: Server, path: str, body: dict, **more) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60, **more)


def settled(client: openai.OpenAI, conversation: str) -> bool:
    try:
        say(client, "Hi", conversation=conversation, max_output_tokens=2)
        return True
    except openai.APIStatusError:
        return False


# ---- killed appliances


def test_a_killed_appliance_loses_nothing_that_it_acknowledged(appliance) -> None:
    first = appliance()
    client = connect(first)
    c = client.conversations.create()
    say(client, "My name is Ada.", conversation=c.id)
    body = {"input": "Tell me more.", "conversation": c.id, "stream": True, "max_output_tokens": 20, **LONG,
            "include": ["message.output_text.logprobs"]}
    live = post(first, "/v1/responses", body).text
    response = json.loads(live.split("data: ", 1)[1].split("\n", 1)[0])["response"]["id"]
    running = say(client, "Hi", background=True, conversation=c.id, max_output_tokens=1500, extra_body=LONG)
    cut = iter(client.responses.retrieve(running.id, stream=True))
    for _ in range(8):
        next(cut)
    first.process.kill()
    first.process.wait()

    client = connect(appliance())
    second = client.base_url
    get = lambda query: httpx.get(f"{second}responses/{response}{query}", timeout=60).text  # noqa: E731
    assert get("?stream=true") == live
    events = live.split("\n\n")
    assert get("?stream=true&starting_after=6") == "\n\n".join(events[7:])
    assert client.responses.retrieve(response).status == "incomplete"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(running.id)        # it was never acknowledged as more than queued
    assert len(client.conversations.items.list(c.id).data) == 4
    assert say(client, "Hi", conversation=c.id, max_output_tokens=4).output_text       # no lock is left


def test_a_conversation_goes_on_as_if_nothing_had_happened(appliance) -> None:
    """Killed after every turn, against one appliance that lives."""
    steady = connect(appliance())
    questions = ["My name is Ada.", "What is my name?", "Tell me about cats.", "And dogs?"]
    options = dict(include=["message.output_text.logprobs"], top_logprobs=1, max_output_tokens=12)
    expected, previous = [], None
    for q in questions:
        r = say(steady, q, previous_response_id=previous, **options)
        expected.append(r)
        previous = r.id
    previous = None
    for q, want in zip(questions, expected):
        server = appliance()
        r = say(connect(server), q, previous_response_id=previous, **options)
        server.process.kill()
        server.process.wait()
        assert [p.model_dump() for p in r.output[0].content] == [p.model_dump() for p in want.output[0].content]
        assert r.usage.input_tokens == want.usage.input_tokens
        previous = r.id


def test_drain_lets_background_turns_end_and_keeps_them(appliance) -> None:
    server, other = appliance(), appliance()
    r = say(connect(server), "Hi", background=True, max_output_tokens=300, extra_body=LONG)
    assert server.drain() == 0
    assert connect(other).responses.retrieve(r.id).usage.output_tokens == 300


# ---- two appliances


def test_a_conversation_hops_at_every_turn(pair) -> None:
    clients = [connect(s) for s in pair]
    here, there = clients[0].conversations.create(), clients[0].conversations.create()
    for i in range(6):
        a = say(clients[i % 2], f"This is turn {i}.", conversation=here.id, max_output_tokens=8)
        b = say(clients[0], f"This is turn {i}.", conversation=there.id, max_output_tokens=8)
        assert a.output_text == b.output_text and a.usage.input_tokens == b.usage.input_tokens
    items = clients[1].conversations.items.list(here.id, limit=100).data
    assert len(items) == 12


def test_a_lost_race_says_so_and_changes_nothing(pair) -> None:
    """The slow turn begins first and commits last."""
    clients = [connect(s) for s in pair]
    c = clients[0].conversations.create()
    slow = iter(say(clients[0], "Hi", conversation=c.id, stream=True, max_output_tokens=1000, extra_body=LONG))
    seen = [next(slow) for _ in range(5)]
    quick = say(clients[1], "Hi", conversation=c.id, max_output_tokens=2)
    seen += list(slow)
    assert seen[-1].type == "response.failed" and seen[-1].response.error.code == "conversation_locked"
    assert [e.sequence_number for e in seen] == list(range(len(seen)))
    items = clients[1].conversations.items.list(c.id).data
    assert [i.id for i in items] == [quick.output[0].id, clients[0].responses.input_items.list(quick.id).data[0].id]
    with pytest.raises(openai.NotFoundError):
        clients[1].responses.retrieve(seen[0].response.id)


def test_racing_turns_make_one_line(pair) -> None:
    clients = [connect(s) for s in pair]
    c = clients[0].conversations.create()
    done: list[str] = []

    def work(client: openai.OpenAI) -> None:
        for _ in range(15):
            try:
                done.append(say(client, "Hi", conversation=c.id, max_output_tokens=2, extra_body=LONG).id)
            except openai.BadRequestError as error:
                assert error.code == "conversation_locked"
    threads = [threading.Thread(target=work, args=(client,)) for client in clients * 2]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    tree = httpx.get(f"{pair[0].url}/v1/conversations/{c.id}/tree", timeout=60).json()
    assert sorted(t["id"] for t in tree["turns"]) == sorted(done) and len(done) >= 2
    parents = {t["parent"]: t["id"] for t in tree["turns"]}
    assert len(parents) == len(done)                 # nobody has two children
    at, length = None, 0
    while at in parents:
        at, length = parents[at], length + 1
    assert length == len(done) and at == tree["conversations"][0]["head"]


def test_one_key_on_two_appliances_makes_one_turn(pair) -> None:
    key = {"Idempotency-Key": f"pair-{time.time_ns()}"}
    body = {"input": "Hi", "temperature": 1, "max_output_tokens": 30, **LONG}
    answers: list[httpx.Response] = []
    ask = lambda server: answers.append(post(server, "/v1/responses", body, headers=key))  # noqa: E731
    threads = [threading.Thread(target=ask, args=(server,)) for server in pair]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    bodies = [a.json() for a in answers]
    assert [a.status_code for a in answers] == [200, 200]
    assert bodies[0] == bodies[1] == post(pair[0], "/v1/responses", body, headers=key).json()


def test_a_deleted_response_is_gone_everywhere(pair) -> None:
    clients = [connect(s) for s in pair]
    r = say(clients[0], "Hi", max_output_tokens=2)
    clients[1].responses.delete(r.id)
    with pytest.raises(openai.NotFoundError):
        clients[0].responses.retrieve(r.id)


# ---- Redis away


def refused(answer: httpx.Response, code: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == code and int(answer.headers["retry-after"]) >= 1


def test_redis_that_hangs_is_waited_for_and_no_longer(pair, redis: Redis) -> None:
    client = connect(pair[0])
    r = say(client, "Hi", max_output_tokens=2)
    c = client.conversations.create()
    requests = [("POST", "/v1/responses", {"input": "Hi", "max_output_tokens": 2}),
                ("POST", "/v1/responses", {"input": "Hi", "previous_response_id": r.id}),
                ("POST", "/v1/responses", {"input": "Hi", "conversation": c.id}),
                ("POST", "/v1/conversations", {}),
                ("GET", f"/v1/responses/{r.id}", None),
                ("GET", f"/v1/conversations/{c.id}/items", None)]
    ask = lambda x: httpx.request(x[0], f"{pair[0].url}{x[1]}", json=x[2], timeout=60)  # noqa: E731
    with redis.stopped(), ThreadPoolExecutor(len(requests)) as pool:
        began = time.monotonic()
        for answer in pool.map(ask, requests):
            refused(answer, "state_unavailable")
        assert time.monotonic() - began < STORE_MS / 1000 + 5    # and not the minute that a client may have
        assert say(client, "Hi", store=False, max_output_tokens=4).output_text
        assert client.chat.completions.create(model="model", max_tokens=4, messages=[
            {"role": "user", "content": "Hi"}]).choices
    assert wait_for(lambda: settled(client, c.id), 20)
    assert client.responses.retrieve(r.id).id == r.id


def test_a_short_pause_is_not_noticed(appliance, redis: Redis) -> None:
    client = connect(appliance(store_ms=20000))
    stream = iter(say(client, "Hi", stream=True, max_output_tokens=40, extra_body=LONG))
    seen = [next(stream)]
    with redis.stopped():
        while seen[-1].type != "response.output_item.done":
            seen.append(next(stream))                # tokens do not wait, only the end does
        time.sleep(0.1)
    seen += list(stream)
    assert seen[-1].type == "response.incomplete"
    assert client.responses.retrieve(seen[0].response.id).status == "incomplete"


def test_the_end_of_a_stream_is_not_told_before_it_is_kept(pair, redis: Redis) -> None:
    client = connect(pair[0])
    c = client.conversations.create()
    stream = iter(say(client, "Hi", conversation=c.id, stream=True, max_output_tokens=40, extra_body=LONG))
    seen = [next(stream) for _ in range(3)]
    with redis.stopped():
        seen += list(stream)
    assert seen[-1].type == "response.failed"
    assert seen[-1].response.error.code == "state_unavailable" and seen[-1].response.status == "failed"
    assert [e.sequence_number for e in seen] == list(range(len(seen)))
    # Unknown is not refused: the turn may be there, whole, or not at all, and the conversation goes on.
    assert wait_for(lambda: settled(client, c.id), 20)
    assert len(client.conversations.items.list(c.id).data) in (2, 4)


def test_redis_that_dies_comes_back_with_everything(pair, redis: Redis) -> None:
    client = connect(pair[0])
    assert wait_for(lambda: post(pair[0], "/v1/responses", {"input": "Hi", "max_output_tokens": 1}).status_code == 200)
    r = say(client, "My name is Ada.")
    redis.kill()
    refused(post(pair[0], "/v1/responses", {"input": "Hi", "max_output_tokens": 2}), "state_unavailable")
    redis.start()
    assert wait_for(lambda: httpx.get(f"{pair[0].url}/v1/responses/{r.id}").status_code == 200, 20)
    assert client.responses.retrieve(r.id).model_dump() == r.model_dump()
    assert say(client, "What is my name?", previous_response_id=r.id).output_text


def test_redis_that_is_full(pair, redis: Redis) -> None:
    client = connect(pair[0])
    r = say(client, "Hi", max_output_tokens=2)
    redis.send("CONFIG", "SET", "maxmemory", "1")
    try:
        refused(post(pair[0], "/v1/responses", {"input": "Hi", "max_output_tokens": 2}), "state_full")
        refused(post(pair[0], "/v1/conversations", {}), "state_full")
        assert client.responses.retrieve(r.id).id == r.id
        assert say(client, "Hi", store=False, max_output_tokens=2).output_text
    finally:
        redis.send("CONFIG", "SET", "maxmemory", "0")
    assert say(client, "Hi", previous_response_id=r.id, max_output_tokens=2).output_text


def test_damaged_records_are_named_and_nothing_else(pair, redis: Redis) -> None:
    client = connect(pair[0])
    broken, wrong, good = (say(client, "Hi", max_output_tokens=2) for _ in range(3))
    redis.send("SETRANGE", redis.key_of(broken.id), "20", "damage")
    key = redis.key_of(wrong.id)
    redis.send("DEL", key)
    redis.send("LPUSH", key, "x")
    for r in (broken, wrong):
        for answer in (httpx.get(f"{pair[0].url}/v1/responses/{r.id}"),
                       post(pair[0], "/v1/responses", {"input": "Hi", "previous_response_id": r.id})):
            error = answer.json()["error"]
            assert answer.status_code == 500 and error["code"] == "state_corrupt" and r.id in error["message"]
    assert client.responses.retrieve(good.id).id == good.id


def test_an_expired_parent(pair, redis: Redis) -> None:
    client = connect(pair[0])
    first = say(client, "Hi", max_output_tokens=2)
    second = say(client, "Hi", previous_response_id=first.id, max_output_tokens=2)
    redis.send("DEL", redis.key_of(first.id))
    other = connect(pair[1])                         # which has not seen these turns
    with pytest.raises(openai.BadRequestError) as error:
        say(other, "Hi", previous_response_id=second.id)
    assert error.value.code == "previous_response_not_found"
    assert client.responses.retrieve(second.id).id == second.id


def test_nothing_is_left_behind(pair) -> None:
    for server in pair:
        assert wait_for(lambda: metric(server.url, "cairn_sequences_running") == 0)
        assert wait_for(lambda: metric(server.url, 'cairn_pages{state="held"}') == 0)
