"""The catalogue of errors: every code has an explanation, every explanation an example that the sources can say, and
every code that the sources use is in it."""
import json
import os
import pty
import re
import subprocess

import pytest

from cli.program import CAIRN, CLEAN, TOP, refuses, run

FILES = [p for room in ("appliance", "base", "bench", "dataplane", "kernels", "model", "scheduler", "state")
         for p in sorted((TOP / room).rglob("*.c")) if "bench/state" not in str(p)]
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\w+|\S')


def catalogue() -> list[dict]:
    return [json.loads(line) for line in run("explain", "--json").stdout.splitlines()]


def literals(source: str) -> list[str]:
    """The strings of a statement, those that stand together joined; "%" PRIu64 is a format as well."""
    found, joins = [], False
    for token in TOKEN.findall(source):
        if token == ";":
            break
        if token[0] == '"':
            text = token[1:-1].replace('\\"', '"')
            found[-1:] = [found[-1] + text] if joins else [*found[-1:], text]
        elif joins and token.startswith("PRI"):
            found[-1] += "u"
        joins = token[0] == '"' or token.startswith("PRI")
    return found


def texts_of_sources() -> dict[str, list[str]]:
    """The formats that stand behind each code, mostly in a call of cn_err_set."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        source = path.read_text()
        for match in re.finditer(r"\bCN_(E_[A-Z_]+)\b", source):
            found.setdefault(match[1], []).extend(literals(source[match.end():match.end() + 900]))
    return found


def as_pattern(text: str) -> str:
    text = re.sub(r"%[-#0 ]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|z|j)?[a-zA-Z]", "\0", text)
    return ".+".join(map(re.escape, text.split("\0")))


def test_every_code_is_explained() -> None:
    table = re.findall(r"^    X\((E_\w+),\s+(\d+),\s+\"\w*\",\s+\"(\w*)\"", (TOP / "base/err.h").read_text(), re.M)
    found = catalogue()
    assert [(e["name"], str(e["status"]), e["code"]) for e in found] == table and len(table) > 30
    for entry in found:
        assert entry.get("when") and entry.get("do") and entry.get("example"), f"explain_table.h has no {entry['name']}"
        assert entry["when"].endswith(".") and entry["do"].endswith("."), entry


def test_examples_are_what_the_sources_say() -> None:
    said = texts_of_sources()
    wrong = []
    for entry in catalogue():
        assert entry["name"] in said, f"no source uses {entry['name']}"
        patterns = [as_pattern(t) for t in said[entry["name"]] if len(t) > 3] + [as_pattern(entry["meaning"])]
        if not any(re.fullmatch(p, entry["example"]) for p in patterns if p.strip(".+")):
            wrong.append(f"{entry['name']}: {entry['example']}\n    " + "\n    ".join(said[entry["name"]][:12]))
    assert not wrong, "\n".join(wrong)


def test_codes_of_the_sources_are_in_the_table() -> None:
    """So that a message without a code cannot be: what takes a sentence takes a code of the table."""
    names = {entry["name"] for entry in catalogue()}
    assert set(texts_of_sources()) <= names


@pytest.mark.parametrize("word", ["E_QUEUE", "CN_E_QUEUE", "server_overloaded", "SERVER_OVERLOADED", "e_queue"])
def test_a_code_is_known_by_all_its_names(word: str) -> None:
    text = run("explain", word).stdout
    assert text.startswith("E_QUEUE  HTTP 503  server_error  server_overloaded\n")
    assert all(f"\n{part:<9}" in text for part in ("When", "Do", "Example"))


def test_a_status_may_be_several_codes() -> None:
    names = re.findall(r"^(E_\w+)  HTTP 503", run("explain", "503").stdout, re.M)
    assert {"E_QUEUE", "E_DRAINING", "E_STORE"} <= set(names)


def test_the_list_and_what_is_unknown() -> None:
    assert len(run("explain").stdout.splitlines()) == len(catalogue())
    assert refuses("explain", "E_QUEU") == "unknown error E_QUEU; is this meant: cairn explain E_QUEUE"
    assert refuses("explain", "E_QUEUE", "E_IO").startswith("unexpected argument E_IO")


def test_at_a_terminal_the_code_is_named() -> None:
    """Where a person reads; a script gets the one sentence, as everywhere in tests/cli."""
    ours, theirs = pty.openpty()
    done = subprocess.run([CAIRN, "serve", "--modle", "x"], env=CLEAN, stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 4096).decode().replace("\r\n", "\n")
    os.close(ours)
    assert done.returncode == 2
    assert said == "cairn: --modle: unknown key modle; is model meant?\n       `cairn explain E_INVALID` says more\n"
