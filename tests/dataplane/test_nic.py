"""The DPDK port against the kernel, in namespaces: tests/dataplane/nic_driver sends frames back.

Needs root, ip, ethtool and a build: CN_BUILD names its directory (default: build)."""
from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dataplane.namespaces import Pair, pair, run

TOP = Path(__file__).resolve().parents[2]
DRIVER = TOP / os.environ.get("CN_BUILD", "build") / "nic_driver"
ECHO_TYPE = 0x88B5
BROADCAST = b"\xff" * 6


class Driver:
    """One nic_driver in the server's namespace."""

    def __init__(self, network: Pair, device: str, *flags: str) -> None:
        command = network.inside(network.server, str(DRIVER), device, *flags)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.error = "" if line else self.process.stderr.read().strip()
        self.info = json.loads(line) if line else {}

    def stats(self) -> dict:
        self.process.send_signal(signal.SIGUSR1)
        return json.loads(self.process.stdout.readline())

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> dict:
        self.process.send_signal(signal.SIGTERM)
        stats = json.loads(self.process.stdout.readline())
        assert self.process.wait(10) == 0
        return stats


@contextlib.contextmanager
def driver(network: Pair, device: str, *flags: str) -> Iterator[Driver]:
    one = Driver(network, device, *flags)
    try:
        assert one.info, one.error
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def refused(network: Pair, device: str, *flags: str) -> str:
    """What it says when it does not start."""
    one = Driver(network, device, *flags)
    one.process.kill()
    assert one.process.wait() == 1, one.error
    assert "\n" not in one.error
    return one.error


def until(done: Callable[[], bool], what: str, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def network() -> Iterator[Pair]:
    with pair("n", mtu=9000) as one:
        yield one


@pytest.fixture(scope="module")
def device(network: Pair) -> str:
    return f"net_af_packet0,iface={network.server_end}"


@pytest.fixture()
def wire(network: Pair) -> Iterator[socket.socket]:
    one = network.packet_socket(network.client, network.client_end, ECHO_TYPE)
    yield one
    one.close()


def frame(wire: socket.socket, payload: bytes) -> bytes:
    return BROADCAST + wire.getsockname()[4] + ECHO_TYPE.to_bytes(2, "big") + payload


def echo(wire: socket.socket, payload: bytes) -> None:
    """Sends one frame and sees it come back whole."""
    wire.send(frame(wire, payload))
    assert wire.recv(10000)[14:] == payload


# ---- frames ------------------------------------------------------------------------------------

@pytest.mark.parametrize("mtu", [1500, 9000])
def test_frames_of_every_length_come_back_whole(network: Pair, device: str, wire: socket.socket, mtu: int) -> None:
    dice = random.Random(4)
    with driver(network, device, "--mtu", str(mtu)) as port:
        assert (port.info["driver"], port.info["mtu"]) == ("net_af_packet", mtu)
        before = port.stats()
        lengths = sorted({46, mtu - 1, mtu, *(dice.randint(46, mtu) for _ in range(200))})
        for length in lengths:
            echo(wire, dice.randbytes(length))
        after = port.end()
    assert after["tx_frames"] - before["tx_frames"] == len(lengths)
    assert after["tx_bytes"] == sum(lengths) + 14 * len(lengths)
    assert after["rx_no_frame"] == after["tx_full"] == after["rx_missed"] == 0


def test_a_flood_is_counted_and_nothing_leaks(network: Pair, device: str, wire: socket.socket) -> None:
    """40 times as many frames as the pool has, faster than they can be answered."""
    sent = 40 * 1023
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    with driver(network, device, "--frames", "1023") as port:
        data = frame(wire, b"x" * 100)
        for _ in range(sent):
            wire.send(data)
        until(lambda: sum(port.stats()[k] for k in ("rx_frames", "rx_missed")) >= sent, "counting every frame")
        assert port.stats()["rx_no_frame"] == 0
        drain(wire)
        echo(wire, b"after the flood".ljust(46))


def drain(wire: socket.socket) -> None:
    wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)     # "network is down", from before
    wire.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while wire.recv(10000):
            pass
    wire.settimeout(5)


def test_two_queues_share_the_frames(network: Pair, device: str, wire: socket.socket) -> None:
    with driver(network, device, "--queues", "2", "--spin", "1000000000") as port:
        assert port.info["queues"] == 2
        for i in range(50):
            echo(wire, bytes([i]) * 100)


def test_a_tap_fills_in_checksums(network: Pair) -> None:
    """net_tap takes RTE_MBUF_F_TX_TCP_CKSUM: a TCP segment comes back with a right checksum."""
    with driver(network, "net_tap0,iface=tapS", "--fill") as port:
        assert port.info["driver"] == "net_tap" and port.info["fills_checksums"]
        run(*network.inside(network.server, "ip", "link", "set", "tapS", "up"))
        wire = network.packet_socket(network.server, "tapS", 0x0800)
        segment = tcp_segment(b"checksum me" * 20)
        wire.send(BROADCAST + wire.getsockname()[4] + b"\x08\x00" + segment)
        answer = wire.recv(10000)[14:]
        wire.close()
        assert answer[:36] == segment[:36] and answer[38:] == segment[38:]
        pseudo = answer[12:20] + bytes([0, 6]) + (len(answer) - 20).to_bytes(2, "big")
        assert ones_sum(pseudo + answer[20:]) == 0xFFFF


def tcp_segment(payload: bytes) -> bytes:
    """IPv4 and TCP headers, the TCP checksum wrong."""
    tcp = b"\x10\x00\x20\x00" + bytes(8) + b"\x50\x18\x10\x00" + b"\xde\xad" + bytes(2)
    head = b"\x45\x00" + (40 + len(payload)).to_bytes(2, "big") + bytes(4) + b"\x40\x06"
    addresses = bytes([198, 18, 0, 2, 198, 18, 0, 1])
    check = 0xFFFF - ones_sum(head + bytes(2) + addresses)
    return head + check.to_bytes(2, "big") + addresses + tcp + payload


def ones_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


# ---- idle --------------------------------------------------------------------------------------

def test_idle_costs_less_than_a_hundredth_of_a_core(network: Pair, device: str, wire: socket.socket) -> None:
    with driver(network, device) as port:
        echo(wire, b"awake".ljust(46))
        cpu, start = port.cpu_seconds(), time.monotonic()
        time.sleep(3)
        assert port.cpu_seconds() - cpu <= 0.01 * (time.monotonic() - start) + 0.01     # one tick
        echo(wire, b"awake again".ljust(46))


def test_a_tap_sleeps_on_its_interrupt(network: Pair) -> None:
    with driver(network, "net_tap0,iface=tapS") as port:
        run(*network.inside(network.server, "ip", "link", "set", "tapS", "up"))
        wire = network.packet_socket(network.server, "tapS", ECHO_TYPE)
        for i in range(20):
            time.sleep(0.02)
            echo(wire, bytes([i]) * 60)
        wire.close()
        cpu = port.cpu_seconds()
        time.sleep(2)
        assert port.cpu_seconds() - cpu <= 0.03


# ---- the link, and the device ------------------------------------------------------------------

@pytest.mark.parametrize("whose", ["peer", "own"])
def test_a_link_goes_down_and_up(network: Pair, device: str, wire: socket.socket, whose: str) -> None:
    where = {"peer": (network.client, network.client_end), "own": (network.server, network.server_end)}[whose]
    with driver(network, device) as port:
        echo(wire, b"up".ljust(46))
        assert port.stats()["link_up"]
        network.set_link(*where, up=False)
        until(lambda: not port.stats()["link_up"], "seeing the link down")
        assert not port.stats()["gone"]
        cpu = port.cpu_seconds()
        time.sleep(1)
        assert port.cpu_seconds() - cpu < 0.1, "it spins while the link is down"
        network.set_link(*where, up=True)
        until(lambda: port.stats()["link_up"], "seeing the link up")
        drain(wire)
        echo(wire, b"up again".ljust(46))
    network.set_link(*where, up=True)


def test_a_device_disappears(network: Pair, device: str) -> None:
    with driver(network, device) as port:
        run(*network.inside(network.server, "ip", "link", "del", network.server_end))
        until(lambda: port.stats()["gone"], "seeing the device gone")
        cpu = port.cpu_seconds()
        time.sleep(1)
        assert port.cpu_seconds() - cpu < 0.1, "it spins without its device"
        stats = port.stats()
        assert stats["gone"] and not stats["link_up"]
        assert stats["says"] == f"dpdk.device: {device}: is not there"
        network.join()


@pytest.mark.parametrize("queues", [1, 2])
def test_a_device_comes_back(network: Pair, device: str, queues: int) -> None:
    """Another one of the same name; the port keeps its MAC address, its counters and its frames."""
    frames = 3 * 1023                                # three times the pool, so none may be lost with a device
    with driver(network, device, "--frames", "1023", "--queues", str(queues)) as port:
        mac = bytes.fromhex(port.info["mac"].replace(":", ""))
        for round_trip in range(3):
            wire = network.packet_socket(network.client, network.client_end, ECHO_TYPE)
            own = wire.getsockname()[4]
            for i in range(frames // 3):
                data = (mac + own + ECHO_TYPE.to_bytes(2, "big") + f"{round_trip} {i}".encode().ljust(100))
                wire.send(data)
                assert wire.recv(10000) == own + mac + data[12:]
            wire.close()
            assert port.stats()["rx_frames"] >= (round_trip + 1) * (frames // 3)
            run(*network.inside(network.server, "ip", "link", "del", network.server_end))
            until(lambda: port.stats()["gone"], "seeing the device gone")
            network.join()
            until(lambda: port.stats()["link_up"], "taking the device back")
        stats = port.end()
    assert stats["tx_frames"] >= frames and not stats["gone"] and stats["rx_no_frame"] == 0


def test_one_process_per_port(network: Pair, device: str) -> None:
    with driver(network, device) as port:
        assert refused(network, device) == f"dpdk.device: {device}: another process serves on {network.server_end}"
        port.process.kill()
        port.process.wait()
        with driver(network, device):
            pass


# ---- what cannot be opened ---------------------------------------------------------------------

@pytest.mark.parametrize("device, flags, words", [
    ("", [], ["dpdk.device: is empty", "PCI address"]),
    ("net_nothing0", [], ["dpdk.device: net_nothing0", 'failed to parse device "net_nothing0"']),
    ("net_af_packet0,iface=nope", [], ["dpdk.device: net_af_packet0,iface=nope", "No such device"]),
    ("net_af_packet0", [], ["dpdk.device: net_af_packet0", "iface"]),
    ("ffff:ff:1f.7", [], ["dpdk.device: ffff:ff:1f.7"]),
    ("net_null0", ["--mtu", "100"], ["dpdk.mtu: 100; must be 576 to 9600"]),
    ("net_null0", ["--cpu", "4096"], ["dpdk.lcore: 4096; this machine has the CPUs 0 to"]),
    ("net_null0", ["--queues", "99"], ["dpdk.queues: 99; must be 1 to 16"]),
    ("net_null0", ["--memory-mb", "8"], ["8"]),
    ("net_null0", ["--eal-args", "x " * 100], ["dpdk.eal_args: too long"]),
])
def test_refusals_name_what_is_wrong(network: Pair, device: str, flags: list[str], words: list[str]) -> None:
    text = refused(network, device, *flags)
    assert all(word in text for word in words), text


def test_what_the_eal_does_not_know(network: Pair) -> None:
    """The EAL prints its usage first; the last line is ours."""
    command = network.inside(network.server, str(DRIVER), "net_null0", "--eal-args", "--no-such-flag")
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "dpdk: the EAL cannot be started" in done.stderr.splitlines()[-1]


def test_without_privileges_it_says_so(network: Pair, device: str) -> None:
    command = network.inside(network.server, "setpriv", "--bounding-set", "-net_raw,-net_admin", "--inh-caps",
                             "-net_raw,-net_admin", str(DRIVER), device)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr, done.stderr
