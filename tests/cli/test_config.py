"""One table of keys; four places to set them; a sentence for whatever is wrong."""
import json
import re
from pathlib import Path

import pytest

from .program import TOP, refuses, run


def printed(*arguments: str | Path, env: dict[str, str] | None = None) -> dict[str, dict]:
    result = run("config", "print", "--json", *arguments, env=env)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_example_documents_every_key() -> None:
    """deploy/cairn.yaml is what `config print` writes, under a heading."""
    text = (TOP / "deploy/cairn.yaml").read_text()
    body = re.sub(r"\A(#[^\n]*\n)+\n", "", text)
    assert body == re.sub(r"    # default$", "", run("config", "print").stdout, flags=re.M)
    assert run("config", "check", "--config", TOP / "deploy/cairn.yaml").returncode == 0


def test_what_print_writes_can_be_read(tmp_path: Path) -> None:
    flags = ["--model", "a \"b\": #c", "--kv.bytes", "3G", "--limits.choices", "5"]
    path = write(tmp_path / "c.yaml", run("config", "print", *flags).stdout)
    assert {k: v.get("value") for k, v in printed("--config", path).items()} == {
        k: v.get("value") for k, v in printed(*flags).items()}


def test_precedence_and_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "drain: {seconds: 1}\nkv:\n  bytes: 2M\nmodel: file\nlisten: file\n")
    env = {"CAIRN_MODEL": "environment", "CAIRN_LISTEN": "environment", "CAIRN_KV_BYTES": "3M"}
    for flags in (["--config", path, "--model=flag"], ["--model", "flag", f"--config={path}"]):
        settings = printed(*flags, env=env)
        assert settings["model"] == {"value": "flag", "source": "flag"}
        assert settings["listen"] == {"value": "environment", "source": "environment"}
        assert settings["kv.bytes"] == {"value": 3 << 20, "source": "environment"}
        assert settings["drain.seconds"] == {"value": 1, "source": "file"}
        assert settings["engine.sequences"] == {"value": 64, "source": "default"}


@pytest.mark.parametrize("text, value", [("0", 0), ("7", 7), ("1K", 1 << 10), ("2M", 2 << 20), ("3G", 3 << 30),
                                         ("1T", 1 << 40)])
def test_numbers_have_suffixes(text: str, value: int) -> None:
    assert printed("--kv.bytes", text)["kv.bytes"]["value"] == value


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1k", "1KB", "0x10", " 1", "1 ", "2T", "99999999999999999999", "1e3", "K"])
def test_numbers_are_checked(text: str) -> None:
    assert refuses("config", "check", f"--kv.bytes={text}") == (
        f"--kv.bytes: kv.bytes: {text[:40]}; must be a whole number from 0 to 1099511627776 (K, M, G, T may follow it)")


@pytest.mark.parametrize("flag, says", [
    ("--backend=gpu", "backend: gpu; must be one of cpu, cuda-emu"),
    ("--log.level=loud", "log.level: loud; must be debug, info, warn, error or off"),
    ("--engine.step_tokens=79", "engine.step_tokens: 79; must be at least engine.sequences + 16 (80), "
                                "so that prompts go on while all decode"),
    ("--limits.queue_requests=7", "limits.choices: 8; must be at most limits.queue_requests (7)"),
    ("--config=/nonexistent", "--config: /nonexistent: No such file or directory"),
    ("--api_keys_file=/nonexistent", "api_keys_file: /nonexistent: No such file or directory"),
])
def test_values_are_checked(flag: str, says: str) -> None:
    assert refuses("config", "check", flag) == says


@pytest.mark.parametrize("text, says", [
    ("model: a\nmodel: b\n", "2: model: stands twice"),
    ("kv: {bytes: 1}\nkv.bytes: 2\n", "2: kv.bytes: stands twice"),
    ("kv:\n  bytes: 1\nkv:\n  bytes: 2\n", "4: kv.bytes: stands twice"),
    ("api_keys: [a]\napi_keys: [b]\n", "2: api_keys: stands twice"),
    ("modell: a\n", "1: unknown key modell; is model meant?"),
    ("\n\nkv:\n  byte: 1\n", "4: unknown key kv.byte; is kv.bytes meant?"),
    ("kv:\n  bytes: lots\n", "2: kv.bytes: lots; must be a whole number from 0 to 1099511627776 "
                             "(K, M, G, T may follow it)"),
    ("model: [a]\n", "1: model: must be a single value"),
    ("api_keys: a\n", "1: api_keys: must be a list of texts"),
    ("api_keys: [[a]]\n", "1: api_keys: must be a list of texts"),
    ("api_keys: ['']\n", "1: an API key of 0 bytes; must have 1 to 512"),
    ("[a, b]: c\n", "1: a key must be a text"),
    ("- a\n", "1: must be a mapping of keys to values"),
    ("kv: {bytes: {a: 1}}\n", "1: kv.bytes: must be a single value"),
    ("model: \"a\\0b\"\n", "1: model: must be a single value"),
])
def test_files_are_checked(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "c.yaml", text)
    assert refuses("config", "check", "--config", path) == f"{path}:{says}"


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "# nothing\n")
    assert run("config", "print", "--config", path).stdout == run("config", "print").stdout


@pytest.mark.parametrize("text, line", [("model: a\nkv: {bytes: 1\n", 3), ("kv:\n\tbytes: 1\n", 2)])
def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path / "c.yaml", text)
    assert refuses("config", "check", "--config", path).startswith(f"{path}:{line}: is not YAML: ")


def test_the_environment_is_checked() -> None:
    assert refuses("config", "check", env={"CAIRN_KV_BYTE": "1"}) == (
        "environment: unknown variable CAIRN_KV_BYTE; `cairn config print` lists all keys")
    assert refuses("config", "check", env={"CAIRN_KV_BYTES": "x"}).startswith("CAIRN_KV_BYTES: kv.bytes: x; must be")


def test_api_keys_are_counted_and_never_shown(tmp_path: Path) -> None:
    keys = write(tmp_path / "keys", "# staff\nsecret-one\n\nsecret-two\r\n")
    path = write(tmp_path / "c.yaml", f"api_keys: [secret-three]\napi_keys_file: {keys}\n")
    assert printed("--config", path)["api_keys"] == {"count": 3}
    assert "secret" not in run("config", "print", "--config", path).stdout


@pytest.mark.parametrize("text, says", [
    ("", ": has no keys; must have one per line"),
    ("# nobody yet\n\n", ": has no keys; must have one per line"),
    ("good\n" + "k" * 520 + "\n", ":2: an API key of 520 bytes; must have 1 to 512"),
])
def test_a_file_without_good_keys_does_not_open_the_server(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "keys", text)
    told = refuses("config", "check", "--api_keys_file", path)
    assert told.endswith(f"{path}{says}") and "kkkk" not in told


def test_the_environment_of_the_chat_is_no_mistake() -> None:
    assert run("config", "check", env={"CAIRN_API_KEY": "for the chat", "CAIRNS": "1"}).returncode == 0


def test_check_says_so() -> None:
    assert run("config", "check").stdout == "the configuration is sound\n"
