"""Replies that break at any byte, and a disk that is full. The other rows of the fault catalogue are in
tests/unit/state/test_store_redis.c."""
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .proxy import Proxy
from .redis import DURABLE, Driver, Redis


@pytest.mark.parametrize("fault, faults_min", [("cut", 30), ("swallow", 4), ("delay", 100)])
def test_broken_replies_lose_and_double_nothing(fault: str, faults_min: int) -> None:
    seed = int(os.environ.get("CN_SEED", random.randrange(1 << 32)))
    print(f"CN_SEED={seed}")
    with Redis(*DURABLE) as redis:
        redis.wait()
        proxy = Proxy(f"{redis.place.name}/proxy", redis.socket, fault, random.Random(seed))
        driver = Driver(f"unix:{proxy.path}", "--conversations", "16", "--timeout_ms", "300", "--deadline_ms",
                        "20000", "--pause_us", "100")
        time.sleep(4)
        count = proxy.count
        proxy.fault = ""
        result = driver.end()
        proxy.close()
    print(count, result)
    assert count >= faults_min
    assert (result["lost"], result["broken"], result["corrupt"], result["unknown"]) == (0, 0, 0, 0), result
    assert result["acked"] > 100, result


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_ends_the_server_and_loses_nothing(small_disk: Path) -> None:
    """With appendfsync always Redis exits when it cannot write; acknowledged turns are there when there is room."""
    with Redis(*DURABLE, directory=small_disk) as redis:
        redis.wait()
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * (2 << 20))
        driver = Driver(redis.address, "--conversations", "8", "--deadline_ms", "500")
        redis.process.wait(60)                   # it gives up
        driver.process.terminate()               # or the room that is made now would be filled as well
        filler.unlink()
        redis.start()
        result = driver.end()
    print(result)
    assert result["acked"] > 50, result
    assert (result["lost"], result["broken"], result["corrupt"]) == (0, 0, 0), result
