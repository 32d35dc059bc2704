"""A real Prometheus (Debian's) on the loopback, which scrapes what it is told to and forgets all at the end."""
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
RULES = [TOP / "deploy/prometheus/recording.yml", TOP / "deploy/prometheus/alerts.yml"]


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def api(self, path: str, **arguments: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}", timeout=60) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict]:
        return self.api("query", query=expression)["result"]

    def value(self, expression: str) -> float:
        found = self.query(expression)
        assert len(found) == 1, f"{expression}: {len(found)} results"
        return float(found[0]["value"][1])

    def wait_for(self, expression: str, least: int = 1, seconds: float = 120) -> None:
        """Until the query has so many results."""
        end = time.monotonic() + seconds
        while len(self.query(expression)) < least:
            assert time.monotonic() < end, f"{expression} has no {least} results: {self.api('targets')['activeTargets']}"
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def prometheus(target: str, feature: str) -> Iterator[Prometheus]:
    """Scrapes `target` (host:port) every second under Cairn's names and vLLM's, and evaluates Cairn's rules as often."""
    with tempfile.TemporaryDirectory(prefix="cairn-test-") as directory:
        for path in RULES:
            lines = path.read_text().splitlines()
            lines = [l.split("interval:")[0] + "interval: 1s" if l.strip().startswith("interval:") else l for l in lines]
            Path(directory, path.name).write_text("\n".join(lines))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [path.name for path in RULES],
            "scrape_configs": [
                {"job_name": "cairn", "static_configs": [{"targets": [target]}]},
                {"job_name": "vllm", "params": {"names": ["vllm"]}, "static_configs": [{"targets": [target]}]}]}
        Path(directory, "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        with open(Path(directory, "log"), "w+") as log:
            process = subprocess.Popen(
                [shutil.which("prometheus"), f"--config.file={directory}/prometheus.yml",
                 f"--storage.tsdb.path={directory}/data", f"--web.listen-address={address}", f"--enable-feature={feature}"],
                stdout=log, stderr=log)
            found = Prometheus(f"http://{address}")
            try:
                wait_until_ready(found, process, Path(directory, "log"))
                yield found
            finally:
                process.terminate()
                process.wait(60)


def wait_until_ready(found: Prometheus, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{found.url}/-/ready", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
