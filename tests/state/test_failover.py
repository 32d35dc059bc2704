"""The log behind Sentinel and on a Redis Cluster of six nodes: primaries are killed and slots move under
load. With durability fsync+replica every acknowledged turn is there afterwards."""
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .redis import DURABLE, MORTAL, Driver, Redis, free_ports

REPLICATED = ["--durability", "fsync+replica", "--deadline_ms", "20000", "--pause_us", "500"]


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Sentinel:
    """A redis-sentinel that watches one primary under the name `turns`."""

    def __init__(self, port: int, primary: int, replica: int, directory: Path) -> None:
        self.port = port
        config = directory / f"sentinel-{port}.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile sentinel-{port}.log\n"
                          f"sentinel monitor turns 127.0.0.1 {primary} 2\nsentinel known-replica turns 127.0.0.1 {replica}\n"
                          "sentinel down-after-milliseconds turns 500\nsentinel failover-timeout turns 4000\n")
        self.process = subprocess.Popen([*MORTAL, "redis-sentinel", config])

    def cli(self, *words: str) -> str:
        return subprocess.run(["redis-cli", "-p", str(self.port), *words], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout.strip()

    def knows(self) -> bool:
        """The replica and both other sentinels."""
        info = self.cli("INFO", "sentinel")
        return "slaves=1" in info and "sentinels=3" in info


def test_sentinel_names_another_primary(tmp_path: Path) -> None:
    a, b, nobody, *watchers = free_ports(6)
    flags = [*DURABLE, "--repl-diskless-sync-delay", "0"]
    with Redis(*flags, port=a) as first, Redis(*flags, "--replicaof", f"127.0.0.1 {a}", port=b) as second:
        wait_until(lambda: "master_link_status:up" in second.cli("INFO", "replication"))
        sentinels = [Sentinel(port, a, b, tmp_path) for port in watchers]
        try:
            wait_until(lambda: all(s.knows() for s in sentinels))
            # Nobody listens at the first address: the next one is asked.
            log = "sentinel:turns@" + ",".join(f"127.0.0.1:{port}" for port in (nobody, *watchers))
            driver = Driver(log, "--conversations", "8", *REPLICATED)
            time.sleep(1)
            first.kill()
            wait_until(lambda: second.cli("ROLE").startswith("master"))
            # Without a replica nothing is acknowledged; the old primary becomes one, as Sentinel would make it
            # within ten seconds.
            turns = second.cli("DBSIZE")
            first.flags = (*flags, "--replicaof", f"127.0.0.1 {b}")
            first.start()
            wait_until(lambda: second.cli("DBSIZE") != turns)
            time.sleep(1)
            result = driver.end()
        finally:
            for s in sentinels:
                s.process.kill()
                s.process.wait()
    print(result)
    assert (result["lost"], result["broken"], result["corrupt"], result["unknown"]) == (0, 0, 0, 0), result
    assert result["acked"] > 50 and 500 < result["gap_ms"] < 30000, result


@pytest.fixture
def cluster() -> Iterator[list[Redis]]:
    nodes = [Redis(*DURABLE, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
                   "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", port=port) for port in free_ports(6)]
    try:
        for node in nodes:
            node.wait()
        subprocess.run(["redis-cli", "--cluster", "create", *(f"127.0.0.1:{n.port}" for n in nodes),
                        "--cluster-replicas", "1", "--cluster-yes"], check=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: all("cluster_state:ok" in n.cli("CLUSTER", "INFO") for n in nodes))
        wait_until(lambda: sum("state=online" in n.cli("INFO", "replication") for n in nodes) == 3)
        yield nodes
    finally:
        for node in nodes:
            node.close()


def primaries(nodes: list[Redis]) -> list[Redis]:
    return [n for n in nodes if n.process.poll() is None and n.cli("ROLE").startswith("master")]


def slot_of(node: Redis, key: str) -> str:
    return node.cli("CLUSTER", "KEYSLOT", key)


def begin_move(source: Redis, target: Redis, slot: str) -> None:
    """The slot is on its way, its keys are there already: who asks the source for one is told ASK."""
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", source.cli("CLUSTER", "MYID"))
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", target.cli("CLUSTER", "MYID"))
    keys = source.cli("CLUSTER", "GETKEYSINSLOT", slot, "1000").split()
    assert source.cli("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys) == "OK"


def end_move(nodes: list[Redis], target: Redis, slot: str) -> None:
    for node in (target, *primaries(nodes)):
        node.cli("CLUSTER", "SETSLOT", slot, "NODE", target.cli("CLUSTER", "MYID"))


def test_a_cluster_moves_slots_and_loses_a_primary(cluster: list[Redis]) -> None:
    wait_until(lambda: len(primaries(cluster)) == 3)
    # One node of six is named; the others are learned.
    driver = Driver(f"cluster:{cluster[0].address}", "--conversations", "32", *REPLICATED)
    time.sleep(0.5)
    slot = slot_of(cluster[0], "test:head:0")
    owner = next(n for n in primaries(cluster) if n.cli("CLUSTER", "GETKEYSINSLOT", slot, "1"))
    target, third = [n for n in primaries(cluster) if n is not owner]
    begin_move(owner, target, slot)
    time.sleep(0.5)
    assert "errorstat_ASK" in owner.cli("INFO", "errorstats")
    end_move(cluster, target, slot)
    time.sleep(0.5)
    assert "errorstat_MOVED" in owner.cli("INFO", "errorstats")
    third.kill()
    wait_until(lambda: len(primaries(cluster)) == 3)
    third.start()                                # comes back as a replica, so that WAIT can count again
    time.sleep(2.5)
    result = driver.end()
    print(result)
    assert (result["lost"], result["broken"], result["corrupt"], result["unknown"]) == (0, 0, 0, 0), result
    assert result["acked"] > 100, result
