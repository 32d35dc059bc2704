"""`cairn serve --transport dpdk`, `cairn capture` and `cairn doctor`, in network namespaces of their own.

Needs root, ip, ethtool, tshark, curl and a build: CN_BUILD names its directory (default: build)."""
from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dataplane.namespaces import CLIENT_ADDRESS, SERVER_ADDRESS, Pair, pair, run

TOP = Path(__file__).resolve().parents[2]
CAIRN = TOP / os.environ.get("CN_BUILD", "build") / "cairn"
DEMO = TOP / "deploy/demo/model"
PORT = 8000


@pytest.fixture(scope="module")
def network() -> Iterator[Pair]:
    with pair("p") as one:
        yield one


def device_flags(network: Pair) -> list[str]:
    return ["--transport", "dpdk", "--dpdk.device", f"net_af_packet0,iface={network.server_end}",
            "--dpdk.address", f"{SERVER_ADDRESS}/24"]


class Server:
    def __init__(self, network: Pair, directory: Path, *flags: str) -> None:
        self.network, self.directory = network, directory
        self.log = directory / "log"
        self.run_directory = directory / "run"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                network.inside(network.server, str(CAIRN), "serve", "--model", str(DEMO), "--state.store", "none",
                               "--listen", f"{SERVER_ADDRESS}:{PORT}", "--run_directory", str(self.run_directory),
                               *device_flags(network), *flags), stdout=log, stderr=log)

    def curl(self, path: str, *arguments: str, seconds: float = 5) -> str:
        return subprocess.run(self.network.inside(
            self.network.client, "curl", "-sS", "--max-time", str(seconds), *arguments,
            f"http://{SERVER_ADDRESS}:{PORT}{path}"), capture_output=True, text=True).stdout

    def is_ready(self) -> bool:
        return '"ready":true' in self.curl("/readyz", seconds=1)

    def metric(self, series: str) -> int:
        return int(re.search(rf"^{re.escape(series)} (\d+)$", self.curl("/metrics"), re.M)[1])

    def threads(self) -> dict[str, Path]:
        return {(task / "comm").read_text().strip(): task
                for task in Path(f"/proc/{self.process.pid}/task").iterdir()}

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def capture(self, *arguments: str) -> subprocess.Popen:
        """It has said nothing yet when it is there: it is connected once a frame can be captured."""
        return subprocess.Popen([CAIRN, "capture", "--run_directory", self.run_directory, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(done: Callable[[], bool], what: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(network: Pair, directory: Path, *flags: str) -> Iterator[Server]:
    one = Server(network, directory, *flags)
    try:
        until(lambda: one.is_ready() or one.process.poll() is not None, "being ready")
        assert one.process.poll() is None, one.log.read_text()
        yield one
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(20) == 0, one.log.read_text()
    finally:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def server(network: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(network, tmp_path_factory.mktemp("server"), "--dpdk.lcore", "0") as one:
        yield one


# ---- serving -----------------------------------------------------------------------------------

def test_the_port_is_logged_and_counted(server: Server) -> None:
    assert re.search(r"level=info event=port device=\S+ driver=net_af_packet mac=\S+ mtu=1500 checksums=software",
                     server.log.read_text())
    before = server.metric('cairn_port_frames_total{direction="received"}')
    for _ in range(5):
        server.curl("/livez")
    until(lambda: server.metric('cairn_port_frames_total{direction="received"}') >= before + 5 * 4, "counting", 3)
    assert server.curl("/livez", "-H", "Connection: close")      # the server closes first
    until(lambda: server.metric('cairn_tcp_connections{state="time_wait"}') > 0, "counting those in TIME_WAIT")
    refused = subprocess.run(server.network.inside(server.network.client, "curl", "-s", "--max-time", "5",
                                                   f"http://{SERVER_ADDRESS}:9/"))
    assert refused.returncode == 7                   # connection refused
    until(lambda: server.metric('cairn_tcp_events_total{event="reset_sent"}') > 0, "counting the reset")
    assert server.metric("cairn_port_link_up") == 1
    assert server.metric("cairn_port_gone") == 0


def test_the_net_thread_is_pinned_alone(server: Server) -> None:
    allowed = {name: re.search(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())[1]
               for name, task in server.threads().items()}
    assert allowed["net"] == "0"
    assert {allowed[name] for name in ("cairn", "api", "engine", "capture")} == {"0-" + str(os.cpu_count() - 1)}


def test_an_idle_server_costs_nothing(server: Server) -> None:
    server.curl("/livez")
    time.sleep(0.2)
    before, start = server.cpu_seconds(), time.monotonic()
    time.sleep(3)
    assert server.cpu_seconds() - before <= 0.01 * (time.monotonic() - start) + 0.01     # one tick


def test_a_link_goes_down_and_up(network: Pair, server: Server) -> None:
    """A stream outlives it; /readyz and the log say what happened."""
    body = '{"prompt": "Once", "max_tokens": 200, "ignore_eos": true, "stream": true}'
    refused = False
    for attempt in range(5):                         # the server looks once a second: an answer may miss it
        stream = subprocess.Popen(network.inside(
            network.client, "curl", "-sSN", "--max-time", "30", "-H", "content-type: application/json", "-d", body,
            f"http://{SERVER_ADDRESS}:{PORT}/v1/completions"), stdout=subprocess.PIPE, text=True)
        stream.stdout.readline()
        lines = server.log.read_text().count("event=link_down")
        network.set_link(network.client, network.client_end, up=False)
        until(lambda: server.log.read_text().count("event=link_down") > lines, "seeing the link down", 5)
        network.set_link(network.client, network.client_end, up=True)
        answer = server.curl("/readyz", "-i")
        assert stream.stdout.read().endswith("data: [DONE]\n\n")
        assert stream.wait(5) == 0
        until(server.is_ready, "being ready again", 5)
        refused |= "503" in answer.split("\n")[0] and '"reasons":["port: the link is down"]' in answer
        if refused:
            break
    assert refused, answer
    assert "level=warn event=link_down" in server.log.read_text()
    assert "level=info event=link_up" in server.log.read_text()


# ---- capture -----------------------------------------------------------------------------------

def tshark(path: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["tshark", "-r", path, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def wait_for_capture(server: Server, path: Path) -> None:
    """Frames are in the file once it is longer than its head."""
    until(lambda: bool(server.curl("/livez")) and path.exists() and path.stat().st_size > 24, "capturing")


def test_a_capture_is_what_the_wire_saw(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    capture = server.capture("--port", "0", "-w", str(path))
    wait_for_capture(server, path)
    second = server.capture("-w", str(tmp_path / "b.pcap"))
    assert second.wait(5) == 1
    assert b"another one is running" in second.stderr.read()
    payload = "capture me " * 300                    # more than a segment
    server.curl("/tokenize", "-H", "content-type: application/json", "-d", json.dumps({"prompt": payload}))
    capture.send_signal(signal.SIGINT)
    assert capture.wait(5) == 0
    said = re.fullmatch(r"(\d+) frames, 0 lost\n", capture.stderr.read().decode())
    frames = tshark(path, "-T", "fields", "-e", "ip.src")
    assert len(frames) == int(said[1])
    assert {SERVER_ADDRESS, CLIENT_ADDRESS} <= set(frames)
    requests = tshark(path, "-Y", "http.request.uri == \"/tokenize\"", "-T", "fields", "-e", "http.file_data")
    assert len(requests) == 1
    text = requests[0] if "capture" in requests[0] else bytes.fromhex(requests[0].replace(":", "")).decode()
    assert json.loads(text)["prompt"] == payload
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_capture_ends_by_itself(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "c.pcap"
    capture = server.capture("--write", str(path), "--frames", "7")
    until(lambda: bool(server.curl("/livez")) and capture.poll() is not None, "7 frames")
    assert capture.returncode == 0
    assert len(tshark(path)) == 7
    start = time.monotonic()
    assert server.capture("--write", "/dev/null", "--seconds", "1").wait(5) == 0
    assert 0.9 < time.monotonic() - start < 3


def test_a_capture_to_a_pipe(server: Server) -> None:
    capture = server.capture("-w", "-", "--frames", "4")
    until(lambda: bool(server.curl("/livez")) and capture.poll() is not None, "4 frames")
    done = subprocess.run(["tshark", "-r", "-"], input=capture.stdout.read(), capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b"\n") == 4, done.stderr


@pytest.mark.parametrize("arguments, code, words", [
    (["-w", "x.pcap", "--run_directory", "/nonexistent"], 1, "/nonexistent/port0.capture: No such file"),
    (["-w", "/nonexistent/x.pcap"], 1, "--write: /nonexistent/x.pcap: No such file"),
    ([], 2, "--write: is not given; must be a file, or -"),
    (["-w"], 2, "-w: needs a file, or -"),
    (["-w", "x", "--frames", "many"], 2, "--frames: many; must be a whole number"),
    (["-w", "x", "--seconds"], 2, "--seconds: nothing; must be a whole number"),
    (["-w", "x", "--prot", "0"], 2, "unknown key prot"),
])
def test_a_capture_that_cannot_be(server: Server, arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run([CAIRN, "capture", "--run_directory", server.run_directory, *arguments],
                          capture_output=True, text=True)
    assert done.returncode == code
    assert re.fullmatch(r"cairn: [^\n]+\n", done.stderr) and words in done.stderr, done.stderr


# ---- trouble -----------------------------------------------------------------------------------

def refusal(network: Pair, directory: Path, *flags: str) -> tuple[int, str]:
    one = Server(network, directory, *flags)
    try:
        return one.process.wait(15), one.log.read_text().splitlines()[-1]
    finally:
        one.process.kill()
        one.process.wait()


def test_a_second_process_on_the_port(network: Pair, server: Server, tmp_path: Path) -> None:
    code, says = refusal(network, tmp_path)
    assert code == 1
    assert says.startswith("cairn: dpdk.device: ") and says.endswith(
        f"another process serves on {network.server_end}")
    assert server.is_ready()


def test_a_device_that_disappears(tmp_path: Path) -> None:
    with pair("g") as network, serving(network, tmp_path) as one:
        run(*network.inside(network.server, "ip", "link", "del", network.server_end))
        until(lambda: "level=error event=port_gone" in one.log.read_text(), "seeing it gone", 5)
        time.sleep(0.3)
        before = one.cpu_seconds()
        time.sleep(1)
        assert one.cpu_seconds() - before < 0.1, "it spins without its device"
        assert one.process.poll() is None            # and ends well, which `serving` checks


def test_a_device_comes_back(tmp_path: Path) -> None:
    """A stream outlives its device: what was under way is sent again over the new one."""
    body = '{"prompt": "Once", "max_tokens": 200, "ignore_eos": true, "stream": true}'
    with pair("r") as network, serving(network, tmp_path) as one:
        sent = 'cairn_port_frames_total{direction="sent"}'
        until(lambda: one.metric(sent) > 0, "counting")
        before = one.metric(sent)
        stream = subprocess.Popen(network.inside(
            network.client, "curl", "-sSN", "--max-time", "60", "-H", "content-type: application/json", "-d", body,
            f"http://{SERVER_ADDRESS}:{PORT}/v1/completions"), stdout=subprocess.PIPE, text=True)
        stream.stdout.readline()
        run(*network.inside(network.server, "ip", "link", "del", network.server_end))
        until(lambda: "level=error event=port_gone" in one.log.read_text(), "seeing it gone")
        network.join()
        until(lambda: "level=info event=port_back" in one.log.read_text(), "seeing it back")
        assert stream.stdout.read().endswith("data: [DONE]\n\n")
        assert stream.wait(15) == 0
        until(one.is_ready, "being ready again")
        assert one.metric("cairn_port_gone") == 0
        until(lambda: one.metric(sent) > before, "going on counting")     # a counter does not go back


@pytest.mark.parametrize("flags, words", [
    (["--dpdk.address", "198.18.0.1"], "198.18.0.1"),
    (["--dpdk.address", "nonsense/24"], "nonsense/24"),
    (["--dpdk.vip", "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4,5.5.5.5"], "dpdk.vip: "),
    (["--dpdk.device", "net_af_packet0,iface=nope"], "dpdk.device: net_af_packet0,iface=nope: "),
    (["--listen", "198.18.0.77:8000"], "198.18.0.77:8000"),
    (["--run_directory", "/proc/nothing"], "run_directory: /proc/nothing: "),
])
def test_settings_that_cannot_be_opened(network: Pair, tmp_path: Path, flags: list[str], words: str) -> None:
    with pair("w") as other:
        code, says = refusal(other, tmp_path, *flags)
    assert code in (1, 2) and says.startswith("cairn: ") and words in says, says


@pytest.mark.parametrize("flags, says", [
    (["--transport", "udp"], "transport: udp; must be kernel or dpdk"),
    (["--transport", "dpdk"], "dpdk.device: is empty; transport: dpdk needs a PCI address or a virtual device such "
                              "as net_af_packet0,iface=eth1"),
    (["--transport", "dpdk", "--dpdk.device", "net_tap0"],
     "dpdk.address: is empty; transport: dpdk needs an address such as 192.0.2.10/24 (or dpdk.address6)"),
    (["--dpdk.memory", "some"], "dpdk.memory: some; must be auto, huge or normal"),
    (["--dpdk.lcore", "x1"], "dpdk.lcore: x1; must be the number of a CPU, 0 to 1023, or empty"),
    (["--dpdk.lcore", "-1"], "dpdk.lcore: -1; must be the number of a CPU, 0 to 1023, or empty"),
    (["--dpdk.vip", "1" * 300], "dpdk.vip: has 300 bytes; at most 255"),
    (["--dpdk.mtu", "100"], "--dpdk.mtu: dpdk.mtu: 100; must be a whole number from 576 to 9600 (K, M, G, T may "
                            "follow it)"),
])
def test_settings_that_are_refused(flags: list[str], says: str) -> None:
    flags = [f"{k}={v}" for k, v in zip(flags[::2], flags[1::2], strict=True)]
    done = subprocess.run([CAIRN, "config", "check", *flags], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"cairn: {says}\n")


# ---- doctor ------------------------------------------------------------------------------------

def doctor(network: Pair, namespace: str, *flags: str) -> tuple[int, dict[str, dict]]:
    done = subprocess.run(network.inside(namespace, str(CAIRN), "doctor", "--json", *flags), capture_output=True,
                          text=True)
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_the_doctor_finds_a_namespace_well(network: Pair) -> None:
    code, found = doctor(network, network.server, *device_flags(network), "--run_directory", "/tmp")
    assert code == 0, found
    assert {"cpu", "privileges", "device", "default_route", "addresses", "huge_pages", "isolation",
            "run_directory"} <= set(found)
    assert found["isolation"]["health"] == "poor"
    lines = run(*network.inside(network.server, str(CAIRN), "doctor", *device_flags(network))).splitlines()
    assert f"fine    default_route  {network.server_end} does not carry it" in lines


def test_the_doctor_finds_what_is_broken(network: Pair) -> None:
    flags = ["--transport", "dpdk", "--dpdk.address", "198.18.0.1/24", "--dpdk.device"]
    code, found = doctor(network, network.client, *flags, f"net_af_packet0,iface={network.client_end}")
    assert code == 1 and found["addresses"]["health"] == "broken"
    assert found["addresses"]["text"].startswith(f"the kernel has {CLIENT_ADDRESS} on {network.client_end}")
    code, found = doctor(network, network.client, *flags, "net_af_packet0,iface=nope")
    assert code == 1 and found["device"]["health"] == "broken"
    code, found = doctor(network, network.server, *flags, "0000:ff:1f.7", "--run_directory", "/proc")
    assert code == 1
    assert {check for check, finding in found.items() if finding["health"] == "broken"} >= {"device", "driver"}


def test_the_doctor_without_a_port() -> None:
    done = subprocess.run([CAIRN, "doctor"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[:3]) == (0, ["fine", "transport", "kernel:"])
    assert subprocess.run([CAIRN, "doctor", "--no", "1"], capture_output=True).returncode == 2
