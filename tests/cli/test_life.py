"""From start to drain: what a service manager sees."""
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .program import DEMO, Server, refuses

LONG = {"prompt": "Hi!", "max_tokens": 1900, "ignore_eos": True, "temperature": 1}


def post(server: Server, body: dict, key: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.address, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    return connection.getresponse()


def get(server: Server, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def keep_busy(server: Server) -> None:
    """Some seconds of work, whose end nobody waits for."""
    def ask() -> None:
        try:
            post(server, LONG | {"n": 8}).read()
        except (OSError, http.client.HTTPException):
            pass
    for _ in range(6):
        threading.Thread(target=ask, daemon=True).start()
    end = time.monotonic() + 10
    while not re.search(r"^cairn_sequences_running [1-9]", get(server, "/metrics")[1], re.M):
        assert time.monotonic() < end, "the work does not begin"
        time.sleep(0.01)


def test_start_is_quick_and_said() -> None:
    with Server() as server:
        assert get(server, "/readyz")[0] == 200
        server.signal(signal.SIGTERM)
        code, log = server.end()
        assert code == 0 and "event=drained" in log
        ready = re.search(rf"event=ready addr={re.escape(server.address)} model=model backend=cpu .*start_ms=(\d+)", log)
        # A second is what an idle machine is promised; tests run on busy ones.
        assert ready and int(ready.group(1)) < 5000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(number: int) -> None:
    with Server() as server:
        idle = socket.create_connection(tuple(server.address.split(":")))    # says nothing
        start = time.monotonic()
        server.signal(number)
        assert server.end()[0] == 0
        assert time.monotonic() - start < 5
        idle.close()


def test_after_drain_seconds_answers_are_cut() -> None:
    with Server("--drain.seconds", "0") as server:
        keep_busy(server)
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        code, log = server.end()
        assert code == 0 and time.monotonic() - start < 5
        assert "event=drain_limit" in log


@pytest.mark.parametrize("second, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once(second: int, code: int) -> None:
    with Server() as server:
        keep_busy(server)
        server.signal(signal.SIGTERM)
        time.sleep(0.1)
        start = time.monotonic()
        server.signal(second)
        assert server.end()[0] == code
        assert time.monotonic() - start < 2


def test_a_port_in_use_has_failed() -> None:
    with Server() as server:
        told = refuses("serve", "--model", DEMO, "--listen", server.address, code=1)
        assert server.address in told and "in use" in told


def test_an_idle_server_costs_nothing() -> None:
    def processor_s(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with Server() as server:
        post(server, {"prompt": "Hi!", "max_tokens": 8}).read()
        time.sleep(0.2)
        before = processor_s(server.process.pid)
        time.sleep(3)
        assert processor_s(server.process.pid) - before <= 0.03


def test_a_client_that_goes_does_not_hurt() -> None:
    """Writing to a connection that is gone must not end the process (SIGPIPE)."""
    with Server() as server:
        for _ in range(5):
            answer = post(server, LONG | {"stream": True})
            answer.readline()
            answer.fp.raw._sock.shutdown(socket.SHUT_RDWR)
            answer.close()
        assert get(server, "/livez")[0] == 200
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_api_keys_of_the_configuration_hold(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("api_keys: [right]\n")
    with Server("--config", str(path)) as server:
        body = {"prompt": "Hi!", "max_tokens": 1}
        assert post(server, body).status == 401
        assert post(server, body, "wrong").status == 401
        assert post(server, body, "right").status == 200
        assert get(server, "/readyz")[0] == 200
        server.signal(signal.SIGTERM)
        _, log = server.end()
        assert "right" not in log and "wrong" not in log


def test_settings_reach_the_rooms() -> None:
    with Server("--model_name", "it", "--engine.context_tokens", "64", "--cpu.threads", "1",
                env={"CAIRN_LIMITS_CHOICES": "2"}) as server:
        assert json.loads(get(server, "/v1/models")[1])["data"][0]["id"] == "it"
        refused = json.loads(post(server, {"prompt": "Hi!", "n": 3}).read())["error"]["message"]
        assert "n: 3" in refused and "2" in refused
        refused = json.loads(post(server, {"prompt": "Hi! " * 100}).read())["error"]
        assert refused["code"] == "context_length_exceeded" and "64" in refused["message"]
        server.signal(signal.SIGTERM)
        _, log = server.end()
        assert re.search(r"event=ready .* model=it .* context_tokens=64 ", log), log


def test_a_quiet_log_is_quiet() -> None:
    with Server("--log.level", "off") as server:
        post(server, {"prompt": "Hi!", "max_tokens": 1}).read()
        server.signal(signal.SIGTERM)
        assert server.end() == (0, "")
