"""The TCP stack and others: the kernel's under curl and wrk, with windows that are as small as it allows, HAProxy as
a client, and a wire that loses what nftables says. tests/http/echo_server is in one network namespace, they are
in the other."""
from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataplane.namespaces import SERVER_ADDRESS, SERVER_ADDRESS6, Pair, pair, run

TOP = Path(__file__).resolve().parents[2]
SERVER = TOP / os.environ.get("CN_BUILD", "build") / "echo_server"
PORT = 8000
URLS = [f"http://{SERVER_ADDRESS}:{PORT}", f"http://[{SERVER_ADDRESS6}]:{PORT}"]
BODY_BYTES = 300_000


class Network:
    def __init__(self, namespaces: Pair, directory: Path) -> None:
        self.pair = namespaces
        self.directory = directory

    def client(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.pair.inside(self.pair.client, *command), capture_output=True, text=True,
                              timeout=120, **options)

    def curl(self, *arguments: str) -> str:
        done = self.client("curl", "-sS", "-f", "--max-time", "60", *arguments)
        assert done.returncode == 0, f"curl {arguments}: {done.stderr}"
        return done.stdout

    def download(self, url: str, chunks: int = 100, chunk_bytes: int = 5000) -> None:
        text = self.curl(f"{url}/stream?chunks={chunks}&bytes={chunk_bytes}")
        assert len(text) == chunks * chunk_bytes and set(text) == {"x"}

    def upload(self, url: str) -> None:
        body = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(BODY_BYTES // 64))
        path = self.directory / "body"
        path.write_text(body)
        answer = self.curl("--data-binary", f"@{path}", "-H", "Content-Type: text/plain", "-H", "Expect:", url + "/x")
        assert answer.endswith(f'"body":"{body}"}}'), f"{len(answer)} bytes came back"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with pair("i") as namespaces:
        server = subprocess.Popen(
            namespaces.inside(namespaces.server, str(SERVER), "--address", f"[::]:{PORT}", "--dpdk-device",
                              f"net_af_packet0,iface={namespaces.server_end}", "--dpdk-address",
                              f"{SERVER_ADDRESS}/24", "--dpdk-address6", f"{SERVER_ADDRESS6}/64"),
            stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout.readline().strip() == f"[::]:{PORT}"
            yield Network(namespaces, tmp_path_factory.mktemp("interop"))
            assert server.poll() is None, "the server has died"
            server.terminate()
            assert server.wait(20) == 0
        finally:
            server.kill()
            server.wait()


@pytest.mark.parametrize("url", URLS)
def test_bytes_are_the_same_both_ways(network: Network, url: str) -> None:
    network.download(url)
    network.upload(url)


def test_tiny_windows(network: Network) -> None:
    """The kernel's smallest receive buffer: a window of a few hundred bytes, closed again and again."""
    inside = network.pair.inside(network.pair.client, "sysctl", "-qw")
    before = run(*network.pair.inside(network.pair.client, "sysctl", "-n", "net.ipv4.tcp_rmem")).strip()
    run(*inside, "net.ipv4.tcp_rmem=2304 2304 2304")
    try:
        for url in URLS:
            network.download(url, chunks=30, chunk_bytes=3000)
            network.upload(url)
    finally:
        run(*inside, f"net.ipv4.tcp_rmem={before}")


def test_many_requests_at_once(network: Network) -> None:
    done = network.client("wrk", "-t1", "-c200", "-d2s", URLS[0] + "/ok")
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 200, done.stdout
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout


def test_a_connection_for_each_request(network: Network) -> None:
    """The server closes, so TIME_WAIT is here, and the client's ports come round."""
    inside = network.pair.inside(network.pair.client, "sysctl", "-qw")
    run(*inside, "net.ipv4.ip_local_port_range=40000 40063")
    try:
        script = 'for i in $(seq 80); do curl -sS -f -H "Connection: close" "$0" || exit 1; done'
        done = network.client("sh", "-c", script, URLS[0] + "/ok")
        assert done.returncode == 0 and done.stdout == "ok" * 80, done.stderr
    finally:
        run(*inside, "net.ipv4.ip_local_port_range=32768 60999")


def test_haproxy_as_client(network: Network) -> None:
    assert shutil.which("haproxy"), "haproxy is missing; deploy/packages test installs it"
    configuration = network.directory / "haproxy.cfg"
    configuration.write_text(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option http-keep-alive
    http-reuse always
frontend in
    bind 127.0.0.1:9000
    default_backend cairn
backend cairn
    option httpchk GET /ok
    server v4 {SERVER_ADDRESS}:{PORT} check inter 200ms
    server v6 [{SERVER_ADDRESS6}]:{PORT} check inter 200ms
""")
    proxy = subprocess.Popen(network.pair.inside(network.pair.client, "haproxy", "-db", "-f", str(configuration)),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + 20
        while network.client("curl", "-sSf", "http://127.0.0.1:9000/ok").returncode:
            assert time.monotonic() < end and proxy.poll() is None, "HAProxy does not serve"
        network.download("http://127.0.0.1:9000")
        network.upload("http://127.0.0.1:9000")
        done = network.client("wrk", "-t1", "-c20", "-d2s", "http://127.0.0.1:9000/ok")
        assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
    finally:
        proxy.kill()
        proxy.communicate()


@pytest.mark.parametrize("lost", [1, 5])
def test_a_wire_that_loses(network: Network, lost: int) -> None:
    """`lost` of a hundred frames, in both directions."""
    ends = [(network.pair.server, network.pair.server_end), (network.pair.client, network.pair.client_end)]
    for name, end in ends:
        run(*network.pair.inside(name, "nft", "add", "table", "netdev", "lossy"))
        run(*network.pair.inside(name, "nft", "add", "chain", "netdev", "lossy", "in",
                                 f"{{ type filter hook ingress device {end} priority 0; }}"))
        run(*network.pair.inside(name, "nft", "add", "rule", "netdev", "lossy", "in", "numgen", "random", "mod",
                                 "100", "<", str(lost), "counter", "drop"))
    try:
        for url in URLS:
            network.download(url)
            network.upload(url)
        for name, _ in ends:
            counted = run(*network.pair.inside(name, "nft", "list", "table", "netdev", "lossy"))
            assert int(re.search(r"packets (\d+)", counted)[1]) > 0, counted
    finally:
        for name, _ in ends:
            run(*network.pair.inside(name, "nft", "delete", "table", "netdev", "lossy"))
