"""Two network namespaces joined by a veth pair, without a default route: the only network that tests of the
data plane touch. Making them needs root; without it the tests fail, they do not skip."""
from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

SERVER_ADDRESS = "198.18.0.1"
CLIENT_ADDRESS = "198.18.0.2"
SERVER_ADDRESS6 = "fd00:18::1"
CLIENT_ADDRESS6 = "fd00:18::2"
CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout


class Pair:
    """`server` and `client` name the namespaces; in each is one end of the pair, of the same name as it has in
    `server_end` and `client_end`. The server's end has no address: the port answers for it."""

    def __init__(self, tag: str, mtu: int) -> None:
        self.server, self.client = f"cairn-s-{tag}", f"cairn-c-{tag}"
        self.server_end, self.client_end = "veS", "veC"
        self.mtu = mtu

    def make(self) -> None:
        for name in (self.server, self.client):
            run("ip", "netns", "add", name)
            run(*self.inside(name, "ip", "link", "set", "lo", "up"))
            # The kernel would else announce itself over IPv6 between the test's own frames.
            run(*self.inside(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"))
        run(*self.inside(self.server, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"))
        self.join()

    def join(self) -> None:
        """Makes the veth pair (again, after one end was deleted)."""
        run(*self.inside(self.server, "ip", "link", "add", self.server_end, "mtu", str(self.mtu), "type", "veth",
                         "peer", "name", self.client_end, "mtu", str(self.mtu), "netns", self.client))
        for name, end in ((self.server, self.server_end), (self.client, self.client_end)):
            # A veth otherwise hands over segments of 64 KB without checksums, as no wire would.
            run(*self.inside(name, "ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off", "gro", "off"))
            run(*self.inside(name, "ip", "link", "set", end, "up"))
        run(*self.inside(self.client, "ip", "addr", "add", f"{CLIENT_ADDRESS}/24", "dev", self.client_end))
        run(*self.inside(self.client, "ip", "addr", "add", f"{CLIENT_ADDRESS6}/64", "dev", self.client_end,
                         "nodad"))
        for name in (self.server, self.client):
            routes = run(*self.inside(name, "ip", "route")) + run(*self.inside(name, "ip", "-6", "route"))
            assert "default" not in routes, f"{name} has a default route: {routes}"

    def remove(self) -> None:
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    @staticmethod
    def inside(name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", name, *command]

    def set_link(self, name: str, end: str, up: bool) -> None:
        run(*self.inside(name, "ip", "link", "set", end, "up" if up else "down"))

    @contextlib.contextmanager
    def enter(self, name: str) -> Iterator[None]:
        """The calling thread is in the namespace; sockets that it makes there stay there."""
        with open("/proc/thread-self/ns/net") as home, open(Path("/run/netns") / name) as there:
            assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def packet_socket(self, name: str, end: str, ether_type: int) -> socket.socket:
        with self.enter(name):
            one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ether_type))
            one.bind((end, ether_type))
        one.settimeout(5)
        return one


@contextlib.contextmanager
def pair(tag: str = "", mtu: int = 1500) -> Iterator[Pair]:
    one = Pair(f"{os.getpid()}{tag}", mtu)
    try:
        one.make()
        yield one
    finally:
        one.remove()
