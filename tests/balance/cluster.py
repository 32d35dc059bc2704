"""Two appliances on one Redis behind a real HAProxy or nginx, whose shipped configuration gets the addresses of
this machine and nothing else."""
import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.state.redis import DURABLE, MORTAL, Redis, free_ports

TOP = Path(__file__).resolve().parents[2]
CAIRN = TOP / os.environ.get("CN_BUILD", "build") / "cairn"
DEMO = TOP / "deploy/demo/model"
START_S = 120


def until(condition: Callable[[], object], what: str, timeout_s: float = 120) -> object:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.005)
    return found


def get(port: int, path: str, prefix: bytes = b"") -> tuple[int, str]:
    """`prefix` goes in front of the request: a PROXY header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.connect()
        connection.sock.sendall(prefix)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@dataclass
class Node:
    """One appliance, which can be drained, killed and started again at the same address."""
    name: str
    port: int
    agent: int
    directory: Path
    flags: list[str]
    prefix: bytes
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def start(self) -> None:
        self.log = self.directory / f"{self.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*MORTAL, CAIRN, "serve", "--model", DEMO, "--listen", f"127.0.0.1:{self.port}",
                 "--agent.listen", f"127.0.0.1:{self.agent}", "--run_directory", self.directory, *self.flags],
                stdout=subprocess.DEVNULL, stderr=log)
        until(self.is_ready, f"{self.name} does not start: {self.log.read_text()[-2000:]}", START_S)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            return get(self.port, "/readyz", self.prefix)[0] == 200
        except OSError:
            return False

    def metric(self, series: str) -> float:
        text = get(self.port, "/metrics", self.prefix)[1]
        return float(re.search(rf"^{re.escape(series)} (\S+)$", text, re.M).group(1))

    def drain(self) -> float:
        """SIGTERM; when it was sent."""
        sent = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return sent

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def pair(*flags: str, prefix: bytes = b"") -> Iterator[list[Node]]:
    """Two appliances that are ready; ended, and looked at for what must not be, afterwards."""
    with Redis(*DURABLE) as log, Redis("--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy",
                                       "allkeys-lfu") as pages, \
            tempfile.TemporaryDirectory(prefix="cairn-test-") as place:
        log.wait()
        pages.wait()
        # A machine that is busy with other things must not look like a store that is away.
        common = ["--state.store", "redis", "--state.log", log.address, "--state.pages", pages.address,
                  "--limits.store_ms", "30000", "--state.timeout_ms", "20000", "--state.page_timeout_ms", "10000",
                  "--cpu.threads", "1", "--drain.seconds", "120", *flags]
        ports = free_ports(4)
        nodes = [Node(name, ports[i], ports[2 + i], Path(place), common, prefix) for i, name in enumerate("ab")]
        try:
            for node in nodes:
                node.start()
            yield nodes
        finally:
            for node in nodes:
                node.end()
                if node.log.exists():
                    text = node.log.read_text()
                    assert "level=error" not in text and "assert" not in text.lower(), text[-4000:]


class Balancer:
    """A load balancer with a shipped configuration in which exactly the named texts are replaced."""

    def __init__(self, source: Path, changes: dict[str, str], port: int) -> None:
        self.port, self.directory = port, Path(tempfile.mkdtemp(prefix="cairn-test-"))
        text = source.read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, f"{source} has {old!r} {text.count(old)} times"
            text = text.replace(old, new.replace("DIRECTORY", str(self.directory)))
        (self.directory / "config").write_text(text)
        self.log = (self.directory / "log").open("w+")
        self.process = subprocess.Popen([*MORTAL, *self.command()], stdout=self.log, stderr=self.log)
        until(self.listens, "the load balancer does not listen")

    def command(self) -> list[str | Path]:
        raise NotImplementedError

    def listens(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def log_text(self) -> str:
        return (self.directory / "log").read_text()

    def __enter__(self) -> "Balancer":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.directory)


class Haproxy(Balancer):
    def __init__(self, nodes: list[Node], *options: str) -> None:
        (port,) = free_ports(1)
        more = " ".join(("", *options))
        changes = {"/run/haproxy/admin.sock": "DIRECTORY/admin", "bind :8080": f"bind 127.0.0.1:{port}",
                   # Which server has answered, for the tests.
                   "    default_backend cairn\n": "    default_backend cairn\n"
                                                  "    http-response set-header X-Server %s\n"}
        for node, address in zip(nodes, ("192.0.2.11", "192.0.2.12")):
            changes[f"{address}:8000 agent-addr {address} agent-port 8001"] = (
                f"127.0.0.1:{node.port} agent-addr 127.0.0.1 agent-port {node.agent}{more}")
        super().__init__(TOP / "deploy/haproxy/haproxy.cfg", changes, port)
        until(lambda: all(self.state(node.name) == "UP" for node in nodes), "the servers do not come up")

    def command(self) -> list[str | Path]:
        return ["haproxy", "-db", "-f", self.directory / "config"]

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(self.directory / "admin"))
            one.sendall(command.encode() + b"\n")
            text = b""
            while piece := one.recv(65536):
                text += piece
        return text.decode()

    def state(self, name: str) -> str:
        """UP, DRAIN, DOWN, ... as its statistics say."""
        lines = self.ask("show stat").splitlines()
        fields = lines[0].removeprefix("# ").split(",")
        row = next(line.split(",") for line in lines if line.startswith(f"cairn,{name},"))
        return row[fields.index("status")].split(" ")[0]


class Nginx(Balancer):
    def __init__(self, nodes: list[Node]) -> None:
        (port,) = free_ports(1)
        changes = {"listen 8080;": f"listen 127.0.0.1:{port};\n    access_log off;\n"
                                   "    add_header X-Server $upstream_addr always;"}
        for node, address in zip(nodes, ("192.0.2.11:8000", "192.0.2.12:8000")):
            changes[f"server {address}"] = f"server 127.0.0.1:{node.port}"
        super().__init__(TOP / "deploy/nginx/cairn.conf", changes, port)

    def command(self) -> list[str | Path]:
        """The http block around the shipped file, with everything that nginx writes in our directory."""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = " ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
        outer = self.directory / "nginx.conf"
        outer.write_text(f"daemon off; user root; pid {self.directory}/pid; error_log stderr warn; events {{}}\n"
                         f"http {{ {places} include {self.directory}/config; }}\n")
        return ["nginx", "-c", outer]
