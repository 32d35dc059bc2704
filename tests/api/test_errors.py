"""Raw HTTP: every refusal has its status, its code, and names the parameter at fault."""

from __future__ import annotations

import httpx
import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
TEXT = {"prompt": "hi", "max_tokens": 1}

# (request, member, value, status, param): one value that is wrong beside an otherwise good request.
BAD = [
    ("chat", "temperature", -0.1, 400, "temperature"),
    ("chat", "temperature", 2.1, 400, "temperature"),
    ("chat", "temperature", "warm", 400, "temperature"),
    ("chat", "top_p", 1.1, 400, "top_p"),
    ("chat", "top_p", -0.1, 400, "top_p"),
    ("chat", "top_k", -2, 400, "top_k"),
    ("chat", "top_k", 1.5, 400, "top_k"),
    ("chat", "min_p", 1.5, 400, "min_p"),
    ("chat", "frequency_penalty", 2.5, 400, "frequency_penalty"),
    ("chat", "presence_penalty", -2.5, 400, "presence_penalty"),
    ("chat", "repetition_penalty", 0, 400, "repetition_penalty"),
    ("chat", "seed", 1.5, 400, "seed"),
    ("chat", "n", 0, 400, "n"),
    ("chat", "n", 9, 400, "n"),
    ("chat", "n", "2", 400, "n"),
    ("chat", "max_tokens", 0, 400, "max_tokens"),
    ("chat", "max_tokens", -1, 400, "max_tokens"),
    ("chat", "max_tokens", 10**6, 400, "max_tokens"),
    ("chat", "max_completion_tokens", 0, 400, "max_completion_tokens"),
    ("chat", "min_tokens", 2, 400, "min_tokens"),
    ("chat", "stop", ["a"] * 17, 400, "stop"),
    ("chat", "stop", "a" * 257, 400, "stop"),
    ("chat", "stop", [""], 400, "stop"),
    ("chat", "stop", 5, 400, "stop"),
    ("chat", "stop_token_ids", [10**7], 400, "stop_token_ids"),
    ("chat", "stop_token_ids", list(range(65)), 400, "stop_token_ids"),
    ("chat", "logit_bias", {"1": 101}, 400, "logit_bias"),
    ("chat", "logit_bias", {"x": 1}, 400, "logit_bias"),
    ("chat", "logit_bias", {str(i): 1 for i in range(513)}, 400, "logit_bias"),
    ("chat", "top_logprobs", 2, 400, "top_logprobs"),
    ("chat", "logprobs", 2, 400, "logprobs"),
    ("chat", "stream", "yes", 400, "stream"),
    ("chat", "stream_options", {"include_usage": True}, 400, "stream_options"),
    ("chat", "model", "gpt-4", 404, "model"),
    ("chat", "model", 4, 400, "model"),
    ("chat", "messages", [], 400, "messages"),
    ("chat", "messages", "hi", 400, "messages"),
    ("chat", "messages", [{"role": "robot", "content": "x"}], 400, "messages[0].role"),
    ("chat", "messages", [{"role": "user", "content": 5}], 400, "messages[0].content"),
    ("chat", "messages", [{"role": "user", "content": [{"type": "image_url"}]}], 400,
     "messages[0].content[0]"),
    ("chat", "tools", {}, 400, "tools"),
    ("chat", "tool_choice", "required", 400, "tool_choice"),
    ("chat", "response_format", {"type": "json_object"}, 400, "response_format"),
    ("chat", "chat_template", "{{ 1 }}", 400, "chat_template"),
    ("chat", "guided_regex", "a+", 400, "guided_regex"),
    ("chat", "cache_salt", 5, 400, "cache_salt"),
    ("chat", "request_id", 5, 400, "request_id"),
    ("text", "prompt", "", 400, "prompt"),
    ("text", "prompt", [], 400, "prompt"),
    ("text", "prompt", 5, 400, "prompt"),
    ("text", "prompt", [[]], 400, "prompt"),
    ("text", "prompt", ["a", 1], 400, "prompt"),
    ("text", "prompt", [10**7], 400, "prompt"),
    ("text", "prompt", ["a"] * 129, 400, "prompt"),
    ("text", "logprobs", 21, 400, "logprobs"),
    ("text", "logprobs", True, 400, "logprobs"),
    ("text", "best_of", 2, 400, "best_of"),
    ("text", "suffix", "x", 400, "suffix"),
    ("text", "use_beam_search", True, 400, "use_beam_search"),
]

PATHS = {"chat": ("/v1/chat/completions", CHAT), "text": ("/v1/completions", TEXT)}


@pytest.mark.parametrize(("request_kind", "member", "value", "status", "param"), BAD)
def test_a_bad_value_is_named(http: httpx.Client, request_kind: str, member: str, value: object,
                              status: int, param: str) -> None:
    path, good = PATHS[request_kind]
    answer = http.post(path, json=good | {member: value})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert member in error["message"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("request_kind", ["chat", "text"])
def test_null_is_absent(http: httpx.Client, request_kind: str) -> None:
    path, good = PATHS[request_kind]
    members = {member for kind, member, *_ in BAD if kind == request_kind} - set(good)
    answer = http.post(path, json=good | {member: None for member in members})
    assert answer.status_code == 200, answer.text


def test_unknown_members_are_accepted(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json=CHAT | {"x": {"y": [1]}, "user": "u", "metadata": {}})
    assert answer.status_code == 200


BODIES = [
    (b"", 400, "invalid_json"),
    (b"{", 400, "invalid_json"),
    (b"[]", 400, "invalid_value"),
    (b"null", 400, "invalid_value"),
    (b'{"prompt":"\xff"}', 400, "invalid_json"),
    (b'{"prompt":"\\ud800"}', 400, "invalid_json"),
    (b'{"prompt":"a","temperature":NaN}', 400, "invalid_json"),
    (b'{"prompt":"a","temperature":1e999}', 400, "invalid_json"),
    (b'{"prompt":"a","temperature":Infinity}', 400, "invalid_json"),
    (b'{"prompt":"a"} x', 400, "invalid_json"),
    (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", 400, "limit_exceeded"),
    (b"[" * 1_000_000, 400, "limit_exceeded"),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_objects(http: httpx.Client, body: bytes, status: int, code: str) -> None:
    answer = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code


def test_depth_just_below_the_limit(http: httpx.Client) -> None:
    body = b'{"prompt":"a","max_tokens":1,"a":' + b"[" * 63 + b"]" * 63 + b"}"
    assert http.post("/v1/completions", content=body).status_code == 200


def test_nul_and_duplicates(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", content=b'{"prompt":5,"prompt":"a\\u0000b","max_tokens":1}')
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("method", "path", "status", "allow"), [
    ("GET", "/v1/chat/completions", 405, "POST"),
    ("DELETE", "/v1/models", 405, "GET, HEAD"),
    ("POST", "/metrics", 405, "GET, HEAD"),
    ("GET", "/", 404, None),
    ("GET", "/v1", 404, None),
    ("POST", "/v1/embeddings", 404, None),
])
def test_routes(http: httpx.Client, method: str, path: str, status: int, allow: str | None) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allow
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/version", "/v1/models"])
def test_head_is_get_without_body(http: httpx.Client, path: str) -> None:
    get, head = http.get(path), http.head(path)
    assert get.status_code == head.status_code == 200
    assert head.content == b"" and head.headers["content-length"] == get.headers["content-length"]


def test_context_error_tells_the_numbers(http: httpx.Client) -> None:
    window = http.get("/v1/models").json()["data"][0]["max_model_len"]
    at_most = http.post("/v1/completions", json={"prompt": [5] * (window - 1), "max_tokens": 1})
    assert at_most.status_code == 200
    for prompt, tokens in (([5] * window, 1), ([5] * 10, window - 9), ([5] * (window + 1), 0)):
        answer = http.post("/v1/completions", json={"prompt": prompt, "max_tokens": tokens})
        error = answer.json()["error"]
        assert answer.status_code == 400 and error["code"] == "context_length_exceeded"
        assert error["n_prompt_tokens"] == len(prompt) and error["n_ctx"] == window


def test_request_ids(http: httpx.Client) -> None:
    assert http.get("/livez", headers={"X-Request-Id": "abc"}).headers["x-request-id"] == "abc"
    ids = {http.get("/livez").headers["x-request-id"] for _ in range(8)}
    assert len(ids) == 8
    harmful = http.get("/livez", headers={"X-Request-Id": 'a"b'}).headers["x-request-id"]
    assert '"' not in harmful
