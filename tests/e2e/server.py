"""A running `cairn serve`, for tests: started on a free port, ended with SIGTERM, and checked afterwards."""
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CAIRN = TOP / os.environ.get("CN_BUILD", "build") / "cairn"
DEMO = TOP / "deploy/demo/model"


class Server:
    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.process = process
        self.url = url
        self.killed = False

    def kill(self) -> None:
        """kill -9, as the test means it."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def metric(self, series: str) -> float:
        """Value of one series of /metrics, named with its labels."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get("/metrics"), re.M)
        assert found, f"/metrics has no {series}"
        return float(found.group(1))

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


@contextlib.contextmanager
def serve(*flags: str, model: Path = DEMO) -> Iterator[Server]:
    assert CAIRN.exists(), f"{CAIRN} is not built; run tests/run"
    state = tempfile.TemporaryDirectory(prefix="cairn-test-")
    process = subprocess.Popen([CAIRN, "serve", "--model", model, "--listen", "127.0.0.1:0",
                                "--log.level", "warn", "--state.directory", state.name, *flags],
                               stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.match(r"listening on (\S+)", line)
    assert found, f"the server did not start (exit code {process.wait()})"
    server = Server(process, f"http://{found.group(1)}")
    try:
        yield server
        assert server.killed or process.poll() is None, f"the server ended with {process.returncode}"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        process.stdout.close()
        state.cleanup()
    assert code == (-signal.SIGKILL if server.killed else 0), f"the server ended with {code}"
