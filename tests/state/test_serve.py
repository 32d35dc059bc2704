"""The store of `cairn serve`: private servers that come, go and are killed, servers that an operator names, and
none at all. What needs no store is served throughout."""
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.server import CAIRN, DEMO, Server, serve
from .redis import DURABLE, Redis


def respond(server: Server, **fields: object) -> tuple[int, dict]:
    body = {"model": "model", "input": "Hi!", "max_output_tokens": 4} | fields
    request = urllib.request.Request(f"{server.url}/v1/responses", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def ready(server: Server) -> dict | None:
    return json.loads(server.get("/readyz"))["store"]


UP = {"durability": "fsync", "log": "up", "pages": "up"}


def wait_for(server: Server, wanted: dict) -> None:
    end = time.monotonic() + 20
    while ready(server) != wanted:
        assert time.monotonic() < end, (ready(server), wanted)
        time.sleep(0.01)


def pid_of(directory: Path, name: str) -> int:
    return int((directory / f"{name}.lock").read_text())


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_private_servers_are_started_again_and_end_with_it(tmp_path: Path) -> None:
    with serve("--state.directory", str(tmp_path)) as server:
        wait_for(server, UP)
        status, first = respond(server)
        assert status == 200
        for name in ("log", "pages"):
            old = pid_of(tmp_path, name)
            os.kill(old, signal.SIGKILL)
            end = time.monotonic() + 20
            while pid_of(tmp_path, name) == old:
                assert time.monotonic() < end
                assert respond(server, store=False)[0] == 200
        wait_for(server, UP)
        status, second = respond(server, previous_response_id=first["id"])
        assert status == 200 and second["previous_response_id"] == first["id"]
        pids = [pid_of(tmp_path, name) for name in ("log", "pages")]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)
    with serve("--state.directory", str(tmp_path)) as server:        # a new process, the same turns
        assert respond(server, previous_response_id=second["id"])[0] == 200


def test_a_killed_server_leaves_no_servers_behind(tmp_path: Path) -> None:
    process = subprocess.Popen([CAIRN, "serve", "--model", DEMO, "--listen", "127.0.0.1:0", "--log.level", "warn",
                                "--state.directory", tmp_path], stdout=subprocess.PIPE, text=True)
    server = Server(process, "http://" + process.stdout.readline().split()[-1])
    wait_for(server, UP)
    _, first = respond(server)
    pids = [pid_of(tmp_path, name) for name in ("log", "pages")]
    process.kill()
    process.communicate()
    with serve("--state.directory", str(tmp_path)) as server:        # at once
        assert respond(server, previous_response_id=first["id"])[0] == 200
    assert not any(is_alive(pid) for pid in pids)


def test_without_a_store_only_stored_turns_are_refused(tmp_path: Path) -> None:
    """redis-server is not installed; another cairn has the directory; none is wanted."""
    with serve("--state.directory", str(tmp_path)) as first:
        wait_for(first, UP)
        with serve("--state.directory", str(tmp_path)) as server:
            assert ready(server) is None
            status, body = respond(server)
            assert status == 503 and body["error"]["code"] == "state_unavailable"
            assert respond(server, store=False)[0] == 200
        assert ready(first) == UP and respond(first)[0] == 200
    path = os.environ["PATH"]
    os.environ["PATH"] = str(tmp_path)
    try:
        with serve() as server:
            assert ready(server) is None and respond(server)[0] == 503 and respond(server, store=False)[0] == 200
    finally:
        os.environ["PATH"] = path
    with serve("--state.store", "none") as server:
        assert ready(server) is None and respond(server)[0] == 503 and respond(server, store=False)[0] == 200


def test_configured_servers_that_are_away_or_promise_less(tmp_path: Path) -> None:
    with Redis("--appendonly", "yes", "--appendfsync", "everysec") as log, Redis() as pages:
        log.wait()
        flags = ["--state.store", "redis", "--state.log", log.address, "--state.pages", pages.address]
        with serve(*flags) as server:
            wait_for(server, UP | {"log": "away"})                   # it syncs once a second
            assert respond(server, store=False)[0] == 200
            log.cli("CONFIG", "SET", "appendfsync", "always")
            wait_for(server, UP)
            assert respond(server)[0] == 200
            assert server.metric('cairn_store_up{role="log"}') == 1
            log.kill()
            pages.kill()
            wait_for(server, {"durability": "fsync", "log": "away", "pages": "away"})
            assert respond(server, store=False)[0] == 200
            start = time.monotonic()
            status, body = respond(server)
            assert status == 503 and body["error"]["code"] == "state_unavailable"
            assert time.monotonic() - start < 10
            log.flags = tuple(DURABLE)
            log.start()
            pages.start()
            wait_for(server, UP)
            assert respond(server)[0] == 200
        # Servers that are not there yet are no reason not to start.
        log.kill()
        with serve(*flags) as server:
            wait_for(server, UP | {"log": "away"})
            assert respond(server, store=False)[0] == 200


def test_configured_values_that_cannot_be_are_refused() -> None:
    for flags, says in (
            (["--state.store", "sim"], "state.store: sim; must be private, redis or none"),
            (["--state.durability", "disk"], "state.durability: disk; must be memory, process, fsync or fsync+replica"),
            (["--state.durability", "fsync+replica"], "fsync+replica needs servers on two machines"),
            (["--state.store", "redis"], "state.log must name its server"),
            (["--state.log", "127.0.0.1:1"], "state.store: private; must be redis where state.log or state.pages is set"),
            (["--state.store", "redis", "--state.log", "nowhere"], 'state.log: "nowhere" is no server'),
            (["--state.store", "redis", "--state.log", "127.0.0.1:1", "--state.password_file", "/nowhere/x"],
             "state.password_file: /nowhere/x: No such file or directory")):
        result = subprocess.run([CAIRN, "serve", "--model", DEMO, "--listen", "127.0.0.1:0", *flags], text=True,
                                capture_output=True, timeout=30)
        assert result.returncode in (1, 2) and says in result.stderr, result
