"""Answers go on where another server stopped: their KV pages come back from Redis or from host memory, and
whatever happens to those pages, the tokens and logprobs are the same."""
import json
import random
import signal
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, serve

from .redis import Redis

PAGE_TOKENS = 16
PAGES = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lfu")
CACHED = 'cairn_cached_tokens_total{{tier="{}"}}'


@pytest.fixture
def pages() -> Iterator[Redis]:
    with Redis(*PAGES) as redis:
        redis.wait()
        yield redis


def server_on(pages: Redis, *flags: str):
    """A server that keeps pages there; turns of its own have no place to be kept."""
    return serve("--state.store", "redis", "--state.log", pages.address, "--state.pages", pages.address,
                 "--state.durability", "memory", *flags)


def prompt_of(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(10, 2000) for _ in range(count)]


def ask(server: Server, prompt: list[int], **more: object) -> dict:
    body = {"prompt": prompt, "max_tokens": 24, "seed": 7, "temperature": 0.8, "logprobs": 3,
            "return_token_ids": True, "ignore_eos": True} | more
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def said(answer: dict) -> tuple:
    choice = answer["choices"][0]
    return choice["token_ids"], choice["text"], choice["logprobs"]


def cached(answer: dict) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def wait_until(condition, timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def is_written(server: Server) -> bool:
    return server.metric("cairn_write_behind_pages") == 0


def fill(pages: Redis, prompt: list[int]) -> tuple:
    """What a first server answers, all of whose pages are in Redis afterwards."""
    with server_on(pages) as server:
        answer = ask(server, prompt)
        assert cached(answer) == 0
        wait_until(lambda: is_written(server))
        server.kill()
    return said(answer)


def page_keys(pages: Redis) -> list[str]:
    return [key for key in pages.cli("KEYS", "cairn:page:*").split("\n") if key]


def test_a_killed_server_is_continued_by_another(pages: Redis) -> None:
    prompt = prompt_of(1, 700)
    before = fill(pages, prompt)
    assert len(page_keys(pages)) == (700 + 24 - 1) // PAGE_TOKENS
    with server_on(pages) as server:
        answer = ask(server, prompt)
        assert said(answer) == before
        assert cached(answer) == 699 // PAGE_TOKENS * PAGE_TOKENS
        assert server.metric(CACHED.format("redis")) == cached(answer)
        assert server.metric('cairn_restores_total{end="whole"}') == 1
        # The next turn has the first one's answer in its past, which is in Redis as well.
        longer = prompt + said(answer)[0] + prompt_of(2, 30)
        ask(server, longer)
        assert server.metric(CACHED.format("redis")) == cached(answer)     # by now it is on the device
    with server_on(pages) as server:
        assert cached(ask(server, longer)) == (len(longer) - 1) // PAGE_TOKENS * PAGE_TOKENS


def test_draining_saves_what_was_computed(pages: Redis) -> None:
    with server_on(pages) as server:
        ask(server, prompt_of(3, 900), max_tokens=1)
    assert len(page_keys(pages)) == 900 // PAGE_TOKENS


@pytest.mark.parametrize("damage", ["header", "middle", "tail", "short", "long", "empty", "list"])
def test_a_damaged_page_is_computed(pages: Redis, damage: str) -> None:
    """What is damaged counts as absent, and is replaced."""
    prompt = prompt_of(4, 300)
    before = fill(pages, prompt)
    keys = page_keys(pages)
    size = int(pages.cli("STRLEN", keys[0]))
    for key in random.Random(damage).sample(keys, 4):
        at = {"header": 3, "middle": size // 2, "tail": size - 1}.get(damage)
        if at is not None:
            byte = pages.cli("--no-raw", "GETRANGE", key, str(at), str(at))
            pages.cli("SETRANGE", key, str(at), "y" if byte == '"x"' else "x")
        elif damage == "long":
            pages.cli("APPEND", key, "x")
        else:
            pages.cli("DEL", key)
            if damage == "list":
                pages.cli("LPUSH", key, "x")
            else:
                pages.cli("SET", key, "x" * 100 if damage == "short" else "")
    with server_on(pages) as server:
        answer = ask(server, prompt)
        assert said(answer) == before
        assert cached(answer) < 299 // PAGE_TOKENS * PAGE_TOKENS
        assert server.metric('cairn_restores_total{end="short"}') == 1
    with server_on(pages) as server:
        answer = ask(server, prompt)
        assert said(answer) == before
        assert cached(answer) == 299 // PAGE_TOKENS * PAGE_TOKENS


def test_evicted_pages_are_computed(pages: Redis) -> None:
    prompt = prompt_of(5, 500)
    before = fill(pages, prompt)
    for key in random.Random(5).sample(page_keys(pages), 8):
        pages.cli("DEL", key)
    with server_on(pages) as server:
        assert said(ask(server, prompt)) == before
    pages.cli("FLUSHALL")
    with server_on(pages) as server:
        answer = ask(server, prompt)
        assert said(answer) == before and cached(answer) == 0


def test_pages_of_another_build_or_tenant_are_not_found(pages: Redis) -> None:
    """Another instruction set computes other bits: its pages have other keys."""
    prompt = prompt_of(6, 200)
    fill(pages, prompt)
    with server_on(pages, "--cpu.path", "portable") as server:
        assert cached(ask(server, prompt)) == 0
    with server_on(pages) as server:
        assert cached(ask(server, prompt, cache_salt="stranger")) == 0
        assert cached(ask(server, prompt)) == 199 // PAGE_TOKENS * PAGE_TOKENS


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_redis_away_is_not_an_outage(pages: Redis, how: str) -> None:
    """Answers come, the same ones and in time; and once Redis is back it is used again."""
    prompt, other = prompt_of(7, 400), prompt_of(8, 400)
    before = fill(pages, prompt)
    with server_on(pages) as server:
        if how == "killed":
            pages.kill()
        else:
            pages.signal(signal.SIGSTOP)
        begin = time.monotonic()
        answer = ask(server, prompt)
        assert said(answer) == before and cached(answer) == 0
        ask(server, other)
        assert time.monotonic() - begin < 10
        if how == "killed":
            pages.start()
            pages.wait()
        else:
            pages.signal(signal.SIGCONT)
        wait_until(lambda: is_written(server))
        wait_until(lambda: ask(server, prompt_of(random.randrange(1 << 30), 64)) and len(page_keys(pages)) >= 20)


def test_pages_come_back_from_host_memory() -> None:
    """The device holds one conversation, host memory many."""
    conversations = [prompt_of(20 + i, 500) for i in range(6)]
    page_bytes = 4 * 2 * 2 * 64 * 2 * PAGE_TOKENS
    room = str(36 * page_bytes)
    with serve("--state.store", "none", "--kv.bytes", room, "--kv.host_bytes", "64M",
               "--engine.sequences", "2", "--engine.context_tokens", "576") as server:
        first = []
        for prompt in conversations:
            first.append(said(ask(server, prompt)))
            wait_until(lambda: is_written(server))
        for _ in range(3):
            for prompt, before in zip(conversations, first):
                answer = ask(server, prompt)
                assert said(answer) == before
                assert cached(answer) % PAGE_TOKENS == 0
        # On a busy machine some come too late, and are computed.
        assert server.metric(CACHED.format("host")) > 3 * 6 * 496 / 2
        assert server.metric('cairn_page_bytes_total{tier="host",direction="restored"}') > 0


def test_a_small_redis_serves_what_it_kept(pages: Redis) -> None:
    """Eviction in the middle of chains, while pages are written and read."""
    pages.cli("CONFIG", "SET", "maxmemory", "4mb")
    conversations = [prompt_of(40 + i, 400) for i in range(8)]
    with serve("--state.store", "none") as server:
        want = [said(ask(server, prompt)) for prompt in conversations]
    for life in range(2):
        with server_on(pages) as server:
            assert [said(ask(server, prompt)) for prompt in conversations] == want
    assert int(pages.cli("INFO", "stats").split("evicted_keys:")[1].split()[0]) > 0
