"""`cairn bench` against `cairn serve` with the demo model: the three APIs and histories, and equal answers."""
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.server import serve
from .sink import load


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve() as server:
        yield server.url


def test_answers_are_the_same_at_any_load(tmp_path: Path, url: str) -> None:
    """Greedy answers do not depend on what else is in the batch: the third idea of docs/DESIGN.md."""
    same = ("--api", "completions", "--prompt", "ids", "--vocab", 2000, "--token-ids", "yes", "--sessions", 24,
            "--turns", 2, "--input-tokens", "uniform:5:60", "--output-tokens", 12)
    alone = load(tmp_path, url, "--concurrency", 1, *same)
    crowd = load(tmp_path, url, "--rate", "inf", *same)
    assert alone.json["completed"] == crowd.json["completed"] == 48
    assert crowd.json["max_concurrent_requests"] > 8
    assert alone.json["cairn"]["digest"] == crowd.json["cairn"]["digest"]
    assert alone.json["total_output_tokens"] == 48 * 12
    counted = crowd.json["cairn"]["server"]
    assert counted["cairn_generated_tokens_total"] == 48 * 12
    assert counted['cairn_http_requests_total{code="2xx"}'] >= 48


def test_cached_tokens_are_told_by_turn(tmp_path: Path, url: str) -> None:
    run = load(tmp_path, url, "--rate", 20, "--sessions", 10, "--turns", 3, "--input-tokens", 60,
               "--output-tokens", 20, "--prefix-tokens", 80, "--seed", 77)
    first, *later = run.json["cairn"]["turns"]
    assert run.json["failed"] == 0
    assert all(turn["cached_tokens"] / turn["input_tokens"] > 0.5 for turn in later)
    assert all(turn["input_tokens"] > first["input_tokens"] for turn in later)


def test_cancelled_requests_leave_the_server_working(tmp_path: Path, url: str) -> None:
    run = load(tmp_path, url, "--rate", 50, "--sessions", 30, "--output-tokens", 80, "--cancel-share", 0.5,
               "--cancel-after", "0.004")
    outcomes = run.json["cairn"]["outcomes"]
    assert outcomes["cancelled"] > 0 and outcomes["cancelled"] + outcomes["ok"] == 30


def test_a_storm_of_reconnects_loses_and_repeats_nothing(tmp_path: Path, url: str) -> None:
    same = ("--api", "responses", "--rate", "inf", "--sessions", 24, "--output-tokens", 80, "--reconnect-share", 1)
    whole = load(tmp_path, url, *same, "--reconnect-after", 1000)
    storm = load(tmp_path, url, *same, "--reconnect-after", "0.02")
    assert storm.json["completed"] == whole.json["completed"] == 24, storm.text
    assert storm.json["cairn"]["resumed"] > 0
    assert storm.json["cairn"]["digest"] == whole.json["cairn"]["digest"]


def test_each_history_of_the_responses_api(tmp_path: Path, url: str) -> None:
    """The server's own memory of a conversation is one, whichever way it is named."""
    digests = {}
    for history in ("resend", "previous", "conversation"):
        run = load(tmp_path, url, "--api", "responses", "--history", history, "--rate", 50, "--sessions", 6,
                   "--turns", 3, "--input-tokens", 20, "--output-tokens", 8)
        assert run.json["completed"] == 18 and run.json["failed"] == 0
        digests[history] = run.json["cairn"]["digest"]
    assert digests["previous"] == digests["conversation"]


def test_more_members_reach_the_server(tmp_path: Path, url: str) -> None:
    same = ("--rate", 50, "--sessions", 3, "--output-tokens", 4)
    assert load(tmp_path, url, "--extra-body", '{"top_k": 1, "seed": 5}', *same).json["completed"] == 3
    refused = load(tmp_path, url, "--warmups", 0, "--extra-body", '{"top_p": 7}', *same)
    assert refused.json["failed"] == 3 and "top_p" in refused.lines[0]["error"]


def test_what_the_server_refuses_is_told(tmp_path: Path, url: str) -> None:
    run = load(tmp_path, url, "--rate", 100, "--sessions", 3, "--output-tokens", 100000, "--warmups", 0)
    assert run.code in (1, 3) and run.json["cairn"]["outcomes"]["http_4xx"] == 3
    assert "max_tokens" in run.lines[0]["error"] or "context" in run.lines[0]["error"]
