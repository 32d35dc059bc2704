"""`cairn support-bundle`: what is in it, and that planted secrets are not."""
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from cli.program import DEMO, Server, refuses, run

# What must not be found, wherever it was planted.
KEY, OTHER_KEY, PASSWORD, VARIABLE = "sk-planted-key-0001", "plantedKeyOfTheFile", "planted-password", "planted-variable"
PROMPT, ANSWER = "the planted question", "the planted answer"
LOG = f"""2026-11-24T08:30:00.123Z level=info event=listening addr=127.0.0.1:8000
2026-11-24T08:30:01.000Z level=warn event=odd header="Authorization: Bearer {VARIABLE}-bearer" n=3
2026-11-24T08:30:02.000Z level=warn event=odd prompt="{PROMPT} \\"quoted\\" and more" tokens=7
2026-11-24T08:30:03.000Z {{"content": "{ANSWER}", "messages": [{{"role": "user", "content": "{PROMPT}"}}], "n": 5}}
2026-11-24T08:30:04.000Z level=warn event=redis url=redis://cairn:{PASSWORD}-url@redis.lan:6379 up=no
2026-11-24T08:30:05.000Z level=warn event=redis config="requirepass {PASSWORD}-two"
2026-11-24T08:30:06.000Z level=info event=key text={OTHER_KEY} and {PASSWORD} and sk-unknown-12345678
"""
PLANTED = [KEY, OTHER_KEY, PASSWORD, VARIABLE, PROMPT, ANSWER, "sk-unknown", "quoted"]


@pytest.fixture
def secrets(tmp_path: Path) -> list[str]:
    """A configuration and files with secrets in them, as flags."""
    (tmp_path / "keys").write_text(f"# of clients\n{OTHER_KEY}\n")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "cairn.yaml").write_text(f"api_keys: [{KEY}]\nstate: {{store: redis, log: '127.0.0.1:1'}}\n")
    (tmp_path / "log").write_text("an old line\n" + "level=info event=tick\n" * 1200 + LOG)
    return ["--config", str(tmp_path / "cairn.yaml"), "--api_keys_file", str(tmp_path / "keys"),
            "--state.password_file", str(tmp_path / "password"), "--log", str(tmp_path / "log"),
            "--out", str(tmp_path / "out.tar")]


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {m.name.removeprefix("cairn-support/"): tar.extractfile(m).read().decode() for m in tar.getmembers()}


def test_planted_secrets_are_absent(tmp_path: Path, secrets: list[str]) -> None:
    done = run("support-bundle", *secrets, "--listen", "127.0.0.1:1", env={"CAIRN_API_KEY": VARIABLE})
    assert done.returncode == 0, done.stderr
    raw = (tmp_path / "out.tar").read_bytes()
    for secret in PLANTED:
        assert secret.encode() not in raw, secret
    log = read(tmp_path / "out.tar")["log.txt"]
    # What stood around them is there.
    for kept in ("event=listening addr=127.0.0.1:8000", "header=\"Authorization: [redacted] n=3", "prompt=[redacted] tokens=7",
                 '"content": [redacted], "messages": [redacted], "n": 5}', "redis://cairn:[redacted]@redis.lan:6379 up=no",
                 "text=[redacted] and [redacted] and [redacted]"):
        assert kept in log, log[-900:]
    assert len(log.splitlines()) == 1000 and "an old line" not in log


def test_what_is_in_it(tmp_path: Path, secrets: list[str]) -> None:
    run("support-bundle", *secrets, "--listen", "127.0.0.1:1", "--limits.prompts", "77")
    found = read(tmp_path / "out.tar")
    assert set(found) == {"README", "version.txt", "config.json", "doctor.json", "ready.json", "metrics.txt", "log.txt",
                          "system.txt"}
    config = json.loads(found["config.json"])
    assert config["limits.prompts"] == {"value": 77, "source": "flag"} and config["api_keys"] == {"count": 2}
    health = {f["check"]: f["health"] for f in json.loads(found["doctor.json"])}
    assert health["redis"] == "broken" and health["kernel"] in ("fine", "poor")
    assert found["version.txt"].startswith("cairn ") and "== /proc/meminfo\nMemTotal" in found["system.txt"]
    assert "127.0.0.1:1" in found["metrics.txt"]             # nobody answers, and it says so
    mode = (tmp_path / "out.tar").stat()
    assert stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == os.getuid()


def test_a_running_server_is_asked(tmp_path: Path) -> None:
    with Server(env={"CAIRN_LOG_LEVEL": "warn"}) as server:
        done = run("support-bundle", "--out", tmp_path / "out.tar", "--url", server.url, "--log", os.devnull,
                   "--model", DEMO)
        assert done.returncode == 0, done.stderr
    found = read(tmp_path / "out.tar")
    assert "cairn_" in found["metrics.txt"] and "ready" in found["ready.json"] and found["log.txt"] == ""


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    says = refuses("support-bundle", "--out", taken, "--log", os.devnull, "--listen", "127.0.0.1:1", code=1)
    assert says == f"{taken}: File exists; name another one with --out" and taken.read_text() == "mine"
    assert refuses("support-bundle", "--out") == "--out: needs a value, as in --out VALUE"
    assert refuses("support-bundle", "--uot", "x").startswith("--uot: unknown key uot")
