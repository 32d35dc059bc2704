"""Real redis-server processes for tests of the store: started, killed, cut off from power, and ended."""
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / os.environ.get("CN_BUILD", "build")
DRIVER = BUILD / "store_driver"
SHIM = BUILD / "libfsync_shim.so"
DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]
MORTAL = ["setpriv", "--pdeathsig", "KILL"]      # nothing outlives the tests


class Redis:
    """One redis-server, on a Unix socket or on `port` of the loopback."""

    def __init__(self, *flags: str, port: int = 0, record_syncs: bool = False, directory: Path | None = None) -> None:
        self.place = tempfile.TemporaryDirectory(prefix="cairn-test-")
        self.directory = directory or Path(self.place.name)
        self.flags, self.port, self.record_syncs = flags, port, record_syncs
        self.process: subprocess.Popen[bytes] | None = None
        self.socket = f"{self.directory}/s"
        self.address = f"127.0.0.1:{port}" if port else f"unix:{self.socket}"
        self.start()

    def start(self) -> None:
        env = dict(os.environ)
        if self.record_syncs:
            env |= {"LD_PRELOAD": str(SHIM), "CN_FSYNC_RECORD": str(self.directory / "synced")}
        where = ["--port", str(self.port)] if self.port else ["--port", "0", "--unixsocket", self.socket]
        self.process = subprocess.Popen([*MORTAL, "redis-server", *where, "--dir", self.directory, "--save", "",
                                         "--logfile", "redis.log", *self.flags], env=env)

    def wait(self, timeout_s: float = 120) -> None:
        """Until it answers."""
        end = time.monotonic() + timeout_s
        while self.cli("PING") != "PONG":
            assert time.monotonic() < end, (self.directory / "redis.log").read_text()[-2000:]
            time.sleep(0.01)

    def cli(self, *words: str) -> str:
        where = ["-p", str(self.port)] if self.port else ["-s", self.socket]
        return subprocess.run(["redis-cli", *where, *words], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout.strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9: nothing that it had in its own memory is left."""
        self.process.kill()
        self.process.wait()

    def lose_power(self, rng: random.Random) -> int:
        """As kill, and each append-only file loses what was not synced, or a part of it. Bytes cut."""
        self.kill()
        cut = 0
        for path in self.directory.glob("appendonlydir/*.incr.aof"):
            record = self.directory / f"synced.{path.stat().st_ino}"
            synced = int(record.read_text()) if record.exists() else 0
            size = path.stat().st_size
            left = rng.choice([synced, rng.randint(synced, size)])       # at the sync, or torn behind it
            os.truncate(path, left)
            cut += size - left
        return cut

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self.place.cleanup()

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Driver:
    """A store_driver at work."""

    def __init__(self, log: str, *flags: str) -> None:
        self.process = subprocess.Popen([*MORTAL, DRIVER, "--log", log, *flags], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def end(self, timeout_s: float = 300) -> dict[str, int]:
        """Stops writing, reads everything back; what came of it."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=timeout_s)
        finally:
            self.process.kill()
        return json.loads(out)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on; with room for the bus port of a cluster node."""
    held, ports = [], []
    while len(ports) < count:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        held.append(one)
        port = one.getsockname()[1]
        if port < 55000:
            ports.append(port)
    for one in held:
        one.close()
    return ports
