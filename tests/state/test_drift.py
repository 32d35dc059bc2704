"""What happens to the machines around an appliance: its clock jumps, and an old primary comes back with what it had
before the others went on."""
import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.server import serve

from .redis import DURABLE, Redis
from .test_two_appliances import Client

JUMPS_S = [0, 3600, -3600, 90 * 86400, 0]


def on(log: Redis, *flags: str):
    return serve("--state.store", "redis", "--state.log", log.address, "--limits.store_ms", "30000", "--state.timeout_ms", "20000", "--limits.http_idle_ms", "3600000", *flags)


def say(client: Client, text: str, **place: str) -> dict:
    return client.post("/v1/responses", {"model": "model", "input": text, "temperature": 0, "max_output_tokens": 8} | place)


def text_of(response: dict) -> str:
    return response["output"][0]["content"][0]["text"]


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forth, two back, and a quarter of a year: every turn is acknowledged, in order, with the tokens of a
    server whose clock is right, which then goes on with it."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(Redis(*DURABLE))
        log.wait()
        with monkeypatch.context() as env:
            env.setenv("LD_PRELOAD", str(next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))))
            env.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
            env.setenv("FAKETIME_NO_CACHE", "1")
            env.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            drifting = stack.enter_context(on(log))
        steady = stack.enter_context(on(log))
        jumps(Client(drifting), Client(steady), offset)


def jumps(drifting: Client, steady: Client, offset: Path) -> None:
    one, two = (c.post("/v1/conversations", {})["id"] for c in (drifting, steady))
    made = []
    for i, jump_s in enumerate(JUMPS_S):
        offset.write_text(f"{jump_s:+d}")
        made.append(say(drifting, f"This is turn {i}.", conversation=one))
        assert abs(made[-1]["created_at"] - jump_s - time.time()) < 120      # it did jump
        assert text_of(made[-1]) == text_of(say(steady, f"This is turn {i}.", conversation=two))
    assert [t["id"] for t in steady.turns(one)] == [r["id"] for r in made]
    for r in made:
        assert steady.get(f"/v1/responses/{r['id']}")["output"] == r["output"]
    assert text_of(say(steady, "And now?", conversation=one)) == text_of(say(steady, "And now?", conversation=two))


def test_an_old_primary_that_returns_serves_no_wrong_turn() -> None:
    """Two primaries, one of which missed turns: what it does not have is not found, what it has goes on."""
    with Redis(*DURABLE) as kept, Redis(*DURABLE) as old:
        kept.wait()
        old.wait()
        with on(kept) as server:
            client = Client(server)
            conversation = client.post("/v1/conversations", {})["id"]
            first = say(client, "My name is Ada.", conversation=conversation)
            copy(kept, old)
            second = say(client, "My name is Bob.", conversation=conversation)
            want = text_of(say(client, "Hello", previous_response_id=first["id"]))
        with on(old) as server:
            returned(Client(server), conversation, first, second, want)


def copy(source: Redis, target: Redis) -> None:
    """Everything that the one has, as a replica that was cut off then would have it."""
    for key in source.cli("KEYS", "*").split():
        raw = subprocess.run(["redis-cli", "-s", source.socket, "DUMP", key], stdout=subprocess.PIPE, check=True).stdout[:-1]
        subprocess.run(["redis-cli", "-s", target.socket, "-x", "RESTORE", key, "0"], input=raw, check=True,
                       stdout=subprocess.PIPE)
    assert source.cli("DBSIZE") == target.cli("DBSIZE") != "0"


def returned(client: Client, conversation: str, first: dict, second: dict, want: str) -> None:
    status, answer = client.call("POST", "/v1/responses", {"model": "model", "input": "Hello",
                                                            "previous_response_id": second["id"]})
    assert (status, answer["error"]["code"]) == (400, "previous_response_not_found"), answer
    assert client.call("GET", f"/v1/responses/{second['id']}")[0] == 404
    assert [t["id"] for t in client.turns(conversation)] == [first["id"]]
    assert text_of(say(client, "Hello", conversation=conversation)) == want
