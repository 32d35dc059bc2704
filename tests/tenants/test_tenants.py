"""Keys, scopes and limits as OpenAI's own client meets them, and `cairn key` beside a server that runs."""
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from conftest import Server, wait_for
from tests.cli.program import refuses, run

HTTP = httpx.Client(timeout=120)
PROMPT = "The quick brown fox jumps over the lazy dog, and then it runs back home to sleep."


def new_key(file: Path, name: str, tenant: str, *flags: str) -> str:
    result = run("key", "new", name, "--tenant", tenant, "--api_keys_file", file, *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def add_line(file: Path, **members: object) -> None:
    with file.open("a") as out:
        out.write(json.dumps(members) + "\n")


def client(server: Server, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=retries, timeout=120)


def complete(server: Server, key: str, **more: object) -> httpx.Response:
    body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "ignore_eos": True} | more
    return HTTP.post(f"{server.url}/v1/completions", json=body,
                      headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def server(keys: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server, and keys by name."""
    secrets = {
        "free": new_key(keys, "free", "a"),
        "free-too": new_key(keys, "free-too", "a"),
        "other": new_key(keys, "other", "b"),
        "infer": new_key(keys, "infer", "a", "--scopes", "inference"),
        "scrape": new_key(keys, "scrape", "ops", "--scopes", "metrics"),
        "three": new_key(keys, "three", "slow", "--requests_per_minute", "3"),
        "fast": new_key(keys, "fast", "slow", "--requests_per_minute", "120"),
        "tokens": new_key(keys, "tokens", "thrifty"),
        "one": new_key(keys, "one", "single", "--concurrent", "1"),
        "plain": "sk-in-plain-text",
    }
    add_line(keys, tenant="thrifty", tokens_per_minute=2000, weight=2)
    with keys.open("a") as out:
        out.write(secrets["plain"] + "\n")
    server = Server({"api_keys_file": str(keys)})
    yield server, secrets
    status, text = server.drain(), server.log_text()
    server.close()
    assert status == 0, text[-4000:]
    assert not [name for name, secret in secrets.items() if secret in text]     # nor in any log line


def test_a_key_is_shown_once_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    secret = new_key(file, "laptop", "acme", "--scopes", "inference,metrics", "--tokens_per_minute", "500")
    assert re.fullmatch(r"ck-[A-Za-z0-9_-]{43}", secret)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in file.read_text()
    line = json.loads(file.read_text())
    assert line["key"] == "laptop" and line["tenant"] == "acme" and line["tokens_per_minute"] == 500
    assert line["scopes"] == ["inference", "metrics"] and re.fullmatch(r"blake2b-256:[0-9a-f]{64}", line["hash"])
    assert secret != new_key(file, "second", "acme")
    listed = json.loads(run("key", "ls", "--json", "--api_keys_file", file).stdout)
    assert [key["name"] for key in listed] == ["laptop", "second"]
    assert listed[0]["scopes"] == ["inference", "metrics"] and listed[0]["tokens_per_minute"] == 500
    text = run("key", "ls", env={"CAIRN_API_KEYS_FILE": str(file)}).stdout
    assert re.search(r"^laptop +acme +\d{4}-\d\d-\d\d +inference,metrics tokens_per_minute=500$", text, re.M)


def test_editing_by_hand_and_revoking_keep_the_other_lines(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsk-plain\n\n")
    file.chmod(0o644)
    new_key(file, "laptop", "acme")
    file.write_text(file.read_text() + "# the end")          # no newline at the end
    new_key(file, "phone", "acme")
    assert run("key", "revoke", "laptop", "--api_keys_file", file).returncode == 0
    lines = file.read_text().splitlines()
    assert lines[:4] == ["# ours", "sk-plain", "", "# the end"] and json.loads(lines[4])["key"] == "phone"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not file.with_name("keys.new").exists()
    assert run("key", "revoke", "plain-1", "--api_keys_file", file).returncode == 0
    last = run("key", "revoke", "phone", "--api_keys_file", file)
    assert last.returncode == 0 and "that was the last key" in last.stderr
    assert file.read_text() == "# ours\n\n# the end\n"
    assert run("key", "ls", "--json", "--api_keys_file", file).stdout == "[]\n"


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    threads = [threading.Thread(target=new_key, args=(file, f"k{i}", "t")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = json.loads(run("key", "ls", "--json", "--api_keys_file", file).stdout)
    assert sorted(key["name"] for key in listed) == sorted(f"k{i}" for i in range(12))


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    at = ["--api_keys_file", str(file)]
    new_key(file, "taken", "acme")
    before = file.read_text()
    for arguments, code, says in [
        (["new"], 2, "cairn key new: a name is not given; usage: cairn key new NAME --tenant TENANT"),
        (["new", "x"], 2, "cairn key new: --tenant is not given"),
        (["new", "taken", "--tenant", "t"], 2, "the new key:1: key taken: stands twice, first in line 1"),
        (["new", "a b", "--tenant", "t"], 2, 'key: "a b"; must be 1 to 64 letters'),
        (["new", "x", "--tenant", "t", "--scopes", "all"], 2, "--scopes: all; must be a list of: inference"),
        (["new", "x", "--tenant", "t", "--concurrent", "0"], 2, "--concurrent: 0; must be a whole number"),
        (["new", "x", "--tenat", "t"], 2, "unknown argument --tenat; is this meant: --tenant"),
        (["new", "x", "--tenant"], 2, "--tenant: needs a value, as in --tenant VALUE"),
        (["new", "x", "y"], 2, "unexpected argument y"),
        (["revoke", "nobody"], 1, 'has no key "nobody"; `cairn key ls` lists them'),
        (["revoke"], 2, "cairn key revoke: a name is not given"),
        (["rvoke", "x"], 2, "unknown job rvoke; is this meant: cairn key revoke"),
    ]:
        assert says in refuses("key", *arguments, *at, code=code)
    assert "api_keys_file: is not given" in refuses("key", "ls")
    assert "No such file" in refuses("key", "ls", "--api_keys_file", tmp_path / "no", code=1)
    assert "No such file" in refuses("key", "new", "x", "--tenant", "t", "--api_keys_file", tmp_path / "no/no", code=1)
    assert file.read_text() == before
    file.write_text('{"tenant":"a","wait":1}\n')
    assert f"{file}:1: unknown member wait" in refuses("serve", "--model", "x", *at)
    assert "unknown member wait" in refuses("key", "ls", *at)


def test_scopes(server: tuple[Server, dict[str, str]]) -> None:
    at, secret = server
    model = client(at, secret["infer"]).models.list().data[0].id
    assert client(at, secret["infer"]).completions.create(model=model, prompt="Hi", max_tokens=1).choices
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client(at, secret["infer"]).conversations.create()
    assert refused.value.code == "insufficient_permissions"
    assert 'API key "infer" has no scope "conversations"' in refused.value.message
    with pytest.raises(openai.PermissionDeniedError):
        client(at, secret["scrape"]).models.list()
    assert client(at, secret["free"]).conversations.create().id
    assert client(at, secret["plain"]).conversations.create().id
    # A key for metrics exists, so they are not everybody's any more.
    assert HTTP.get(f"{at.url}/metrics").status_code == 401
    assert HTTP.get(f"{at.url}/metrics", headers={"Authorization": f"Bearer {secret['free']}"}).status_code == 403
    for name in ("scrape", "plain"):
        assert HTTP.get(f"{at.url}/metrics", headers={"Authorization": f"Bearer {secret[name]}"}).status_code == 200
    assert HTTP.get(f"{at.url}/livez").status_code == 200


def test_requests_per_minute(server: tuple[Server, dict[str, str]]) -> None:
    at, secret = server
    three = client(at, secret["three"])
    for left in (2, 1, 0):
        answer = three.models.with_raw_response.list()
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        # A slow machine may have earned one back meanwhile: 20 s each.
        assert int(answer.headers["x-ratelimit-remaining-requests"]) >= left
        assert re.fullmatch(r"\d+m\d+s|[\d.]+s|\d+ms", answer.headers["x-ratelimit-reset-requests"])
    refused = None
    for _ in range(20):                      # of which a slow machine may see some let in
        try:
            three.models.list()
        except openai.RateLimitError as error:
            refused = error
            break
    assert refused is not None
    assert refused.code == "rate_limit_exceeded" and refused.type == "requests"
    assert 'requests_per_minute of key "three": 3. Please try again in' in refused.message
    assert 1 <= int(refused.response.headers["retry-after"]) <= 20
    assert 1 <= int(refused.response.headers["retry-after-ms"]) <= 20000
    assert refused.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert client(at, secret["fast"]).models.list().data      # another key of the tenant is not held up


def test_the_client_waits_and_is_served(server: tuple[Server, dict[str, str]]) -> None:
    """What Retry-After says is right: OpenAI's client sleeps that long by itself, and gets its answer."""
    at, secret = server
    patient = client(at, secret["fast"], retries=4)           # 2 per second
    assert all(patient.models.list().data for _ in range(125))


def test_tokens_are_reserved_and_given_back(server: tuple[Server, dict[str, str]]) -> None:
    at, secret = server
    answer = complete(at, secret["tokens"], max_tokens=8)
    used = answer.json()["usage"]["total_tokens"]
    left = int(answer.headers["x-ratelimit-remaining-tokens"])
    assert answer.headers["x-ratelimit-limit-tokens"] == "2000" and left >= 2000 - used
    # In a stream the fields are told at its start, when all is reserved that it may use.
    with HTTP.stream("POST", f"{at.url}/v1/completions",
                      json={"prompt": PROMPT, "max_tokens": 1500, "stream": True, "temperature": 0, "stop": ["e"]},
                      headers={"Authorization": f"Bearer {secret['tokens']}"}) as stream:
        assert int(stream.headers["x-ratelimit-remaining-tokens"]) < 500 + 60 * 33
        stream.read()
    after = complete(at, secret["tokens"], max_tokens=1)
    assert after.status_code == 200 and int(after.headers["x-ratelimit-remaining-tokens"]) > 1500
    # A prompt that is larger than the limit can never be answered, and the client is told not to try.
    large = complete(at, secret["tokens"], prompt=[5] * 2001, max_tokens=1)
    assert large.status_code in (400, 429)
    if large.status_code == 429:
        assert large.json()["error"]["type"] == "tokens" and large.headers["x-should-retry"] == "false"


def test_a_turn_that_ended_makes_room_at_once(server: tuple[Server, dict[str, str]]) -> None:
    """One turn at a time, one after the other, whole and as streams; and when the client has gone."""
    at, secret = server
    for i in range(20):
        assert complete(at, secret["one"], max_tokens=2, stream=bool(i % 2)).status_code == 200
    with HTTP.stream("POST", f"{at.url}/v1/completions",
                     json={"prompt": PROMPT, "max_tokens": 1900, "n": 8, "ignore_eos": True, "stream": True},
                     headers={"Authorization": f"Bearer {secret['one']}"}) as stream:
        next(stream.iter_lines())
    assert wait_for(lambda: complete(at, secret["one"]).status_code == 200, 30)


def test_keys_of_a_tenant_share_what_others_never_see(server: tuple[Server, dict[str, str]]) -> None:
    at, secret = server
    prompt = "Keys of one tenant share its pages: " + PROMPT

    def cached(name: str) -> int:
        return complete(at, secret[name], prompt=prompt).json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached("free") == 0
    assert cached("free-too") >= 16
    assert cached("other") == 0 and cached("plain") == 0
    conversation = client(at, secret["free"]).conversations.create()
    assert client(at, secret["free-too"]).conversations.retrieve(conversation.id).id == conversation.id
    with pytest.raises(openai.NotFoundError):
        client(at, secret["other"]).conversations.retrieve(conversation.id)


def test_keys_change_while_the_server_runs(server: tuple[Server, dict[str, str]], keys: Path) -> None:
    at, secret = server

    def status(key: str) -> int:
        return HTTP.get(f"{at.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

    late = new_key(keys, "late", "a", "--requests_per_minute", "1000")
    assert wait_for(lambda: status(late) == 200, 60)
    # A file that cannot be read is logged, and changes nothing.
    sound = keys.read_text()
    keys.write_text(sound + "{broken\n")
    assert wait_for(lambda: "event=keys_kept" in at.log_text(), 60)
    assert "is not JSON" in at.log_text() and status(late) == 200
    # An answer under way outlives its key.
    keys.write_text(sound)
    with HTTP.stream("POST", f"{at.url}/v1/completions",
                      json={"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True, "stream": True},
                      headers={"Authorization": f"Bearer {late}"}) as stream:
        assert run("key", "revoke", "late", "--api_keys_file", keys).returncode == 0
        assert wait_for(lambda: status(late) == 401, 60)
        assert list(stream.iter_lines())[-2] == "data: [DONE]"
    assert status(secret["free"]) == 200
    os.utime(keys)                           # what is touched is read again, and is the same
    assert status(secret["free"]) == 200
