"""Clients that vanish, limits, keys and drains: what a server must survive."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import metric, wait_for


def stream_lines(url: str, body: dict, headers: dict | None = None) -> list[str]:
    with httpx.stream("POST", f"{url}/v1/completions", json=body | {"stream": True}, timeout=120,
                      headers=headers) as answer:
        assert answer.status_code == 200
        return [line for line in answer.iter_lines() if line]


def test_frames_are_events_and_end_with_done(base_url: str) -> None:
    lines = stream_lines(base_url, {"prompt": "The sun", "max_tokens": 8})
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        assert json.loads(line[6:])["object"] == "text_completion"


def test_64_streams_at_once(base_url: str) -> None:
    body = {"prompt": "The sun", "max_tokens": 32, "ignore_eos": True, "temperature": 0}
    alone = stream_lines(base_url, body)
    text = lambda lines: [json.loads(x[6:])["choices"][0] for x in lines[:-1]]  # noqa: E731
    with ThreadPoolExecutor(64) as pool:
        for lines in pool.map(lambda _: stream_lines(base_url, body), range(64)):
            assert text(lines) == text(alone)


def vanish(url: str, read_bytes: int, stream: bool) -> None:
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "The sun", "max_tokens": 1500, "ignore_eos": True, "stream": stream})
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                       f"{body}".encode())
        if read_bytes:
            client.recv(read_bytes)


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_vanish_free_their_work(base_url: str, stream: bool) -> None:
    before = metric(base_url, 'cairn_sequences_finished_total{reason="cancelled"}')
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: vanish(base_url, 100 if stream and i % 2 else 0, stream), range(64)))
    assert wait_for(lambda: metric(base_url, "cairn_sequences_running") == 0
                    and metric(base_url, "cairn_sequences_waiting") == 0)
    assert wait_for(lambda: metric(base_url, 'cairn_pages{state="held"}') == 0)
    assert metric(base_url, 'cairn_sequences_finished_total{reason="cancelled"}') > before
    assert stream_lines(base_url, {"prompt": "The sun", "max_tokens": 2})[-1] == "data: [DONE]"


def test_a_large_answer_reaches_a_slow_reader(start_server) -> None:
    url = start_server({"limits.http_output_bytes": "65536"}).url
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "word " * 1_000_000}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect((host, int(port)))
        client.sendall(b"POST /tokenize HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(1)
        received = bytearray()
        while piece := client.recv(65536):
            received += piece
    head, _, answer = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(answer) > 10_000_000          # more than the kernel keeps for a socket
    assert json.loads(answer)["count"] >= 1_000_000


def test_a_stop_string_frees_the_sequence(base_url: str) -> None:
    answer = httpx.post(f"{base_url}/v1/completions", timeout=60, json={
        "prompt": "The sun", "max_tokens": 1500, "ignore_eos": True, "stop": ["e", "a", " "]})
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert wait_for(lambda: metric(base_url, "cairn_sequences_running") == 0, 1.0)


def test_limits_at_and_above(start_server) -> None:
    url = start_server({"limits.choices": "2", "limits.prompts": "2", "limits.turn_tokens": "10",
                        "limits.stop_strings": "1", "limits.messages": "2", "limits.json_depth": "6",
                        "limits.http_body_bytes": "4096"}).url
    text = {"prompt": "a", "max_tokens": 1}
    user = {"role": "user", "content": "x"}
    cases = [
        ("/v1/completions", text | {"n": 2}, text | {"n": 3}, "choices"),
        ("/v1/completions", text | {"prompt": ["a"] * 2}, text | {"prompt": ["a"] * 3}, "prompts"),
        ("/v1/completions", text | {"max_tokens": 10}, text | {"max_tokens": 11}, "turn_tokens"),
        ("/v1/completions", text | {"stop": ["zq"]}, text | {"stop": ["zq", "zr"]}, "stop_strings"),
        ("/v1/chat/completions", {"messages": [user] * 2, "max_tokens": 1},
         {"messages": [user] * 3, "max_tokens": 1}, "messages"),
        ("/v1/completions", text | {"x": [[[[[]]]]]}, text | {"x": [[[[[[]]]]]]}, "json_depth"),
    ]
    for path, good, bad, limit in cases:
        answer = httpx.post(url + path, json=good, timeout=60)
        assert answer.status_code == 200, (limit, answer.text)
        refused = httpx.post(url + path, json=bad, timeout=60)
        assert refused.status_code == 400, (limit, refused.text)
        assert f"limit {limit}" in refused.json()["error"]["message"]
        assert refused.json()["error"]["code"] == "limit_exceeded"
    answer = httpx.post(f"{url}/v1/completions", json=text | {"prompt": "a" * 5000})
    assert answer.status_code == 413
    # Without max_tokens a chat may go on to the limit, not to the end of the window.
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": [user], "ignore_eos": True})
    assert answer.json()["usage"]["completion_tokens"] == 10


def test_a_full_queue_is_503_and_cheap(start_server) -> None:
    url = start_server({"engine.sequences": "1", "engine.step_tokens": "32",
                        "limits.queue_requests": "2", "limits.choices": "1"}).url
    body = {"prompt": "a", "max_tokens": 1500, "ignore_eos": True}
    results: list[httpx.Response] = []
    # One runs and two wait, whatever the speed: of twelve at once some find the queue full.
    threads = [threading.Thread(target=lambda: results.append(
        httpx.post(f"{url}/v1/completions", json=body, timeout=120))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {r.status_code for r in results} == {200, 503}
    for refused in (r for r in results if r.status_code == 503):
        assert refused.json()["error"]["code"] == "server_overloaded"
        assert refused.headers["retry-after"] == "1"


def test_keys(start_server, tmp_path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-first-key\nsk-second-key\n")
    keys.chmod(0o600)
    server = start_server({"api_keys_file": str(keys)})
    url = server.url
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert httpx.get(url + path).status_code == 200
    body = {"prompt": "The quick brown fox jumps over the lazy dog, and then it runs back home.",
            "max_tokens": 2}
    for headers in ({}, {"Authorization": "Bearer sk-first-ke"}, {"Authorization": "Basic sk-first-key"}):
        answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"

    def cached(key: str, salt: str | None = None) -> int:
        answer = httpx.post(f"{url}/v1/completions", json=body | {"cache_salt": salt}, timeout=60,
                            headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    # Tenants, and salts of one tenant, see their own pages only.
    assert cached("sk-first-key") == 0
    assert cached("sk-first-key") >= 16
    assert cached("sk-second-key") == 0
    assert cached("sk-first-key", "s") == 0
    assert cached("sk-first-key", "s") >= 16
    log = server.log_text()
    assert "sk-first" not in log and "brown fox" not in log
    assert "route=/v1/completions" in log


def test_drain(start_server) -> None:
    server = start_server({"drain.seconds": "20"})
    results: list[list[str]] = []
    thread = threading.Thread(target=lambda: results.append(
        stream_lines(server.url, {"prompt": "The sun", "max_tokens": 1500, "ignore_eos": True})))
    thread.start()
    assert wait_for(lambda: metric(server.url, "cairn_sequences_running") == 1)
    assert server.drain(30) == 0
    thread.join()
    assert results[0][-1] == "data: [DONE]"
    assert '"finish_reason":"length"' in results[0][-2]
