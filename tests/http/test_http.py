"""HTTP over real sockets: tests/http/echo_server under clients that are polite, odd, slow, and gone.
CN_TRANSPORT=dpdk: the server has a port of its own (tests/dataplane/test_suites.py).

Needs pytest and curl, and a build: CN_BUILD names its directory (default: build).
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = ROOT / os.environ.get("CN_BUILD", "build") / "echo_server"

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import malformed  # noqa: E402

from tests.dataplane import links  # noqa: E402

GET = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    def __init__(self, *arguments: str, file_max: int | None = None, family: int = 4):
        def limit_files() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (file_max, file_max))
        self.link = links.link(family)
        self.process = subprocess.Popen([*self.link.prefix, SERVER, *self.link.echo_flags(), *arguments],
                                        stdout=subprocess.PIPE, text=True,
                                        preexec_fn=limit_files if file_max else None)
        self.address = self.process.stdout.readline().strip()
        host, port = self.address.rsplit(":", 1)
        self.endpoint = (host.strip("[]"), int(port))

    def connect(self, timeout_s: float = 20) -> socket.socket:
        return socket.create_connection(self.endpoint, timeout_s)

    def curl(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["curl", "-sS", "--max-time", "20", *arguments],
                              capture_output=True, text=True)

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def metric(self, series: str) -> int:
        text = self.curl(self.url("/metrics")).stdout
        return int(re.search(rf"^{re.escape(series)} ([0-9]+)$", text, re.M)[1])

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def server(*arguments: str, file_max: int | None = None, family: int = 4) -> Iterator[Server]:
    one = Server(*arguments, file_max=file_max, family=family)
    try:
        yield one
        assert one.process.poll() is None, "the server has died"
        assert one.end() == 0
    finally:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with server() as one:
        yield one


def until(done: Callable[[], bool], what: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


def read_all(connection: socket.socket) -> bytes:
    out = b""
    while got := connection.recv(1 << 20):
        out += got
    return out


def read_answer(connection: socket.socket) -> bytes:
    """One answer with Content-Length; its body."""
    out = b""
    while b"\r\n\r\n" not in out:
        got = connection.recv(1 << 16)
        assert got, out
        out += got
    head, body = out.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"Content-Length: ([0-9]+)", head)[1])
    while len(body) < length:
        body += connection.recv(1 << 20)
    assert len(body) == length
    return body


# ---- curl --------------------------------------------------------------------------------------

def test_get(echo: Server) -> None:
    done = echo.curl("-i", echo.url("/a/b?c=d"))
    head, body = done.stdout.replace("\r", "").split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert re.fullmatch(r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", lines[1])
    got = json.loads(body)
    assert (got["method"], got["path"], got["query"], got["body"]) == ("GET", "/a/b", "c=d", "")
    assert ["host", echo.address] in got["headers"]
    assert got["peer"].startswith(f"{echo.link.client}:")


def test_http10(echo: Server) -> None:
    done = echo.curl("--http1.0", "-v", echo.url("/x"), echo.url("/y"))
    assert [json.loads(text)["path"] for text in re.findall(r"\{.*?\}", done.stdout)] == ["/x", "/y"]
    assert done.stderr.count("< Connection: close") == 2


def test_connection_is_used_again(echo: Server) -> None:
    done = echo.curl("-v", "-d", "first", echo.url("/x"), "--next", "-sS", echo.url("/y"))
    assert "Re-using existing connection" in done.stderr
    assert [json.loads(text)["body"] for text in re.findall(r"\{.*?\}", done.stdout)] == ["first", ""]


def test_head_and_options(echo: Server) -> None:
    done = echo.curl("-v", "-I", echo.url("/x"), "--next", "-sS", "-X", "OPTIONS",
                     "--request-target", "*", echo.url("/"))
    assert "Re-using existing connection" in done.stderr
    assert '"method":"OPTIONS","path":"*"' in done.stdout
    assert '"method":"HEAD"' not in done.stdout          # the answer has a length and no body
    assert re.search(r"Content-Length: [1-9]", done.stdout)


@pytest.mark.parametrize("headers", [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:"],
                                     ["-H", "Expect: 100-continue"]])
def test_upload(echo: Server, tmp_path: pathlib.Path, headers: list[str]) -> None:
    text = "".join(f"{i}," for i in range(600_000))
    (tmp_path / "body").write_text(text)
    done = echo.curl("-v", *headers, "-H", "Content-Type: text/plain", "--data-binary",
                     f"@{tmp_path / 'body'}", echo.url("/up"))
    assert json.loads(done.stdout)["body"] == text
    if "Expect: 100-continue" in headers:
        assert "< HTTP/1.1 100 Continue" in done.stderr
    if "Expect:" in headers:
        assert "100 Continue" not in done.stderr


def test_body_above_the_limit(echo: Server, tmp_path: pathlib.Path) -> None:
    (tmp_path / "body").write_bytes(b"b" * (8388608 + 1))
    for headers in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
        done = echo.curl("-v", *headers, "--data-binary", f"@{tmp_path / 'body'}", echo.url("/up"))
        assert json.loads(done.stdout)["error"]["code"] == "body_too_large", done.stderr
        assert "< HTTP/1.1 413 " in done.stderr
        assert "< HTTP/1.1 100 " not in done.stderr or "chunked" in headers[-1]


def test_unknown_expectation(echo: Server) -> None:
    done = echo.curl("-i", "-H", "Expect: magic", "-d", "x", echo.url("/up"))
    assert done.stdout.startswith("HTTP/1.1 417 ")


def test_stream(echo: Server) -> None:
    done = echo.curl("-N", "-v", echo.url("/stream?chunks=1000&bytes=33"), echo.url("/ok"))
    assert done.stdout == "x" * 33000 + "ok"
    assert "< Transfer-Encoding: chunked" in done.stderr
    assert echo.curl("--http1.0", echo.url("/stream?chunks=100&bytes=7")).stdout == "x" * 700


def test_ipv6() -> None:
    with server(family=6) as one:
        assert one.address.startswith(f"[{one.link.server}]:")
        assert json.loads(one.curl("-g", one.url("/x")).stdout)["peer"].startswith(f"[{one.link.client}]:")


# ---- many and odd clients ----------------------------------------------------------------------

def test_pipeline(echo: Server) -> None:
    with echo.connect() as connection:
        count = 2000
        pipeline = b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % i
                            for i in range(count))
        sender = threading.Thread(target=connection.sendall, args=(pipeline,))
        sender.start()
        out = b""
        while out.count(b'"body":"abc"}') < count:
            got = connection.recv(1 << 16)
            assert got
            out += got
        sender.join()
        assert [int(n) for n in re.findall(rb'"path":"/([0-9]+)"', out)] == list(range(count))


def test_many_streams(echo: Server) -> None:
    connections = [echo.connect() for _ in range(64)]
    for i, connection in enumerate(connections):
        connection.sendall(b"GET /stream?chunks=500&bytes=%d HTTP/1.1\r\nHost: a\r\n"
                           b"Connection: close\r\n\r\n" % (i + 1))
    for i, connection in enumerate(connections):
        body = read_all(connection).split(b"\r\n\r\n", 1)[1]
        assert body == (b"%x\r\n" % (i + 1) + b"x" * (i + 1) + b"\r\n") * 500 + b"0\r\n\r\n"
        connection.close()


def test_vanished_clients_are_forgotten(echo: Server) -> None:
    connections = [echo.connect() for _ in range(20)]
    for i, connection in enumerate(connections):
        path = b"/hang" if i % 2 else b"/stream?chunks=1000000000&bytes=10"
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    until(lambda: echo.metric("cairn_connections") >= 20, "connecting")
    for connection in connections:
        connection.close()
    until(lambda: echo.metric("cairn_connections") == 1, "forgetting")       # the one that asks


def test_slow_reader_is_dropped_alone() -> None:
    with server("--limit", "http_output_bytes=65536", "--pace-us", "50") as one:
        slow = one.connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /stream?chunks=1000000000&bytes=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        series = 'cairn_connections_dropped_total{reason="slow_reader"}'
        until(lambda: one.metric(series) == 1, "dropping")
        assert one.curl(one.url("/stream?chunks=10&bytes=10")).stdout == "x" * 100
        slow.close()


def test_times() -> None:
    with server("--limit", "http_receive_ms=300", "--limit", "http_idle_ms=700") as one:
        start = time.monotonic()
        silent, sending, used = one.connect(), one.connect(), one.connect()
        sending.sendall(b"GET /ok HTTP/1.1\r\n")
        used.sendall(GET)
        assert read_answer(used) == b"ok"
        assert read_all(sending).startswith(b"HTTP/1.1 408 ")
        assert 0.3 <= time.monotonic() - start < 0.65
        assert read_all(silent) == b"" and read_all(used) == b""
        assert 0.7 <= time.monotonic() - start < 5


def test_idle_costs_nothing() -> None:
    with server() as one:
        connections = [one.connect() for _ in range(300)]
        for connection in connections:
            connection.sendall(GET)
        for connection in connections:
            assert read_answer(connection) == b"ok"
        before = one.cpu_seconds()
        time.sleep(2)
        assert one.cpu_seconds() - before <= 0.01          # half a percent of a core
        for connection in connections:
            connection.close()


def wait_in_line(one: Server) -> bytes:
    with one.connect() as connection:
        connection.sendall(GET)
        return read_answer(connection)


def check_waiting_clients(one: Server, count: int, seats: int) -> None:
    """`seats` of the clients are served, the others wait at no cost and follow."""
    connections = [one.connect() for _ in range(seats)]
    for connection in connections:
        connection.sendall(GET)
        assert read_answer(connection) == b"ok"
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(wait_in_line, one) for _ in range(count - seats)]
        time.sleep(0.2)                          # they have asked
        before = one.cpu_seconds()
        time.sleep(1)
        assert one.cpu_seconds() - before <= 0.05
        for connection in connections:
            connection.close()
        assert [client.result() for client in waiting] == [b"ok"] * (count - seats)


def test_more_clients_than_places() -> None:
    with server("--limit", "connections=8") as one:
        check_waiting_clients(one, 20, 8)


@pytest.mark.skipif(links.TRANSPORT != "kernel", reason="only sockets are descriptors")
def test_more_clients_than_descriptors() -> None:
    with server(file_max=30) as one:
        check_waiting_clients(one, 40, 10)


def test_drain() -> None:
    one = Server("--pace-us", "1000")
    with one.connect() as streaming, one.connect() as idle:
        streaming.sendall(b"GET /stream?chunks=300&bytes=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert streaming.recv(15) == b"HTTP/1.1 200 OK"
        one.process.send_signal(signal.SIGTERM)
        assert read_all(idle) == b""
        assert read_all(streaming).count(b"1\r\nx\r\n") == 300
        # Once a process with a port of its own has gone, nobody is there to refuse.
        with pytest.raises(ConnectionRefusedError if links.TRANSPORT == "kernel" else OSError):
            one.connect(timeout_s=1)
        assert one.process.wait(10) == 0


def test_malformed_requests() -> None:
    wait = str(malformed.TIMEOUT_MS)
    with server("--limit", f"http_receive_ms={wait}", "--limit", f"http_idle_ms={wait}") as one:
        seed = int(os.environ.get("CN_SEED", "1"), 0)
        complaints = malformed.attack(one.address, 10000, seed)
        assert not complaints, f"CN_SEED={seed}: {len(complaints)} complaints, first: {complaints[0]}"
        assert one.curl(one.url("/ok")).stdout == "ok"
        until(lambda: one.metric("cairn_connections") == 1, "closing everything")
