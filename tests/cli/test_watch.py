"""What a service manager and a load balancer are told of a server's life: sd_notify, the watchdog that the
slowest thread feeds, reload, `cairn drain`, and HAProxy's agent-check."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .program import CAIRN, DEMO, Server, environment, refuses, run

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000
WORK = {"prompt": "Hi!", "max_tokens": 1900, "ignore_eos": True, "n": 8}


class Manager:
    """A systemd that listens: what it was told, in order."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path[0] == "@" else path)
        self.told: list[tuple[float, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            message = self.socket.recv(4096).decode()
            self.told.append((time.monotonic(), message))

    def count(self, message: str) -> int:
        return sum(text == message for _, text in list(self.told))

    def wait(self, pattern: str, timeout_s: float = 60) -> str:
        return until(lambda: next((t for _, t in list(self.told) if re.search(pattern, t)), None), timeout_s)


def until(condition, timeout_s: float = 60):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)
    return found


def get(server: Server, path: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def metric(server: Server, name: str) -> int:
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", "/metrics")
    return int(re.search(rf"^{name} (\d+)", connection.getresponse().read().decode(), re.M).group(1))


def keep_busy(server: Server) -> None:
    def ask() -> None:
        connection = http.client.HTTPConnection(server.address, timeout=600)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/completions", json.dumps(WORK), {"Content-Type": "application/json"})
            connection.getresponse().read()
    for _ in range(8):
        threading.Thread(target=ask, daemon=True).start()
    until(lambda: metric(server, "cairn_sequences_running"))


def agent_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def agent_says(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        one.sendall(b"agent-send may say something\n")
        text = b""
        while piece := one.recv(100):
            text += piece
    return text.decode()


def thread_id(pid: int, name: str) -> int:
    """The thread with this name; for "device" the busiest of those that have none of their own."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        called, fields = re.fullmatch(r"\d+ \((.*)\) (.*)\n", path.read_text()).groups()
        is_unnamed = called == "cairn" and path.parent.name != str(pid)
        if called == name or (name == "device" and is_unnamed):
            found.append((int(fields.split()[11]), int(path.parent.name)))
    return max(found)[1]


@contextlib.contextmanager
def stopped(pid: int, thread: str) -> Iterator[None]:
    """Holds one thread of a process still, and no other, as a deadlock or a hanging system call would."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 3
    libc.ptrace.restype = ctypes.c_long
    tid = thread_id(pid, thread)
    done, ready, failed = threading.Event(), threading.Event(), []

    def hold() -> None:                  # the tracer is a thread, and must stay the same
        if libc.ptrace(PTRACE_SEIZE, tid, 0, 0) or libc.ptrace(PTRACE_INTERRUPT, tid, 0, 0):
            failed.append(os.strerror(ctypes.get_errno()))
        else:
            os.waitpid(tid, WALL)
        ready.set()
        done.wait()
        libc.ptrace(PTRACE_DETACH, tid, 0, 0)
    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    try:
        if failed:
            pytest.skip(f"one thread cannot be held still here: {failed[0]}")
        yield
    finally:
        done.set()
        holder.join()


def test_systemd_is_told_of_a_life(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    config = tmp_path / "c.yaml"
    config.write_text("drain: {seconds: 7}\n")
    with Server("--config", str(config), "--run_directory", str(tmp_path), env={
            "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}) as server:
        manager.wait(r"^READY=1\nSTATUS=ready$")
        until(lambda: manager.count("WATCHDOG=1") >= 3)
        server.signal(signal.SIGHUP)
        manager.wait(r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        until(lambda: manager.count("READY=1\nSTATUS=ready") == 2)
        config.write_text("drain: {seconds: -7}\n")
        server.signal(signal.SIGHUP)
        manager.wait(r"^READY=1\nSTATUS=.*drain.seconds: -7")
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert children
        for child in children:           # the private Redis servers must not speak for us
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0
        manager.wait(r"^STOPPING=1$")
        manager.wait(r"^EXTEND_TIMEOUT_USEC=\d+\nSTATUS=draining: 0 requests")


def test_an_abstract_socket_and_a_foreign_watchdog() -> None:
    manager = Manager(f"@cairn-test-{os.getpid()}")
    with Server(env={"NOTIFY_SOCKET": f"@cairn-test-{os.getpid()}", "WATCHDOG_USEC": "40000",
                     "WATCHDOG_PID": "1"}) as server:
        manager.wait("READY=1")
        time.sleep(0.5)
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0
        assert manager.count("WATCHDOG=1") == 0
    assert "NOTIFY_SOCKET: nonsense; must be" in refuses("serve", "--model", DEMO, "--listen", "127.0.0.1:0",
                                                         env={"NOTIFY_SOCKET": "nonsense"})


@pytest.mark.parametrize("thread", ["net", "api", "engine", "state"])
def test_a_thread_that_does_not_go_on_starves_the_watchdog(tmp_path: Path, thread: str) -> None:
    manager = Manager(str(tmp_path / "notify"))
    port = agent_port()
    with Server("--watchdog.stall_seconds", "1", "--agent.listen", f"127.0.0.1:{port}", env={
            "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}) as server:
        until(lambda: manager.count("WATCHDOG=1") >= 2)
        until(lambda: get(server, "/livez") == (200, {"live": True}))
        with stopped(server.process.pid, thread):
            manager.wait(rf"^STATUS=stalled: {thread}$")
            fed = manager.count("WATCHDOG=1")
            time.sleep(1)
            assert manager.count("WATCHDOG=1") == fed
            assert agent_says(port) == "maint\n"
            if thread in ("engine", "state"):        # the two others are what an answer needs
                assert get(server, "/livez") == (503, {"live": False, "stalled": thread})
                status, body = get(server, "/readyz")
                assert status == 503 and body["reasons"] == [f"stalled: the {thread} thread does not go on"]
        until(lambda: manager.count("WATCHDOG=1") > fed)
        until(lambda: get(server, "/livez")[0] == 200)
        until(lambda: agent_says(port) == "up ready 100%\n")
        server.signal(signal.SIGTERM)
        code, log = server.end()
        assert code == 0 and f"event=stalled thread={thread}" in log and f"event=goes_on thread={thread}" in log


def test_a_device_that_hangs_with_work_starves_the_watchdog(tmp_path: Path) -> None:
    """The engine thread goes on asking; it is the steps that do not become more."""
    manager = Manager(str(tmp_path / "notify"))
    with Server("--watchdog.stall_seconds", "1", "--cpu.threads", "1", env={
            "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}) as server:
        keep_busy(server)
        with stopped(server.process.pid, "device"):
            manager.wait(r"^STATUS=stalled: device$")
            fed = manager.count("WATCHDOG=1")
            time.sleep(1)
            assert manager.count("WATCHDOG=1") == fed
            assert get(server, "/livez") == (503, {"live": False, "stalled": "device"})
        until(lambda: get(server, "/livez")[0] == 200)
        server.signal(signal.SIGKILL)


def test_reload_takes_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("log: {level: warn}\n")
    with Server("--config", str(config), "--drain.seconds", "5", "--run_directory", str(tmp_path)) as server:
        config.write_text("log: {level: debug}\ndrain: {seconds: 9, notice_ms: 3}\nkv: {bytes: 64M}\n"
                          "watchdog: {stall_seconds: 40}\napi_keys: [sk-secret]\n")
        server.signal(signal.SIGHUP)
        lines = []                       # other events may come between
        while not lines or "reload_done" not in lines[-1]:
            event = server.process.stderr.readline().rstrip("\n").split(" ", 2)[2]
            lines += [event] if re.match("event=(reload|needs_restart)", event) else []
        assert lines == [
            "event=reloaded key=log.level value=debug", "event=needs_restart key=kv.bytes",
            "event=reloaded key=drain.notice_ms value=3", "event=reloaded key=watchdog.stall_seconds value=40",
            "event=needs_restart key=api_keys", "event=reload_done"]         # the flag for drain.seconds wins
        config.write_text("log: {level: loud}\n")
        server.signal(signal.SIGHUP)
        while "event=reload_failed" not in (event := server.process.stderr.readline()):
            assert event
        assert "loud" in event
        server.signal(signal.SIGTERM)
        code, log = server.end()
        assert code == 0 and "event=drained" in log and "sk-secret" not in log     # and the level stayed


def test_a_limit_of_the_drain_may_change_during_it(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("drain: {seconds: 3600}\n")
    with Server("--config", str(config), "--cpu.threads", "1", "--run_directory", str(tmp_path)) as server:
        keep_busy(server)
        server.signal(signal.SIGTERM)
        config.write_text("drain: {seconds: 0}\n")
        server.signal(signal.SIGHUP)
        code, log = server.end(120)
        assert code == 0 and "event=drain_limit" in log


def test_the_agent_tells_load_and_drain(tmp_path: Path) -> None:
    port = agent_port()
    with Server("--agent.listen", f"127.0.0.1:{port}", "--drain.notice_ms", "60000", "--engine.sequences", "2",
                "--cpu.threads", "1", "--run_directory", str(tmp_path)) as server:
        assert agent_says(port) == "up ready 100%\n"
        keep_busy(server)
        until(lambda: agent_says(port) == "up ready 1%\n")       # 64 sequences for 2 places
        with subprocess.Popen([CAIRN, "drain", "--wait", "--run_directory", tmp_path], env=environment(None),
                              stdout=subprocess.PIPE, text=True) as command:
            assert command.stdout.readline().startswith("draining: ")
            assert agent_says(port) == "drain\n"
            # Load balancers have not noticed yet: what comes is served, and told to go.
            connection = http.client.HTTPConnection(server.address, timeout=60)
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            assert answer.status == 200 and answer.headers["Connection"] == "close"
            status, body = get(server, "/readyz")
            assert status == 503 and body["status"] == "draining"
            server.signal(signal.SIGINT)                         # a second signal ends at once
            assert server.end()[0] == 130
            assert command.wait(60) == 1                         # and the command says that it was no drain


def test_an_agent_that_cannot_listen_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["serve", "--model", DEMO, "--listen", "127.0.0.1:0", "--agent.listen"]
        assert refuses(*flags, address, code=1) == f"agent.listen: {address}: Address already in use"
    for wrong in ("8001", "localhost:8001", "::1:8001", "[::1]", "127.0.0.1:"):
        assert refuses(*flags, wrong) == (f"agent.listen: {wrong}; must be IPv4:PORT or [IPv6]:PORT, such as "
                                          "127.0.0.1:8001")


def test_drain_finds_its_server(tmp_path: Path) -> None:
    directory = ["--run_directory", str(tmp_path)]
    assert "has no server that answers" in refuses("drain", *directory, code=1)
    with Server(*directory) as one, Server(*directory) as two, Server(*directory) as killed:
        told = refuses("drain", *directory)
        assert "--pid must name one of" in told and str(one.process.pid) in told and str(two.process.pid) in told
        killed.signal(signal.SIGKILL)
        killed.end()
        result = run("drain", "--wait", "--pid", str(two.process.pid), *directory, timeout_s=120)
        assert result.returncode == 0 and re.search(r"^drained in \d+ ms$", result.stdout, re.M), result
        assert two.process.wait(60) == 0
        result = run("drain", *directory, timeout_s=120)         # what was killed is no server
        assert result.returncode == 0 and result.stdout.startswith("draining: "), result
        assert one.process.wait(60) == 0
    assert not list(tmp_path.glob("control-*"))
    for wrong in ("0", "x", "-1"):
        assert refuses("drain", "--pid", wrong) == f"--pid: {wrong}; must be the id of a process"


def test_nonsense_on_the_control_socket_is_refused(tmp_path: Path) -> None:
    with Server("--run_directory", str(tmp_path)) as server:
        path = str(tmp_path / f"control-{server.process.pid}.sock")
        assert Path(path).stat().st_mode & 0o777 == 0o600
        for sent in (b"halt\n", b"drain", b"x" * 100, b"drain\ndrain\n", b""):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(60)
                one.connect(path)
                one.sendall(sent)
                one.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(100) in (b"refused: the one order is drain\n", b"")
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for one in crowd:
            one.connect(path)
        assert get(server, "/readyz")[0] == 200
        for one in crowd:
            one.close()
        result = run("drain", "--wait", "--run_directory", str(tmp_path), timeout_s=120)
        assert result.returncode == 0, result
        assert server.end()[0] == 0


def test_without_a_run_directory_it_serves(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Server("--run_directory", str(tmp_path / "file/none")) as server:
        assert get(server, "/readyz")[0] == 200
        server.signal(signal.SIGTERM)
        code, log = server.end()
        assert code == 0 and "event=no_control" in log
