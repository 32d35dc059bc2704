"""Commands, flags, help and exit codes; what a person who mistypes is told, sentence by sentence."""
import json
import re

import pytest

from .program import DEMO, refuses, run

COMMANDS = ["serve", "chat", "session", "key", "prove", "bench", "metrics", "drain", "doctor", "capture",
            "config",
            "support-bundle", "explain", "manual", "completion", "version"]       # as in the help


def test_help_names_every_command_and_exit_code() -> None:
    result = run("--help")
    assert result.returncode == 0 and result.stderr == ""
    assert re.findall(r"^  ([\w-]+) ", result.stdout, re.M) == COMMANDS
    assert "Exit codes: 0 done, 1 failed" in result.stdout


def test_without_a_command_help_goes_to_stderr() -> None:
    result = run()
    assert result.returncode == 2 and result.stdout == "" and "usage: cairn" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith(f"usage: cairn {command}")
    assert max(len(line) for line in result.stdout.splitlines()) <= 110


def test_serve_help_documents_every_key() -> None:
    keys = json.loads(run("config", "print", "--json").stdout)
    shown = re.findall(r"^  --(\S+) ", run("serve", "--help").stdout, re.M)
    assert shown == [key for key in keys if key != "api_keys"]


def test_version() -> None:
    text = run("version").stdout
    assert re.fullmatch(r"cairn \d+\.\d+\.\d+\n", text)
    assert json.loads(run("version", "--json").stdout)["version"] == text.split()[1]


@pytest.mark.parametrize("arguments, says", [
    (["srve"], "unknown command srve; is this meant: cairn serve"),
    (["frobnicate"], "unknown command frobnicate; `cairn --help` lists them"),
    (["serve"], "model: is not given; must be the directory of a Hugging Face checkpoint "
                "(cairn serve --model DIR)"),
    (["serve", "--modle", "x"], "--modle: unknown key modle; is model meant?"),
    (["serve", "--model=x", "--listne=y"], "--listne: unknown key listne; is listen meant?"),
    (["serve", "--kv.byte", "1G"], "--kv.byte: unknown key kv.byte; is kv.bytes meant?"),
    (["serve", "--frobnicate", "1"], "--frobnicate: unknown key frobnicate; `cairn config print` "
                                     "lists all keys"),
    (["serve", "--model"], "--model: needs a value, as in --model VALUE"),
    (["serve", "--model", "--listen", "x"], "--model: needs a value, as in --model VALUE"),
    (["serve", "model"], "unexpected argument model; flags begin with --"),
    (["version", "--yaml"], "unexpected argument --yaml; usage: cairn version [--json]"),
    (["chat", "--ulr", "x"], "unknown argument --ulr; is this meant: --url"),
    (["chat", "--url"], "--url: needs a value, as in --url VALUE"),
    (["chat", "--resume", "../x"], "--resume: ../x; must be the id of a conversation, conv_..."),
    (["session", "sho"], "session: unknown job sho; is this meant: cairn session show"),
    (["session", "show"], "cairn session show: needs an id; `cairn session show --help` says which"),
    (["session", "ls", "conv_1"], "unexpected argument conv_1; `cairn session ls --help` says what is"),
    (["session", "fork", "x", "--att", "y"], "unknown argument --att; is this meant: --at"),
    (["session", "rm", "x", "--json"], "unknown argument --json; `cairn session rm --help` lists them"),
    (["session", "ls", "--json=1"], "--json: takes no value"),
])
def test_what_is_mistyped_is_told(arguments: list[str], says: str) -> None:
    assert refuses(*arguments) == says


def test_an_address_that_is_none_is_bad_usage() -> None:
    assert '"8000" has no port' in refuses("serve", "--model", DEMO, "--listen", "8000", "--log.level", "warn")


def test_pages_for_nothing_are_refused() -> None:
    assert "kv.bytes: room for 0 pages" in refuses("serve", "--model", DEMO, "--listen", "127.0.0.1:0",
                                                   "--log.level", "warn", "--kv.bytes", "1")
