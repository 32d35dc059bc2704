"""`cairn session`, `cairn prove` and stored chats, against a server with private Redis servers."""
import contextlib
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .program import Server, refuses, run

NOBODY = "conv_" + "0" * 48
ID = r"conv_[0-9a-f]{48}"
TURN = r"resp_[0-9a-f]{48}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("state")
    with Server("--log.level", "warn", "--state.directory", str(place)) as started:
        yield started


def session(server: Server, *arguments: str | Path, text: str = "") -> str:
    """What the command writes; it must succeed and have nothing else to say."""
    result = run("session", *arguments, "--url", server.url, text=text)
    assert result.returncode == 0 and result.stderr == "", result
    return result.stdout


def fails(server: Server, *arguments: str | Path, command: str = "session") -> str:
    return refuses(command, *arguments, "--url", server.url, code=1)


def talk(server: Server, *questions: str, resume: str = "") -> str:
    """A stored chat; the id of its conversation."""
    result = run("chat", "--url", server.url, *(["--resume", resume] if resume else ["--store"]),
                 text="".join(f"{q}\n" for q in questions))
    assert result.returncode == 0 and len(result.stdout.splitlines()) >= len(questions), result
    found = re.fullmatch(rf"cairn chat --resume ({ID}) goes on here\n", result.stderr)
    assert found, result.stderr
    return found[1]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def roles(server: Server, conversation: str) -> list[str]:
    return [item["role"] for item in lines(session(server, "show", conversation, "--json"))[1:]]


def test_a_chat_is_kept_and_resumed(server: Server) -> None:
    one = talk(server, "Hello", "What is the capital of France?")
    assert talk(server, "And of Spain?", resume=one) == one
    assert roles(server, one) == ["user", "assistant"] * 3
    shown = session(server, "show", one)
    assert re.match(rf"{one}  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  revision 4\nhead {TURN}\n", shown)
    assert "\nuser:\nAnd of Spain?\n\nassistant:\n" in shown
    rows = session(server, "ls").splitlines()
    assert [row for row in rows if row.startswith(one)]
    listed = lines(session(server, "ls", "--json"))
    assert [c["created_at"] for c in listed] == sorted(c["created_at"] for c in listed)
    assert [row[:53] for row in rows] == [c["id"] for c in listed]
    listed = {c["id"]: c for c in listed}
    assert listed[one]["revision"] == 4 and listed[one]["object"] == "conversation"


def test_a_stored_chat_tells_more_than_its_own(server: Server) -> None:
    """The model is asked with the whole history, though only the question is sent."""
    told = run("chat", "--url", server.url, "--store", text="My name is Ada.\nWhat is my name?\n").stdout
    alone = run("chat", "--url", server.url, text="My name is Ada.\nWhat is my name?\n").stdout
    assert told == alone


def test_resuming_what_is_not_there(server: Server) -> None:
    said = fails(server, "--resume", NOBODY, command="chat")
    assert said == f"the server answers 404: Conversation with id '{NOBODY}' not found."


def test_forks_and_trees(server: Server) -> None:
    one = talk(server, "a", "b", "c")
    turns = lines(session(server, "export", one))[1:-1]
    ids = [turn["id"] for turn in turns]
    head = session(server, "fork", one).strip()
    early = session(server, "fork", one, "--at", ids[0]).strip()
    talk(server, "d", resume=early)
    assert roles(server, early) == ["user", "assistant"] * 2 and roles(server, head) == ["user", "assistant"] * 3
    drawn = session(server, "tree", one).splitlines()
    assert len(drawn) == 4
    assert re.match(rf"{ids[0]}  \S+ \S+Z  \d+ \+ \d+ tokens$", drawn[0])
    branches = {line[3:56]: line for line in drawn[1:] if line[0] in "├└"}
    assert ids[1] in branches and len(branches) == 2
    below = next(line for line in drawn if ids[2] in line)
    assert below.startswith(("│  ", "   ")) and f"◀ {one}" in below and f"◁ {head}" in below
    assert [line for line in drawn if line.endswith(f"◁ {early}")]
    tree = json.loads(session(server, "tree", one, "--json"))
    assert {c["id"] for c in tree["conversations"]} == {one, head, early} and len(tree["turns"]) == 4
    assert json.loads(session(server, "fork", one, "--json"))["object"] == "conversation"
    nobody = "resp_" + "0" * 48
    assert "404" in fails(server, "fork", one, "--at", nobody)


def export_of_nothing() -> str:
    return (f'{{"object":"conversation.export","version":1,"id":"{NOBODY}","created_at":1,"metadata":{{}},'
            '"deleted_items":[]}\n{"object":"conversation.export.end","turns":0}\n')


def test_an_empty_conversation(server: Server) -> None:
    empty = session(server, "import", text=export_of_nothing()).strip()
    assert session(server, "tree", empty) == "(empty)\n"
    assert "(empty)" in session(server, "show", empty)


def test_export_and_import(server: Server, tmp_path: Path) -> None:
    one = talk(server, "one", "two")
    path = tmp_path / "one.jsonl"
    assert session(server, "export", one, "--out", str(path)) == ""
    assert path.read_text() == session(server, "export", one)
    assert fails(server, "export", one, "--out", str(path)) == f"{path}: File exists"
    copy = session(server, "import", str(path)).strip()
    assert copy != one and roles(server, copy) == roles(server, one)
    kept, again = lines(path.read_text()), lines(session(server, "export", copy))
    for before, after in zip(kept[1:-1], again[1:-1]):
        assert all(before[key] == after[key] for key in ("text", "tokens", "output_tokens", "resets_text"))
    talk(server, "three", resume=copy)
    assert len(lines(session(server, "export", one))) == 4           # it is another conversation
    text = path.read_text()
    for broken in (text[:len(text) // 2], "rubbish\n", "", "\n".join(text.splitlines()[:-1]) + "\n"):
        result = run("session", "import", "--url", server.url, text=broken)
        assert result.returncode == 1 and result.stdout == "", broken
        assert re.fullmatch(r"cairn: the server answers 400: [^\n]+\n", result.stderr), result.stderr
    assert "No such file" in fails(server, "import", str(tmp_path / "none"))


def test_rm(server: Server) -> None:
    gone = [talk(server, "x"), talk(server, "y")]
    assert session(server, "rm", *gone) == ""
    for one in gone:
        assert fails(server, "show", one) == f"the server answers 404: Conversation with id '{one}' not found."
        assert one not in session(server, "ls")
    assert "404" in fails(server, "rm", gone[0])
    assert "is no id" in fails(server, "rm", "../models")


def test_what_is_shown_cannot_command_the_terminal(server: Server) -> None:
    one = talk(server, "hello \x1b[2J\x07 there")
    assert "\x1b" not in session(server, "show", one) and "hello  [2J  there" in session(server, "show", one)


def test_keys_see_their_own(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    with Server("--log.level", "warn", "--state.directory", str(tmp_path / "s"), "--api_keys_file", str(keys)) as two:
        env = {"CAIRN_API_KEY": "first"}
        said = run("chat", "--url", two.url, "--store", text="hello\n", env=env)
        mine = re.search(ID, said.stderr)[0]
        assert mine in run("session", "ls", "--url", two.url, env=env).stdout
        assert run("session", "ls", "--url", two.url, "--api_key", "second").stdout == ""
        assert "404" in refuses("session", "show", mine, "--url", two.url, "--api_key", "second", code=1)
        assert "404" in refuses("session", "export", mine, "--url", two.url, "--api_key", "second", code=1)
        assert "401" in refuses("session", "ls", "--url", two.url, code=1)


def test_without_a_store() -> None:
    with Server("--log.level", "warn", "--state.store", "none") as bare:
        assert re.match(r"the server answers 503: .*store", fails(bare, "ls"))


def test_turns_are_proven(server: Server) -> None:
    one = talk(server, "Tell me a story about a king and his castle, please.", "Go on.", "And then?")
    session(server, "fork", one)
    proof = run("prove", one, "--url", server.url)
    assert proof.returncode == 0 and proof.stderr == "", proof
    rows = proof.stdout.splitlines()
    assert len(rows) == 4 and all(re.match(rf"{TURN}  \d+ tokens: equal; ", row) for row in rows[:3])
    assert re.match(r"3 turns, \d+ tokens, three times each: 0 differ", rows[3])
    told = lines(run("prove", one, "--url", server.url, "--json").stdout)
    assert [t["equal"] for t in told] == [True] * 3
    assert told[0]["cold"]["cached_tokens"] == 0 and told[0]["warm"]["cached_tokens"] > 0
    # Without a conversation: each turn of all, once, however many branches have it.
    everything = lines(run("prove", "--url", server.url, "--json").stdout)
    assert len({t["turn"] for t in everything}) == len(everything) > 3
    assert fails(server, NOBODY, command="prove").startswith("the server answers 404")
    assert "is no id" in fails(server, "../models", command="prove")


def test_a_difference_is_noticed(server: Server) -> None:
    """A turn whose first token cannot have come about with the settings that it claims."""
    one = talk(server, "Hello", "And now?")
    kept = lines(session(server, "export", one))
    first = kept[2]["tokens"][-kept[2]["output_tokens"]]
    kept[2]["settings"]["logit_bias"] = {str(first): -100}
    copy = session(server, "import", text="".join(json.dumps(line) + "\n" for line in kept)).strip()
    proof = run("prove", copy, "--url", server.url)
    assert proof.returncode == 1
    assert re.search(rf"^{TURN}  DIFFERS: found token 0 is \d+, was {first}$", proof.stdout, re.M), proof
    assert "1 differ" in proof.stdout
    told = lines(run("prove", copy, "--url", server.url, "--json").stdout)
    assert {t["equal"] for t in told} == {True, False}


def test_kept_logprobs_are_proven(server: Server) -> None:
    """A turn that was asked for logprobs keeps them, and they come out the same."""
    def post(path: str, body: dict) -> dict:
        request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    one = post("/v1/conversations", {})["id"]
    for n in range(2):
        answer = post("/v1/responses", {"conversation": one, "input": f"Question {n}?", "temperature": 1.2, "seed": n,
                                        "include": ["message.output_text.logprobs"], "max_output_tokens": 12})
        assert len(answer["output"][0]["content"][0]["logprobs"]) >= 3
    proof = run("prove", one, "--url", server.url)
    assert proof.returncode == 0 and "2 turns" in proof.stdout and "0 differ" in proof.stdout, proof
    # The same through somebody in the middle who changes one kept logprob, or one of the warm run.
    for what, says in (("kept", "DIFFERS: found logprob 2 is -?[0-9.e-]+, was -0.123$"),
                       ("warm", "DIFFERS: warm logprob 0 is -0.123, was -?[0-9.e-]+$")):
        with in_the_middle(server, what) as url:
            proof = run("prove", one, "--url", url)
        assert proof.returncode == 1 and re.search(says, proof.stdout, re.M), proof


@contextlib.contextmanager
def in_the_middle(server: Server, what: str) -> Iterator[str]:
    """A server that hands everything on and back, with one number changed."""
    class Handler(BaseHTTPRequestHandler):
        runs = 0

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            request = urllib.request.Request(server.url + self.path, body, {"Content-Type": "application/json"})
            text = urllib.request.urlopen(request, timeout=30).read().decode()
            if what == "kept" and self.path.endswith("/export"):
                rows = lines(text)
                for row in rows[1:-1]:
                    row["output"][0]["content"][0]["logprobs"][2]["logprob"] = -0.123
                text = "".join(json.dumps(row) + "\n" for row in rows)
            if self.path == "/v1/completions":
                Handler.runs += 1
                answer = json.loads(text)
                if what == "warm" and Handler.runs == 3:
                    answer["choices"][0]["logprobs"]["token_logprobs"][0] = -0.123
                text = json.dumps(answer)
            self.send_response(200)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = pass_on

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
