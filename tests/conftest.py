"""Fixtures of the tests that talk to a running `cairn serve`.

CN_BASE_URL names a server that runs already; otherwise the tests start one from CN_BUILD (default
`build`) with the demo model on a free port of the loopback, and end it when they are done; with CN_TRANSPORT=dpdk
on a network port of its own (tests/dataplane/test_suites.py). Tests that
need a server of their own (other limits, API keys) take the fixture `start_server`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.dataplane import links

ROOT = Path(__file__).resolve().parent.parent
# Private Redis servers of whatever is started without saying where go here, and not to the user's place.
_STATE = tempfile.TemporaryDirectory(prefix="cairn-test-")
os.environ["XDG_STATE_HOME"] = _STATE.name
MODEL_DIR = Path(os.environ.get("CN_MODEL", ROOT / "deploy/demo/model"))
START_S = 60.0


class Server:
    """One `cairn serve` process, its base URL and its log."""

    def __init__(self, flags: dict[str, str]) -> None:
        program = Path(os.environ.get("CN_BUILD", ROOT / "build")) / "cairn"
        self.log = tempfile.NamedTemporaryFile("w+", prefix="cairn-test-", suffix=".log")
        link = links.link()
        command = [*link.prefix, str(program), "serve", "--model", str(MODEL_DIR), *link.serve_flags()]
        self.state = tempfile.TemporaryDirectory(prefix="cairn-test-")
        if "state.store" not in flags:
            flags = {"state.directory": self.state.name} | flags
        for name, value in flags.items():
            command += [f"--{name}", value]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.url = self._wait_for_address(re.escape(link.server))

    def _wait_for_address(self, address: str) -> str:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            text = Path(self.log.name).read_text()
            found = re.search(rf"(?:addr|address|listen|url)=\"?(?:http://)?({address}:[1-9]\d*)", text)
            if found and self._is_ready(f"http://{found[1]}"):
                return f"http://{found[1]}"
            if self.process.poll() is not None:
                raise RuntimeError(f"cairn serve ended with {self.process.returncode}:\n{text}")
            time.sleep(0.05)
        self.process.kill()
        raise RuntimeError(f"cairn serve was not ready within {START_S} s:\n{text}")

    @staticmethod
    def _is_ready(url: str) -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def log_text(self) -> str:
        return Path(self.log.name).read_text()

    def drain(self, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        self.state.cleanup()


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """A server with every setting at its default."""
    given = os.environ.get("CN_BASE_URL")
    if given:
        yield given.rstrip("/")
        return
    server = Server({})
    yield server.url
    status, text = server.drain(), server.log_text()
    server.close()
    assert status == 0, text[-4000:]


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts servers with other settings: start_server({"limits.choices": "2"})."""
    servers: list[Server] = []

    def start(flags: dict[str, str]) -> Server:
        servers.append(Server(flags))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
        assert server.process.returncode == 0


@pytest.fixture(scope="session")
def http(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def model(http: httpx.Client) -> str:
    """The name of the served model."""
    return http.get("/v1/models").json()["data"][0]["id"]


def metric(base_url: str, name: str) -> float:
    """The value of one series of /metrics, as `name{labels}`."""
    for line in httpx.get(f"{base_url}/metrics", timeout=10).text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    raise KeyError(name)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Polls until the condition holds; false if it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
