"""How the suites reach their servers. CN_TRANSPORT=kernel (default): sockets on the loopback. CN_TRANSPORT=dpdk:
this process runs in a client's network namespace, CN_SERVER_NAMESPACE names the servers', and each server gets
a veth pair and a network of its own (tests/dataplane/test_suites.py starts it so)."""
from __future__ import annotations

import itertools
import os
import tempfile
from dataclasses import dataclass

from tests.dataplane.namespaces import run

TRANSPORT = os.environ.get("CN_TRANSPORT", "kernel")
RUN = tempfile.TemporaryDirectory(prefix="cairn-run-")
numbers = itertools.count(1)


@dataclass(frozen=True)
class Link:
    """`prefix` runs a command where the server belongs; `server` and `client` are the addresses of both."""

    prefix: tuple[str, ...]
    device: str
    server: str
    client: str
    network: int

    def listen(self, port: int = 0) -> str:
        return f"[{self.server}]:{port}" if ":" in self.server else f"{self.server}:{port}"

    def echo_flags(self) -> list[str]:
        """For tests/http/echo_server."""
        flags = ["--address", self.listen()]
        if self.device:
            flags += ["--dpdk-device", self.device, "--dpdk-address6" if ":" in self.server else "--dpdk-address",
                      f"{self.server}/{64 if ':' in self.server else 24}"]
        return flags

    def serve_flags(self) -> list[str]:
        """For `cairn serve`."""
        flags = ["--listen", self.listen()]
        if self.device:
            flags += ["--transport", "dpdk", "--dpdk.device", self.device, "--dpdk.address", f"{self.server}/24",
                      "--dpdk.address6", f"fd00:18:{self.network:x}::1/64",
                      "--run_directory", f"{RUN.name}/{self.network}"]
        return flags


def link(family: int = 4) -> Link:
    if TRANSPORT == "kernel":
        return Link((), "", "127.0.0.1" if family == 4 else "::1", "127.0.0.1" if family == 4 else "::1", 0)
    assert TRANSPORT == "dpdk", f"CN_TRANSPORT: {TRANSPORT}; must be kernel or dpdk"
    namespace, n = os.environ["CN_SERVER_NAMESPACE"], next(numbers)
    ours, theirs = f"veC{n}", f"veS{n}"
    inside = ("ip", "netns", "exec", namespace)
    run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", namespace,
        # DPDK makes the number of a group of sockets from process id and index, and two processes may not meet.
        "index", str(n << 16))
    for prefix, end in (((), ours), (inside, theirs)):
        run(*prefix, "ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        run(*prefix, "ip", "link", "set", end, "up")
    run("ip", "addr", "add", f"198.18.{n}.2/24", "dev", ours)
    run("ip", "addr", "add", f"fd00:18:{n:x}::2/64", "dev", ours, "nodad")
    addresses = (f"198.18.{n}.1", f"198.18.{n}.2") if family == 4 else (f"fd00:18:{n:x}::1", f"fd00:18:{n:x}::2")
    return Link(inside, f"net_af_packet0,iface={theirs}", *addresses, n)
