"""Acknowledged means durable: servers and writers are killed, and the power is cut, at random moments under
load; then every acknowledged turn must be in its chain, and no head may point to a turn that is not whole.
CN_KILLS, CN_POWER_LOSSES and CN_RACES make longer runs (tests/soak/state); CN_SEED repeats one."""
import json
import os
import random
import time
from pathlib import Path

import pytest

from .redis import DURABLE, Driver, Redis

KILLS = int(os.environ.get("CN_KILLS", "20"))
POWER_LOSSES = int(os.environ.get("CN_POWER_LOSSES", "10"))
RACES = int(os.environ.get("CN_RACES", "2000"))          # turns of each of two writers
DRIVER = ["--conversations", "64", "--pause_us", "200"]


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("CN_SEED", random.randrange(1 << 32)))
    print(f"CN_SEED={seed}")
    return random.Random(seed)


def all_is_there(result: dict[str, int], acked_min: int) -> None:
    print(result)
    assert result["acked"] >= acked_min, result
    assert (result["lost"], result["broken"], result["corrupt"]) == (0, 0, 0), result


def test_killed_servers_lose_nothing(rng: random.Random) -> None:
    with Redis(*DURABLE) as redis:
        driver = Driver(redis.address, *DRIVER)
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.05, 0.35))
            redis.kill()
            redis.start()
            if rng.random() < 0.7:               # otherwise it may be killed while it reads its file
                redis.wait()
        all_is_there(driver.end(), KILLS * 2)


def test_killed_writers_and_servers_lose_nothing(rng: random.Random, tmp_path: Path) -> None:
    flags = [*DRIVER, "--acks", str(tmp_path / "acks")]
    with Redis(*DURABLE) as redis:
        driver = Driver(redis.address, *flags)
        for _ in range(KILLS // 2):
            time.sleep(rng.uniform(0.05, 0.35))
            if rng.random() < 0.5:
                redis.kill()
                redis.start()
            driver.kill()
            driver = Driver(redis.address, *flags)
        redis.wait()
        time.sleep(1)
        all_is_there(driver.end(), 1)
        assert len((tmp_path / "acks").read_text().splitlines()) > KILLS


def lose_power(rng: random.Random, durability: str, sync: str) -> tuple[dict[str, int], int]:
    cut = 0
    with Redis("--appendonly", "yes", "--appendfsync", sync, record_syncs=True) as redis:
        driver = Driver(redis.address, *DRIVER, "--durability", durability)
        for _ in range(POWER_LOSSES):
            time.sleep(rng.uniform(0.1, 0.5))
            cut += redis.lose_power(rng)
            redis.start()
            redis.wait()                         # a file that it refuses would be found here
        return driver.end(), cut


def test_power_loss_loses_nothing_that_was_synced(rng: random.Random) -> None:
    result, cut = lose_power(rng, "fsync", "always")
    print(f"{cut} bytes cut")
    all_is_there(result, POWER_LOSSES * 2)


def test_power_loss_is_one(rng: random.Random) -> None:
    """The same with a server that syncs once a second must lose turns: the cut is real."""
    result, cut = lose_power(rng, "memory", "everysec")
    assert cut > 0 and result["lost"] > 0, result


def test_two_writers_race_without_losing_a_turn() -> None:
    """Both on the same four conversations: chains in which each finds all of its own."""
    with Redis(*DURABLE) as redis:
        flags = ["--conversations", "4", "--count", str(RACES), "--bytes", "400"]
        drivers = [Driver(redis.address, *flags) for _ in range(2)]
        results = [driver.process.communicate(timeout=300)[0] for driver in drivers]
    parsed = [json.loads(text.splitlines()[-1]) for text in results]
    for result in parsed:
        all_is_there(result, RACES // 10)
        assert result["acked"] + result["conflicts"] + result["unknown"] == RACES
    assert sum(result["conflicts"] for result in parsed) > RACES // 50
