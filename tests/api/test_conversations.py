"""The Conversations API with the real `openai` package, Cairn's routes beside it, and two tenants who must not
reach anything of each other."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import openai
import pytest

UNKNOWN = "conv_" + "0" * 48
KEYS = ["tenant-one-key", "tenant-two-key"]


def connect(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(base_url: str) -> openai.OpenAI:
    return connect(base_url)


def say(client: openai.OpenAI, text, **more):
    return client.responses.create(model="model", input=text, **more)


def whole(client: openai.OpenAI, texts: list[str]) -> str:
    """The answer to a history that is sent whole: user, assistant, user, ..."""
    return say(client, [message(t, "assistant" if i % 2 else "user") for i, t in enumerate(texts)],
               store=False).output_text


def message(text: str, role: str = "user") -> dict:
    return {"type": "message", "role": role, "content": text}


def texts(items) -> list[str]:
    return [i.content[0].text for i in items]


def shown(client: openai.OpenAI, conversation: str) -> list[str]:
    return texts(client.conversations.items.list(conversation, order="asc"))


# ---- conversations


def test_life_of_a_conversation(client: openai.OpenAI) -> None:
    c = client.conversations.create(metadata={"topic": "cats"})
    assert c.id.startswith("conv_") and c.object == "conversation" and c.metadata == {"topic": "cats"}
    assert abs(c.created_at - time.time()) < 60
    assert client.conversations.retrieve(c.id) == c
    updated = client.conversations.update(c.id, metadata={"topic": "dogs", "more": "x"})
    assert updated.metadata == {"topic": "dogs", "more": "x"} and updated.created_at == c.created_at
    assert client.conversations.retrieve(c.id).metadata == updated.metadata
    gone = client.conversations.delete(c.id)
    assert (gone.id, gone.object, gone.deleted) == (c.id, "conversation.deleted", True)
    for call in (client.conversations.retrieve, client.conversations.delete,
                 client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            call(c.id)
    with pytest.raises(openai.NotFoundError):
        say(client, "Hi", conversation=c.id)


def test_metadata_may_be_emptied(client: openai.OpenAI) -> None:
    c = client.conversations.create(metadata={"a": "b"})
    assert client.conversations.update(c.id, metadata=None).metadata == {}


def test_create_with_items(client: openai.OpenAI) -> None:
    c = client.conversations.create(items=[message("My name is Ada."), message("Nice to meet you.", "assistant")])
    assert shown(client, c.id) == ["My name is Ada.", "Nice to meet you."]
    history = ["My name is Ada.", "Nice to meet you.", "What is my name?"]
    assert say(client, "What is my name?", conversation=c.id).output_text == whole(client, history)


def test_an_empty_body_is_an_empty_conversation(http: httpx.Client) -> None:
    answer = http.post("/v1/conversations")
    assert answer.status_code == 200 and answer.json()["metadata"] == {}
    assert http.post("/v1/conversations", json={"items": None, "metadata": None}).status_code == 200


def test_turns_follow_one_another(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    first = say(client, "My name is Ada.", conversation=c.id)
    assert first.conversation.id == c.id and first.previous_response_id is None
    second = say(client, "What is my name?", conversation={"id": c.id})
    assert second.output_text == whole(client, ["My name is Ada.", first.output_text, "What is my name?"])
    assert shown(client, c.id) == ["My name is Ada.", first.output_text, "What is my name?", second.output_text]
    events = list(say(client, "Hi", conversation=c.id, stream=True, max_output_tokens=4))
    assert events[-1].response.conversation.id == c.id
    assert len(shown(client, c.id)) == 6


def test_the_same_as_a_chain_of_responses(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    first = say(client, "My name is Bob.", conversation=c.id)
    a = say(client, "What is my name?", conversation=c.id, include=["message.output_text.logprobs"])
    b = say(client, "What is my name?", previous_response_id=first.id, include=["message.output_text.logprobs"])
    assert [x.model_dump() for x in a.output[0].content] == [x.model_dump() for x in b.output[0].content]
    assert a.usage.input_tokens == b.usage.input_tokens
    assert len(shown(client, c.id)) == 4             # the second is beside the conversation, not in it


def test_background_in_a_conversation(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    r = say(client, "My name is Ada.", conversation=c.id, background=True)
    done = list(client.responses.retrieve(r.id, stream=True))[-1].response
    assert shown(client, c.id) == ["My name is Ada.", done.output_text]


def test_a_cancelled_turn_is_not_in_its_conversation(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    r = say(client, "Hi", conversation=c.id, background=True, max_output_tokens=1500,
            extra_body={"ignore_eos": True})
    assert client.responses.cancel(r.id).status == "cancelled"
    assert shown(client, c.id) == []
    assert say(client, "Hi", conversation=c.id, max_output_tokens=4).output_text       # and not locked


def test_a_busy_conversation_is_locked(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create()
    stream = say(client, "Hi", conversation=c.id, stream=True, max_output_tokens=1500,
                 extra_body={"ignore_eos": True})
    next(iter(stream))
    body = {"input": "Hi", "conversation": c.id}
    refused = [http.post("/v1/responses", json=body),
               http.post(f"/v1/conversations/{c.id}/items", json={"items": [message("x")]}),
               http.post(f"/v1/conversations/{c.id}", json={"metadata": {}}),
               http.delete(f"/v1/conversations/{c.id}")]
    for answer in refused:
        error = answer.json()["error"]
        assert answer.status_code == 400 and error["code"] == "conversation_locked"
        assert error["param"] == "conversation" and answer.headers["x-should-retry"] == "true"
        assert error["message"] == ("Another process is currently operating on this conversation. Please retry "
                                    "in a few seconds.")
    assert http.get(f"/v1/conversations/{c.id}").status_code == 200
    stream.close()
    end = time.monotonic() + 10
    while http.post("/v1/responses", json=body | {"max_output_tokens": 2}).status_code != 200:
        assert time.monotonic() < end, "the lock outlived its holder"
        time.sleep(0.02)


def test_a_lock_is_open_once_the_reply_is_read(http: httpx.Client) -> None:
    """A client that waits for each answer is never told that it is in its own way."""
    name = http.post("/v1/conversations", json={}).json()["id"]
    for i in range(100):
        answer = http.post(f"/v1/conversations/{name}", json={"metadata": {"round": str(i)}})
        assert answer.status_code == 200, (i, answer.text)
        answer = http.post(f"/v1/conversations/{name}", json={"metadata": i})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "metadata", (i, answer.text)


def test_one_of_many_wins(client: openai.OpenAI, base_url: str) -> None:
    c = client.conversations.create()
    codes: list[str | None] = []

    def ask() -> None:
        answer = httpx.post(f"{base_url}/v1/responses", timeout=60, json={
            "input": "My name is Ada.", "conversation": c.id, "max_output_tokens": 20, "ignore_eos": True})
        codes.append(answer.json()["error"]["code"] if answer.status_code == 400 else None)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert set(codes) <= {None, "conversation_locked"} and None in codes
    assert len(shown(client, c.id)) == 2 * codes.count(None)


# ---- items


def test_items(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    added = client.conversations.items.create(c.id, items=[message("one"), message("two", "assistant")])
    assert added.object == "list" and texts(added.data) == ["one", "two"] and not added.has_more
    assert added.first_id == added.data[0].id and added.last_id == added.data[1].id
    item = client.conversations.items.retrieve(added.data[0].id, conversation_id=c.id)
    assert item == added.data[0] and item.role == "user" and item.status == "completed"
    assert item.content[0].type == "input_text"
    client.conversations.items.create(c.id, items=[message("three")])
    assert shown(client, c.id) == ["one", "two", "three"]


def test_items_are_paged(client: openai.OpenAI) -> None:
    c = client.conversations.create(items=[message(str(i)) for i in range(20)])
    client.conversations.items.create(c.id, items=[message(str(i)) for i in range(20, 25)])
    every = [str(i) for i in range(25)]
    first = client.conversations.items.list(c.id)
    assert texts(first.data) == every[::-1][:20] and first.has_more
    assert texts(list(client.conversations.items.list(c.id, limit=7))) == every[::-1]
    assert texts(list(client.conversations.items.list(c.id, limit=100, order="asc"))) == every
    assert texts(list(client.conversations.items.list(c.id, limit=1, order="asc"))) == every


def test_a_deleted_item_is_gone(client: openai.OpenAI) -> None:
    c = client.conversations.create(items=[message("My name is Ada."), message("My name is Bob.")])
    bob = client.conversations.items.list(c.id).data[0].id
    conversation = client.conversations.items.delete(bob, conversation_id=c.id)
    assert conversation.id == c.id and conversation.object == "conversation"
    assert shown(client, c.id) == ["My name is Ada."]
    for call in (client.conversations.items.retrieve, client.conversations.items.delete):
        with pytest.raises(openai.NotFoundError):
            call(bob, conversation_id=c.id)
    r = say(client, "What is my name?", conversation=c.id)
    assert r.output_text == say(client, [message("My name is Ada."), message("What is my name?")]).output_text


def test_an_item_deleted_between_turns_is_not_remembered(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    say(client, "My name is Ada.", conversation=c.id)
    for item in client.conversations.items.list(c.id).data:
        client.conversations.items.delete(item.id, conversation_id=c.id)
    fresh = say(client, "What is my name?")
    r = say(client, "What is my name?", conversation=c.id)
    assert r.output_text == fresh.output_text and r.usage.input_tokens == fresh.usage.input_tokens
    again = say(client, "My name is Bob.", conversation=c.id)
    history = ["What is my name?", r.output_text, "My name is Bob.", again.output_text, "Hi"]
    assert say(client, "Hi", conversation=c.id).output_text == whole(client, history)
    assert again.usage.input_tokens > fresh.usage.input_tokens


def test_deleting_an_item_or_a_conversation_keeps_responses(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    r = say(client, "My name is Ada.", conversation=c.id)
    client.conversations.items.delete(r.output[0].id, conversation_id=c.id)
    client.conversations.delete(c.id)
    assert client.responses.retrieve(r.id).output_text == r.output_text


def test_turns_that_hold_items_are_no_responses(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create(items=[message("one")])
    head = http.get(f"/v1/conversations/{c.id}").json()["head"]
    assert head.startswith("resp_")
    assert http.get(f"/v1/responses/{head}").status_code == 404


# ---- fork, tree, list


def test_fork(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create(metadata={"a": "b"})
    first = say(client, "My name is Ada.", conversation=c.id)
    second = say(client, "My name is Bob.", conversation=c.id)
    at_first = http.post(f"/v1/conversations/{c.id}/fork", json={"at": first.id, "metadata": {"c": "d"}}).json()
    at_head = http.post(f"/v1/conversations/{c.id}/fork").json()
    assert at_first["object"] == "conversation" and at_first["head"] == first.id
    assert at_first["metadata"] == {"c": "d"} and at_head["metadata"] == {"a": "b"}
    assert at_head["head"] == second.id and len({c.id, at_first["id"], at_head["id"]}) == 3
    history = ["My name is Ada.", first.output_text, "What is my name?"]
    assert say(client, "What is my name?", conversation=at_first["id"]).output_text == whole(client, history)
    history[2:2] = ["My name is Bob.", second.output_text]
    assert say(client, "What is my name?", conversation=at_head["id"]).output_text == whole(client, history)
    assert len(shown(client, c.id)) == 4 and len(shown(client, at_first["id"])) == 4


def test_a_fork_shares_pages(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create()
    say(client, "word " * 100, conversation=c.id, max_output_tokens=2)
    fork = http.post(f"/v1/conversations/{c.id}/fork").json()["id"]
    r = say(client, "Hi", conversation=fork, max_output_tokens=2)
    assert r.usage.input_tokens_details.cached_tokens >= 96


@pytest.mark.parametrize("body, status, param", [
    ({"at": 5}, 400, "at"), ({"at": "resp_x"}, 404, "at"), ({"at": "resp_" + "0" * 48}, 404, "at"),
    ({"metadata": 3}, 400, "metadata")])
def test_wrong_forks(client: openai.OpenAI, http: httpx.Client, body: dict, status: int, param: str) -> None:
    c = client.conversations.create(items=[message("one")])
    answer = http.post(f"/v1/conversations/{c.id}/fork", json=body)
    assert answer.status_code == status and answer.json()["error"]["param"] == param


def test_a_turn_of_another_conversation_is_no_place_to_fork(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create(items=[message("one")])
    other = say(client, "Hi", max_output_tokens=2)
    assert http.post(f"/v1/conversations/{c.id}/fork", json={"at": other.id}).status_code == 404


def test_tree(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create()
    a = say(client, "Hi", conversation=c.id, max_output_tokens=2)
    b = say(client, "Hi", conversation=c.id, max_output_tokens=2)
    fork = http.post(f"/v1/conversations/{c.id}/fork", json={"at": a.id}).json()["id"]
    d = say(client, "Other", conversation=fork, max_output_tokens=2)
    tree = http.get(f"/v1/conversations/{c.id}/tree").json()
    assert tree["object"] == "conversation.tree" and tree["id"] == c.id
    assert {x["id"]: x["head"] for x in tree["conversations"]} == {c.id: b.id, fork: d.id}
    assert {t["id"]: t["parent"] for t in tree["turns"]} == {a.id: None, b.id: a.id, d.id: a.id}
    node = next(t for t in tree["turns"] if t["id"] == b.id)
    assert node["output"] == [b.output[0].id] and node["output_tokens"] == 2 and node["is_response"]
    order = [t["id"] for t in tree["turns"]]
    assert order.index(a.id) < order.index(b.id) and order.index(a.id) < order.index(d.id)


def every_conversation(http: httpx.Client) -> list[dict]:
    found, after = [], None
    while True:
        page = http.get("/v1/conversations", params={"after": after} if after else {}).json()
        assert page["object"] == "list"
        found += page["data"]
        if not page["has_more"]:
            return found
        after = page["after"]


def test_list(client: openai.OpenAI, http: httpx.Client) -> None:
    made = {client.conversations.create(metadata={"n": str(i)}).id for i in range(30)}
    gone = made.pop()
    client.conversations.delete(gone)
    listed = {c["id"] for c in every_conversation(http)}
    assert made <= listed and gone not in listed
    assert http.get("/v1/conversations?after=x").status_code == 400


# ---- export and import


def test_export_and_import(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create(metadata={"a": "b"}, items=[message("My name is Ada.")])
    r = say(client, "Hi", conversation=c.id, max_output_tokens=4, include=["message.output_text.logprobs"])
    say(client, "Once more", conversation=c.id, max_output_tokens=4)
    hidden = client.conversations.items.list(c.id).data[0].id
    client.conversations.items.delete(hidden, conversation_id=c.id)
    answer = http.get(f"/v1/conversations/{c.id}/export")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [x["object"] for x in lines] == ["conversation.export", "turn", "turn", "turn",
                                            "conversation.export.end"]
    assert lines[2]["response"]["id"] == r.id and lines[2]["output_tokens"] == 4
    made = http.post("/v1/conversations/import", content=answer.content)
    assert made.status_code == 200, made.text
    copy = made.json()
    assert copy["id"] != c.id and copy["metadata"] == {"a": "b"}
    assert shown(client, copy["id"]) == shown(client, c.id)
    ids = {i.id for i in client.conversations.items.list(c.id)}
    assert not ids & {i.id for i in client.conversations.items.list(copy["id"])}
    first, second = say(client, "What is my name?", conversation=c.id), say(client, "What is my name?",
                                                                          conversation=copy["id"])
    assert first.output_text == second.output_text and first.usage.input_tokens == second.usage.input_tokens


def test_an_import_keeps_tokens_and_responses(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create()
    say(client, "My name is Ada.", conversation=c.id)
    text = http.get(f"/v1/conversations/{c.id}/export").text
    copy = http.post("/v1/conversations/import", content=text).json()
    again = http.get(f"/v1/conversations/{copy['id']}/export").text
    a, b = ([json.loads(line) for line in t.splitlines()][1] for t in (text, again))
    assert a["tokens"] == b["tokens"] and a["text"] == b["text"] and a["settings"] == b["settings"]
    assert client.responses.retrieve(copy["head"]).output_text == "".join(
        p["text"] for p in a["output"][0]["content"])
    assert [e.type for e in client.responses.retrieve(copy["head"], stream=True)][-1] == "response.completed"


def exported(client: openai.OpenAI, http: httpx.Client) -> list[dict]:
    c = client.conversations.create()
    say(client, "My name is Ada.", conversation=c.id)
    return [json.loads(x) for x in http.get(f"/v1/conversations/{c.id}/export").text.splitlines()]


def send(http: httpx.Client, lines: list) -> httpx.Response:
    return http.post("/v1/conversations/import", content="\n".join(
        x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")


def test_tokens_that_do_not_spell_their_text_are_not_taken(client: openai.OpenAI, http: httpx.Client) -> None:
    """An import cannot put control tokens where its text has none."""
    lines = exported(client, http)
    lines[1]["tokens"][1] = lines[1]["tokens"][0]
    copy = send(http, lines).json()
    turn = [json.loads(x) for x in http.get(f"/v1/conversations/{copy['id']}/export").text.splitlines()][1]
    assert turn["tokens"] == [] and turn["text"] == ""
    history = ["My name is Ada.", turn["output"][0]["content"][0]["text"], "What is my name?"]
    assert say(client, "What is my name?", conversation=copy["id"]).output_text == whole(client, history)


def test_wrong_imports(client: openai.OpenAI, http: httpx.Client) -> None:
    good = exported(client, http)
    turn = good[1]
    wrong = [
        ["{"], ["[]"], good[:-1], good[1:], good + [turn], [good[0], good[2]], [good[0], good[0], good[2]],
        [good[0] | {"version": 2}, *good[1:]],
        [good[0] | {"metadata": {"a": 1}}, *good[1:]],
        [good[0], turn | {"input": "x"}, good[2]],
        [good[0], turn | {"input": [{"type": "item_reference", "id": "x"}]}, good[2]],
        [good[0], turn | {"response": 5}, good[2]],
        [good[0], turn | {"response": {"status": "odd"}}, good[2]],
        [good[0], turn | {"settings": {"deltas": [1000]}}, good[2]],
    ]
    for lines in wrong:
        answer = send(http, lines)
        assert answer.status_code == 400, (lines, answer.text)


# ---- Idempotency-Key


def test_keys(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": f"conv-{time.time_ns()}"}
    make = lambda: client.conversations.create(items=[message("one")], extra_headers=key)  # noqa: E731
    c = make()
    assert make().id == c.id and shown(client, c.id) == ["one"]
    key2 = {"Idempotency-Key": f"item-{time.time_ns()}"}
    add = lambda: client.conversations.items.create(c.id, items=[message("two")], extra_headers=key2)  # noqa: E731
    assert add() == add()
    assert shown(client, c.id) == ["one", "two"]
    with pytest.raises(openai.ConflictError):
        client.conversations.items.create(c.id, items=[message("three")], extra_headers=key2)
    other = client.conversations.create()
    with pytest.raises(openai.ConflictError):        # the same body, for another conversation
        client.conversations.items.create(other.id, items=[message("two")], extra_headers=key2)


def test_a_key_without_items(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": f"empty-{time.time_ns()}"}
    assert client.conversations.create(extra_headers=key).id == client.conversations.create(extra_headers=key).id


def test_a_turn_of_a_conversation_is_made_once(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    key = {"Idempotency-Key": f"turn-{time.time_ns()}"}
    ask = lambda: say(client, "My name is Ada.", conversation=c.id, extra_headers=key)  # noqa: E731
    assert ask().model_dump() == ask().model_dump()
    assert len(shown(client, c.id)) == 2


def test_a_fork_is_made_once(client: openai.OpenAI, http: httpx.Client) -> None:
    """Also where the conversation has moved on between the two requests."""
    c = client.conversations.create(metadata={"a": "b"})
    say(client, "Hi", conversation=c.id, max_output_tokens=2)
    key = {"Idempotency-Key": f"fork-{time.time_ns()}"}
    made = http.post(f"/v1/conversations/{c.id}/fork", headers=key)
    say(client, "Hi", conversation=c.id, max_output_tokens=2)
    again = http.post(f"/v1/conversations/{c.id}/fork", headers=key)
    assert made.status_code == 200 and again.json() == made.json()
    other = http.post(f"/v1/conversations/{c.id}/fork", json={"metadata": {"c": "d"}}, headers=key)
    assert other.status_code == 409 and other.json()["error"]["code"] == "idempotency_key_reused"
    assert other.headers["x-should-retry"] == "false"
    assert http.post(f"/v1/conversations/{c.id}/fork").json()["id"] != made.json()["id"]
    assert len(http.get(f"/v1/conversations/{c.id}/tree").json()["conversations"]) == 3


def test_an_import_is_made_once(client: openai.OpenAI, http: httpx.Client) -> None:
    c = client.conversations.create(metadata={"a": "b"}, items=[message("My name is Ada.")])
    say(client, "Hi", conversation=c.id, max_output_tokens=2)
    content = http.get(f"/v1/conversations/{c.id}/export").content
    key = {"Idempotency-Key": f"import-{time.time_ns()}"}
    made = http.post("/v1/conversations/import", content=content, headers=key)
    again = http.post("/v1/conversations/import", content=content, headers=key)
    assert made.status_code == 200 and again.json() == made.json()
    changed = content.replace(b'"a"', b'"x"')
    assert http.post("/v1/conversations/import", content=changed, headers=key).status_code == 409
    assert http.post("/v1/conversations/import", content=content).json()["id"] != made.json()["id"]


def test_a_key_is_one_requests(client: openai.OpenAI, http: httpx.Client) -> None:
    key = {"Idempotency-Key": f"one-{time.time_ns()}"}
    made = http.post("/v1/conversations", json={"metadata": {"a": "b"}}, headers=key).json()
    assert http.post("/v1/conversations", json={"metadata": {"a": "c"}}, headers=key).status_code == 409
    assert http.post(f"/v1/conversations/{made['id']}/fork", headers=key).status_code == 409
    assert http.post("/v1/conversations", json={}, headers={"Idempotency-Key": ""}).status_code == 400


# ---- errors


@pytest.mark.parametrize("body, code, param", [
    ({"items": "x"}, "invalid_value", "items"),
    ({"items": [message(str(i)) for i in range(21)]}, "limit_exceeded", "items"),
    ({"items": [{"type": "odd"}]}, "unsupported_value", "items[0]"),
    ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported_value", "items"),
    ({"items": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "invalid_value", "input"),
    ({"metadata": []}, "invalid_value", "metadata"),
    ({"metadata": {"k": None}}, "invalid_value", "metadata"),
])
def test_refusals(http: httpx.Client, body: dict, code: str, param: str) -> None:
    answer = http.post("/v1/conversations", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), error


@pytest.mark.parametrize("body, param", [({}, "metadata"), ({"metadata": 5}, "metadata")])
def test_wrong_updates(client: openai.OpenAI, http: httpx.Client, body: dict, param: str) -> None:
    c = client.conversations.create()
    answer = http.post(f"/v1/conversations/{c.id}", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": "x"}, {"items": [3]}])
def test_wrong_items(client: openai.OpenAI, http: httpx.Client, body: dict) -> None:
    c = client.conversations.create()
    answer = http.post(f"/v1/conversations/{c.id}/items", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("items")


ROUTES = [("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/fork"), ("GET", "/tree"), ("GET", "/export"),
          ("POST", "/items"), ("GET", "/items"), ("GET", "/items/{item}"), ("DELETE", "/items/{item}")]
BODIES = {"": {"metadata": {}}, "/items": {"items": [message("x")]}, "/fork": {}}


def call(http: httpx.Client, method: str, conversation: str, path: str, item: str, key: str | None = None):
    return http.request(method, f"/v1/conversations/{conversation}{path.format(item=item)}",
                        json=BODIES.get(path) if method == "POST" else None,
                        headers={"Authorization": f"Bearer {key}"} if key else None)


@pytest.mark.parametrize("method, path", ROUTES)
def test_unknown_ids(http: httpx.Client, method: str, path: str) -> None:
    for name in (UNKNOWN, "conv_1", "x"):
        answer = call(http, method, name, path, "msg_1")
        error = answer.json()["error"]
        assert answer.status_code == 404 and error["code"] is None and "not found" in error["message"]


def test_unknown_items(client: openai.OpenAI) -> None:
    c = client.conversations.create(items=[message("one")])
    for name in ("msg_1", "x", c.id):
        for method in (client.conversations.items.retrieve, client.conversations.items.delete):
            with pytest.raises(openai.NotFoundError) as error:
                method(name, conversation_id=c.id)
            assert "Item with id" in error.value.message


def test_a_conversation_is_not_served_without_being_stored(client: openai.OpenAI) -> None:
    c = client.conversations.create()
    with pytest.raises(openai.BadRequestError) as error:
        say(client, "Hi", conversation=c.id, store=False)
    assert error.value.param == "store"


# ---- tenants


@pytest.fixture(scope="module")
def shared_url(start_server, tmp_path_factory) -> str:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("\n".join(KEYS) + "\n")
    return start_server({"api_keys_file": str(keys)}).url


def test_tenants_reach_nothing_of_each_other(shared_url: str) -> None:
    """Through every route and with every kind of id; and both see their own, so the ids are right."""
    one = connect(shared_url, KEYS[0])
    model = one.models.list().data[0].id
    c = one.conversations.create(items=[message("secret")])
    r = one.responses.create(model=model, input="My name is Ada.", conversation=c.id)
    running = one.responses.create(model=model, input="Hi", background=True, max_output_tokens=1500,
                                   extra_body={"ignore_eos": True})
    item = one.conversations.items.list(c.id).data[0].id
    with httpx.Client(base_url=shared_url, timeout=60) as http:
        for method, path in ROUTES:
            answer = call(http, method, c.id, path, item, KEYS[1])
            assert answer.status_code == 404, (method, path, answer.text)
        theirs = {"Authorization": f"Bearer {KEYS[1]}"}
        answer = http.post("/v1/responses", headers=theirs, json={"input": [{"type": "item_reference", "id": item}]})
        assert answer.status_code == 404, answer.text
        for name in (r.id, running.id):
            for method, path in (("GET", ""), ("GET", "?stream=true"), ("DELETE", ""), ("POST", "/cancel"),
                                 ("GET", "/input_items")):
                answer = http.request(method, f"/v1/responses/{name}{path}", headers=theirs)
                assert answer.status_code == 404, (method, path, answer.text)
            answer = http.post("/v1/responses", headers=theirs, json={"input": "x", "previous_response_id": name})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "previous_response_not_found"
        assert http.post("/v1/responses", headers=theirs,
                         json={"input": "x", "conversation": c.id}).status_code == 404
        assert http.get("/v1/conversations", headers=theirs).json()["data"] == []
        mine = http.post("/v1/conversations", headers=theirs, json={}).json()["id"]
        assert http.post(f"/v1/conversations/{mine}/fork", headers=theirs, json={"at": r.id}).status_code == 404
        assert http.get(f"/v1/conversations/{c.id}").status_code == 401
        ours = {"Authorization": f"Bearer {KEYS[0]}"}
        assert c.id in {x["id"] for x in http.get("/v1/conversations", headers=ours).json()["data"]}
    assert one.responses.retrieve(r.id).output_text == r.output_text
    assert one.responses.cancel(running.id).status == "cancelled"
    assert len(one.conversations.items.list(c.id).data) == 3


def test_a_key_of_one_tenant_is_none_of_the_other(shared_url: str) -> None:
    made = []
    for key in KEYS:
        client = connect(shared_url, key)
        made.append(client.responses.create(model=client.models.list().data[0].id, input="Hi",
                                            max_output_tokens=2, extra_headers={"Idempotency-Key": "same"}).id)
    assert made[0] != made[1]


def test_tenants_share_no_pages(shared_url: str) -> None:
    text = "Something that takes more than one page. " * 4
    cached = []
    for key in (KEYS[0], KEYS[1], KEYS[0]):
        client = connect(shared_url, key)
        cached.append(client.responses.create(model=client.models.list().data[0].id, input=text,
                                              max_output_tokens=2).usage.input_tokens_details.cached_tokens)
    assert cached[0] == cached[1] == 0 and cached[2] > 0


# ---- async


def test_async(base_url: str, model: str) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
            c = await client.conversations.create(items=[message("My name is Ada.")])
            r = await client.responses.create(model=model, input="What is my name?", conversation=c.id)
            items = [i async for i in client.conversations.items.list(c.id, order="asc", limit=1)]
            assert texts(items) == ["My name is Ada.", "What is my name?", r.output_text]
            await client.conversations.items.delete(items[0].id, conversation_id=c.id)
            await client.conversations.update(c.id, metadata={"a": "b"})
            assert (await client.conversations.retrieve(c.id)).metadata == {"a": "b"}
            await client.conversations.delete(c.id)
    asyncio.run(run())
