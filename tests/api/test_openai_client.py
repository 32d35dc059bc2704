"""The real `openai` package against a running server: what its users do works unchanged."""

from __future__ import annotations

import asyncio

import openai
import pytest

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def async_client_url(base_url: str) -> str:
    return f"{base_url}/v1"


@pytest.fixture(scope="module")
def text_only(http) -> dict[str, int]:
    """A logit_bias that keeps the demo model talking: no control token, so no early end."""
    names = "<|begin|><|end|><|system|><|user|><|assistant|>"
    ids = http.post("/tokenize", json={"prompt": names, "add_special_tokens": False}).json()["tokens"]
    return {str(i): -100 for i in ids}


def test_models(client: openai.OpenAI, model: str) -> None:
    assert [m.id for m in client.models.list()] == [model]
    card = client.models.retrieve(model)
    assert card.object == "model" and card.owned_by == "cairn"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=32)
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.model == model and answer.created > 1_600_000_000
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 32
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_a_repeated_prompt_is_cached_and_answered_the_same(client: openai.OpenAI, model: str) -> None:
    text = "Tell me about rivers. " * 8
    create = lambda: client.chat.completions.create(  # noqa: E731
        model=model, messages=[{"role": "user", "content": text}], max_tokens=16, temperature=0)
    first, second = create(), create()
    assert second.usage.prompt_tokens_details.cached_tokens >= 16
    assert first.choices[0].message.content == second.choices[0].message.content


def test_chat_stream_equals_chat(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=32, temperature=0)
    chunks = list(client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=32, temperature=0, stream=True,
        stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) == {None}
    assert len({c.id for c in chunks}) == 1


def test_chat_stream_helper(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=MESSAGES, max_tokens=16) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content


def test_continuous_usage_counts_up(client: openai.OpenAI, model: str) -> None:
    chunks = list(client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=12, stream=True, extra_body={"ignore_eos": True},
        stream_options={"include_usage": True, "continuous_usage_stats": True}))
    counts = [c.usage.completion_tokens for c in chunks]
    assert counts == sorted(counts) and counts[-1] == 12


def test_choices_with_seed_repeat(client: openai.OpenAI, model: str, text_only: dict) -> None:
    create = lambda: client.chat.completions.create(  # noqa: E731
        model=model, messages=MESSAGES, n=3, seed=7, temperature=2, max_tokens=24,
        logit_bias=text_only)
    first, second = create(), create()
    texts = [c.message.content for c in first.choices]
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert texts == [c.message.content for c in second.choices]
    assert len(set(texts)) > 1


def test_stream_of_several_choices(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, messages=MESSAGES, n=3, seed=7, temperature=1.5, max_tokens=12)
    texts = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(**arguments, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    whole = client.chat.completions.create(**arguments)
    assert texts == {c.index: c.message.content for c in whole.choices}


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(client: openai.OpenAI, model: str, text_only: dict, stream: bool) -> None:
    arguments = dict(model=model, prompt="The river", max_tokens=40, temperature=0,
                     logit_bias=text_only)
    whole = client.completions.create(**arguments).choices[0].text
    stop = whole[10:14]
    answer = client.completions.create(**arguments, stop=[stop], stream=stream)
    if stream:
        parts = list(answer)
        text = "".join(c.choices[0].text for c in parts)
        choice = parts[-1].choices[0]
    else:
        choice, text = answer.choices[0], answer.choices[0].text
    assert text == whole[:whole.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.stop_reason == stop


def test_stop_string_in_output(client: openai.OpenAI, model: str, text_only: dict) -> None:
    arguments = dict(model=model, prompt="The river", max_tokens=40, temperature=0,
                     logit_bias=text_only)
    whole = client.completions.create(**arguments).choices[0].text
    stop = whole[10:14]
    text = client.completions.create(
        **arguments, stop=stop, extra_body={"include_stop_str_in_output": True}).choices[0].text
    assert text == whole[:whole.index(stop) + len(stop)]


def test_chat_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0,
                                            logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob <= 0
        assert entry.top_logprobs[0].logprob == entry.logprob        # greedy: the most likely one
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token
    text = b"".join(bytes(e.bytes) for e in content).decode()
    assert text.startswith(answer.choices[0].message.content)


def test_streamed_logprobs_equal_whole_ones(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True,
                     top_logprobs=2, stop=["zzzz"])
    whole = client.chat.completions.create(**arguments).choices[0].logprobs.content
    streamed = []
    for chunk in client.chat.completions.create(**arguments, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == whole


def test_completion_forms_agree(client: openai.OpenAI, model: str, http) -> None:
    texts = ["The sun", "A long river"]
    ids = [http.post("/tokenize", json={"prompt": t}).json()["tokens"] for t in texts]
    arguments = dict(model=model, max_tokens=8, temperature=0)
    singles = [client.completions.create(prompt=t, **arguments).choices[0].text for t in texts]
    for prompt in (texts, ids):
        answer = client.completions.create(prompt=prompt, **arguments)
        assert [c.text for c in answer.choices] == singles
        assert [c.index for c in answer.choices] == [0, 1]
        assert answer.usage.prompt_tokens == sum(len(i) for i in ids)
    assert client.completions.create(prompt=ids[0], **arguments).choices[0].text == singles[0]


def test_echo_with_logprobs_as_lm_eval_asks(client: openai.OpenAI, model: str, http) -> None:
    ids = http.post("/tokenize", json={"prompt": "The sun is a star."}).json()["tokens"]
    answer = client.completions.create(model=model, prompt=[ids, ids[:3]], echo=True, logprobs=1,
                                       max_tokens=1, temperature=0, seed=1234)
    for choice, prompt in zip(answer.choices, (ids, ids[:3])):
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(prompt) + 1
        assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
        assert all(p <= 0 for p in logprobs.token_logprobs[1:])
        for token, p, top in zip(logprobs.tokens[1:], logprobs.token_logprobs[1:],
                                 logprobs.top_logprobs[1:]):
            assert top[token] == p and max(top.values()) >= p
        assert logprobs.text_offset == sorted(logprobs.text_offset)
    # The prompt's logprobs do not depend on what was generated, or on how much of it.
    none = client.completions.create(model=model, prompt=[ids], echo=True, logprobs=1, max_tokens=0)
    assert none.choices[0].logprobs.token_logprobs == answer.choices[0].logprobs.token_logprobs[:-1]
    assert none.usage.completion_tokens == 0


def test_echo_without_logprobs(client: openai.OpenAI, model: str) -> None:
    plain = client.completions.create(model=model, prompt="The sun", max_tokens=8, temperature=0)
    echo = client.completions.create(model=model, prompt="The sun", max_tokens=8, temperature=0, echo=True)
    assert echo.choices[0].text == "The sun" + plain.choices[0].text
    streamed = client.completions.create(model=model, prompt="The sun", max_tokens=8, temperature=0,
                                         echo=True, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == echo.choices[0].text


def test_return_token_ids(client: openai.OpenAI, model: str, http) -> None:
    answer = client.completions.create(model=model, prompt="The sun", max_tokens=6, temperature=0,
                                       extra_body={"return_token_ids": True, "ignore_eos": True})
    choice = answer.choices[0]
    assert choice.prompt_token_ids == http.post("/tokenize", json={"prompt": "The sun"}).json()["tokens"]
    assert len(choice.token_ids) == 6
    streamed = list(client.completions.create(
        model=model, prompt="The sun", max_tokens=6, temperature=0, stream=True,
        extra_body={"return_token_ids": True, "ignore_eos": True}))
    ids = [i for c in streamed for i in (getattr(c.choices[0], "token_ids", None) or [])]
    assert ids == choice.token_ids


def test_min_tokens_and_stop_token_ids(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="The sun", max_tokens=20, temperature=0,
                                       extra_body={"return_token_ids": True, "ignore_eos": True})
    token = answer.choices[0].token_ids[2]
    first = answer.choices[0].token_ids.index(token)
    stopped = client.completions.create(
        model=model, prompt="The sun", max_tokens=20, temperature=0,
        extra_body={"stop_token_ids": [token], "ignore_eos": True, "return_token_ids": True})
    assert stopped.choices[0].token_ids == answer.choices[0].token_ids[:first + 1]
    assert stopped.choices[0].stop_reason == token
    longer = client.completions.create(
        model=model, prompt="The sun", max_tokens=20, temperature=0,
        extra_body={"stop_token_ids": [token], "ignore_eos": True, "min_tokens": 10})
    assert longer.usage.completion_tokens >= 10


def test_logit_bias_decides(client: openai.OpenAI, model: str, http) -> None:
    token = http.post("/tokenize", json={"prompt": " water", "add_special_tokens": False}).json()["tokens"][0]
    answer = client.completions.create(model=model, prompt="The sun", max_tokens=4, temperature=0,
                                       logit_bias={str(token): 100},
                                       extra_body={"return_token_ids": True})
    assert answer.choices[0].token_ids == [token] * 4


def test_errors_have_their_classes(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=model, messages=MESSAGES, temperature=5)
    assert bad.value.param == "temperature" and "must be 0 to 2" in bad.value.message
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=model, prompt="word " * 5000, max_tokens=5)
    assert long.value.code == "context_length_exceeded"
    assert long.value.body["n_prompt_tokens"] > long.value.body["n_ctx"] > 0


def test_request_id_is_echoed(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, max_tokens=1, extra_headers={"X-Request-Id": "abc-123"})
    assert raw.headers["x-request-id"] == "abc-123"
    assert raw.parse().id == "chatcmpl-abc-123"


def test_64_async_streams_agree_with_one(async_client_url: str, model: str) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"Tell me about number {number % 4}."}],
            max_tokens=24, temperature=0, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    async def run() -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=async_client_url, api_key="none") as client:
            alone = [await one(client, number) for number in range(4)]
            return alone, await asyncio.gather(*(one(client, number) for number in range(64)))

    alone, together = asyncio.run(run())
    assert together == [alone[number % 4] for number in range(64)]
