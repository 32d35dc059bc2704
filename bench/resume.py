#!/usr/bin/env python3
"""Time to the first token of a conversation that goes on: its KV pages computed again, restored from Redis
after a restart, and restored from host memory; and what page traffic costs a running answer.

usage: bench/resume.py [--model DIRECTORY] [--tokens N] [--rounds N] [--out FILE]

The model is by default the random 0.6B checkpoint that bench/serve makes. Needs a release build in build/
and redis-server. In each round the three ways take turns, so that a busy machine slows down all of them.
"""
import argparse
import contextlib
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.server import TOP, Server, serve  # noqa: E402
from tests.state.redis import Redis  # noqa: E402

TARGETS = {"redis": 8, "host": 30}       # times faster than computing
SLOWDOWN_MAX = 1.05
DECODE_TOKENS = 96


def prompt_of(seed: int, count: int, vocab: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(10, vocab) for _ in range(count)]


def stream(server: Server, prompt: list[int], tokens: int) -> tuple[float, list[float], int]:
    """Seconds to the first token, seconds between tokens, and how many prompt tokens were cached."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=600)
    body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0,
            "stream_options": {"include_usage": True}}
    begin = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    times, cached = [], 0
    for line in connection.getresponse():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event["choices"]:
            times.append(time.monotonic() - begin)
        elif event.get("usage"):
            cached = event["usage"]["prompt_tokens_details"]["cached_tokens"]
    connection.close()
    return times[0], [b - a for a, b in zip(times, times[1:])], cached


def wait_until_written(server: Server) -> float:
    begin = time.monotonic()
    while server.metric("cairn_write_behind_pages") > 0:
        time.sleep(0.02)
    return time.monotonic() - begin


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    with Redis("--appendonly", "no") as server:
        server.wait()
        yield server


class Bench:
    def __init__(self, model: Path, tokens: int) -> None:
        self.model, self.tokens = model, tokens
        config = json.loads((model / "config.json").read_text())
        self.vocab = config["vocab_size"]
        self.pages = (tokens - 1) // 16
        self.page_bytes = (2 * 2 * 16 * config["num_hidden_layers"] * config["num_key_value_heads"]
                           * config["head_dim"])
        # Room on the device for one conversation and a little more.
        self.context = tokens + DECODE_TOKENS + 64
        self.device = str((self.context // 16 + 8) * self.page_bytes)
        self.figures: dict[str, list[float]] = {}

    def note(self, name: str, value: float, unit: str = "s") -> None:
        self.figures.setdefault(name, []).append(value)
        print(f"{name:44} {value:10.4f} {unit}", flush=True)

    def first_token(self, name: str, server: Server, prompt: list[int], cached: int) -> None:
        seconds, _, found = stream(server, prompt, 1)
        if found != cached:
            sys.exit(f"{name}: {found} tokens were cached; {cached} should be")
        self.note(name, seconds)

    def server(self, *flags: str):
        return serve("--engine.context_tokens", str(self.context), "--engine.sequences", "4", *flags,
                     model=self.model)

    def from_redis(self, pages: Redis, seed: int) -> None:
        prompt = prompt_of(seed, self.tokens, self.vocab)
        flags = ["--state.store", "redis", "--state.log", pages.address, "--state.pages", pages.address,
                 "--state.durability", "memory", "--kv.bytes", self.device]
        with self.server(*flags) as server:
            self.first_token("computed", server, prompt, 0)
            self.note("written behind after the answer", wait_until_written(server))
        with self.server(*flags) as server:
            self.first_token("from Redis, after a restart", server, prompt, self.pages * 16)
            self.note("Redis, GB/s", server.metric('cairn_restore_bytes_per_second{tier="redis"}') / 1e9, "")

    def from_host(self, seed: int) -> None:
        one, two = (prompt_of(seed + i, self.tokens, self.vocab) for i in (100, 200))
        with self.server("--state.store", "none", "--kv.bytes", self.device,
                         "--kv.host_bytes", str(4 * self.pages * self.page_bytes)) as server:
            for prompt in (one, two):
                self.first_token("computed", server, prompt, 0)
                wait_until_written(server)
            for prompt in (one, two) * 2:
                self.first_token("from host memory", server, prompt, self.pages * 16)
            self.note("host memory, GB/s", server.metric('cairn_restore_bytes_per_second{tier="host"}') / 1e9, "")
            self.first_token("on the device", server, two, self.pages * 16)

    def decode(self, name: str, server: Server, prompts: list[list[int]], pause_s: float) -> None:
        """An answer beside a client that asks for the prompts in turn, for one token each."""
        end = threading.Event()

        def others() -> None:
            for i in range(1000):
                if end.wait(pause_s):
                    return
                stream(server, prompts[i % len(prompts)], 1)

        companion = threading.Thread(target=others)
        companion.start()
        gaps = stream(server, prompt_of(5, 40, self.vocab), DECODE_TOKENS)[1]
        end.set()
        companion.join()
        self.note(name, len(gaps) / sum(gaps), "tokens/s")

    def beside(self) -> None:
        """Two conversations that are asked for in turn: once both are on the device, once only one fits, so
        that each request brings back all pages of one."""
        count = min(self.tokens, 512)
        pair = [prompt_of(300 + i, count, self.vocab) for i in range(2)]
        room = (count // 16 + 4) * self.page_bytes
        beside = (DECODE_TOKENS + 64) // 16 * self.page_bytes
        common = ["--state.store", "none", "--kv.host_bytes", str(16 * room)]
        with self.server(*common, "--kv.bytes", str(4 * room + beside)) as resident, \
                self.server(*common, "--kv.bytes", str(room + beside), "--engine.context_tokens",
                            str(count + DECODE_TOKENS)) as moving:
            for server in (resident, moving):
                for prompt in pair:
                    stream(server, prompt, 1)
            for _ in range(3):
                self.decode("decode, pages stay on the device", resident, pair, 1.0)
                before = moving.metric('cairn_page_bytes_total{tier="host",direction="restored"}')
                begin = time.monotonic()
                self.decode("decode, pages move beside it", moving, pair, 1.0)
                moved = moving.metric('cairn_page_bytes_total{tier="host",direction="restored"}') - before
                self.note("moved beside it, MB/s", moved / 1e6 / (time.monotonic() - begin), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=TOP / "build/bench-models/small")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    arguments = parser.parse_args()
    if not (arguments.model / "config.json").exists():
        sys.exit(f"{arguments.model}: is no checkpoint; bench/peers/random_model.py makes one")
    bench = Bench(arguments.model, arguments.tokens)
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="cairn-bench-")
    for i in range(arguments.rounds):
        with redis() as pages:
            bench.from_redis(pages, i)
        bench.from_host(i)
    bench.beside()
    best = {name: (max if "/s" in name or "decode" in name else min)(values)
            for name, values in bench.figures.items()}
    median = {name: statistics.median(values) for name, values in bench.figures.items()}
    ratios = {"redis": median["computed"] / median["from Redis, after a restart"],
              "host": median["computed"] / median["from host memory"],
              "slowdown": (median["decode, pages stay on the device"]
                           / median["decode, pages move beside it"])}
    print(f"\nresumed from Redis {ratios['redis']:.1f} times faster than computed (target {TARGETS['redis']}), "
          f"from host memory {ratios['host']:.1f} times (target {TARGETS['host']});\n"
          f"page traffic slows decoding to 1/{ratios['slowdown']:.3f} (at most 1/{SLOWDOWN_MAX})")
    if arguments.out:
        arguments.out.write_text(json.dumps({"model": arguments.model.name, "tokens": arguments.tokens,
                                             "median": median, "best": best, "ratios": ratios,
                                             "figures": bench.figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
