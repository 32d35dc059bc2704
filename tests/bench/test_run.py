"""Runs of `cairn bench` against its sink, whose behaviour is known: figures, failures, verdicts."""
import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy
import pytest

from .sink import CAIRN, CLEAN, bench, load, sink

TEXT = {"date", "endpoint_type", "backend", "model_id"}
NUMBERS = {"num_prompts", "burstiness", "duration", "completed", "failed", "total_input_tokens",
           "total_output_tokens", "request_throughput", "output_throughput", "total_token_throughput",
           "max_output_tokens_per_s", "max_concurrent_requests", "rtfx"}
METRICS = {f"{kind}_{name}_ms" for kind in ("mean", "median", "std", "p99")
           for name in ("ttft", "tpot", "itl", "e2el")}
DETAILS = {"input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times",
           "generated_texts", "errors"}
PEER = TEXT | NUMBERS | METRICS | {"label", "tokenizer_id", "request_rate", "max_concurrency", "request_goodput"}


def test_json_has_the_keys_that_plotting_scripts_of_vllm_read(tmp_path: Path) -> None:
    with sink() as url:
        run = load(tmp_path, url, "--rate", 200, "--sessions", 40, "--output-tokens", 5, "--detailed", "yes")
    found = run.json
    assert set(found) == PEER | DETAILS | {"cairn"}
    assert all(isinstance(found[key], str) for key in TEXT)
    assert all(isinstance(found[key], (int, float)) for key in NUMBERS | METRICS)
    assert found["label"] is None and found["max_concurrency"] is None and found["request_goodput"] is None
    assert found["request_rate"] == 200 and found["num_prompts"] == 40
    assert time.strptime(found["date"], "%Y%m%d-%H%M%S")
    assert {len(found[key]) for key in DETAILS} == {40}
    assert [len(gaps) for gaps in found["itls"]] == [4] * 40
    assert all(text.count(" ") == 5 for text in found["generated_texts"])
    assert found["errors"] == [""] * 40 and found["output_lens"] == [5] * 40


def test_infinite_rate_and_closed_loops_say_so(tmp_path: Path) -> None:
    with sink() as url:
        burst = load(tmp_path, url, "--rate", "inf", "--sessions", 30, "--output-tokens", 2)
        closed = load(tmp_path, url, "--concurrency", 3, "--sessions", 30, "--output-tokens", 2)
        limited = load(tmp_path, url, "--rate", "inf", "--max-concurrency", 2, "--sessions", 30)
    assert burst.json["request_rate"] == closed.json["request_rate"] == "inf"
    assert closed.json["max_concurrency"] == 3 and closed.json["max_concurrent_requests"] <= 3
    assert limited.json["max_concurrency"] == 2 and limited.json["max_concurrent_requests"] <= 2
    assert {run.json["completed"] for run in (burst, closed, limited)} == {30}
    assert {line["due_s"] for line in burst.lines} == {0}


def expect(figures: dict, values: list[float]) -> None:
    """A block of figures agrees with numpy; times have nine digits after the point."""
    for name, value in {"mean": numpy.mean(values), "std": numpy.std(values), "max": max(values),
                        **{f"p{p:g}": numpy.percentile(values, p) for p in (50, 90, 95, 99, 99.9)}}.items():
        assert figures[name] == pytest.approx(value, rel=1e-6, abs=1e-5), name
    assert figures["count"] == len(values)


def test_figures_agree_with_an_independent_computation(tmp_path: Path) -> None:
    with sink("--ttft", "lognormal:4:9", "--itl", "lognormal:1:3") as url:
        run = load(tmp_path, url, "--rate", 150, "--duration", 1.5, "--turns", "uniform:1:3", "--think", "0.01",
                   "--output-tokens", "uniform:2:8", "--goodput", "ttft:6 tpot:2 e2el:14")
    ours, lines = run.json["cairn"], run.lines
    assert run.json["failed"] == 0 and run.json["completed"] == len(lines) > 200
    for clock, start in (("from_due", "due_s"), ("from_sent", "sent_s")):
        expect(ours[clock]["ttft_ms"], [1e3 * (line["first_s"] - line[start]) for line in lines])
        expect(ours[clock]["e2el_ms"], [1e3 * (line["end_s"] - line[start]) for line in lines])
    expect(ours["itl_ms"], [1e3 * gap for line in lines for gap in line["itl_s"]])
    tpot = [1e3 * (line["last_s"] - line["first_s"]) / (line["output_tokens"] - 1) for line in lines]
    expect(ours["tpot_ms"], tpot)
    expect(ours["lateness"]["ms"], [1e3 * (line["sent_s"] - line["ready_s"]) for line in lines])
    assert sum(bar["count"] for bar in ours["lateness"]["histogram"]) == len(lines)
    good = sum(1e3 * (line["first_s"] - line["due_s"]) <= 6 and per_token <= 2
               and 1e3 * (line["end_s"] - line["due_s"]) <= 14 for line, per_token in zip(lines, tpot))
    assert 0 < good < len(lines)
    assert run.json["request_goodput"] * run.json["duration"] == pytest.approx(good)
    assert run.json["total_output_tokens"] == sum(line["output_tokens"] for line in lines)
    edges = sorted([(line["sent_s"], 1) for line in lines] + [(line["end_s"], -1) for line in lines])
    assert run.json["max_concurrent_requests"] == max(numpy.cumsum([step for _, step in edges]))
    assert sum(ours["series"]["events"]) == sum(line["events"] for line in lines)
    assert sum(ours["series"]["due"]) == len(lines)
    for turn in ours["turns"]:
        expect(turn["ttft_ms"], [1e3 * (line["first_s"] - line["due_s"]) for line in lines
                                 if line["turn"] == turn["turn"] - 1])


def test_a_later_turn_is_due_think_time_after_the_answer(tmp_path: Path) -> None:
    with sink("--ttft", 3) as url:
        run = load(tmp_path, url, "--rate", 100, "--sessions", 10, "--turns", 3, "--think", "0.05",
                   "--output-tokens", 2)
    assert [(line["session"], line["turn"]) for line in run.lines] == [(s, t) for s in range(10) for t in range(3)]
    for before, after in zip(run.lines, run.lines[1:]):
        if after["turn"] > 0:
            assert after["due_s"] - before["end_s"] == pytest.approx(0.05, abs=1e-8)


def test_a_stall_shows_from_the_due_time_and_hides_from_the_sent_time(tmp_path: Path) -> None:
    """Constant arrivals over 10 s and a stall of 5 s: a share of (5 - x) / 10 waits longer than x, so the 99th
    percentile is 4.9 s. With four connections only four requests are sent into the stall: 0.2 %."""
    with sink("--stall-at", 1.5, "--stall", 5) as url:
        run = load(tmp_path, url, "--arrivals", "constant", "--rate", 200, "--duration", 10, "--warmups", 0,
                   "--model", "sink", "--max-concurrency", 4, "--output-tokens", 2)
    assert run.json["completed"] == 2000
    assert run.json["p99_ttft_ms"] == pytest.approx(4900, rel=0.02)
    assert run.json["cairn"]["from_sent"]["ttft_ms"]["p99"] < 100
    assert run.json["cairn"]["from_sent"]["ttft_ms"]["max"] > 4900
    assert run.json["cairn"]["queue_ms"]["p99"] > 4700


def test_the_digest_is_of_the_answers_and_not_of_the_load(tmp_path: Path) -> None:
    same = ("--sessions", 60, "--turns", 2, "--output-tokens", "uniform:1:9")
    with sink("--itl", "exponential:1") as url:
        slow = load(tmp_path, url, "--rate", 150, *same)
        fast = load(tmp_path, url, "--rate", "inf", *same)
        other = load(tmp_path, url, "--rate", "inf", "--seed", 2, *same)
    assert slow.json["cairn"]["digest_turns"] == 120
    assert slow.json["cairn"]["digest"] == fast.json["cairn"]["digest"] != other.json["cairn"]["digest"]
    assert [line["digest"] for line in slow.lines] == [line["digest"] for line in fast.lines]


def test_a_generator_that_was_late_says_invalid(tmp_path: Path) -> None:
    """It is stopped for 50 ms in the middle of a run, as a busy machine would stop it."""
    with sink() as url:
        process = subprocess.Popen(
            [CAIRN, "bench", "run", "--url", url, "--rate", "500", "--duration", "1.5", "--output-tokens", "2",
             "--out", tmp_path / "late.json"], env=CLEAN, text=True, stdout=subprocess.PIPE)
        time.sleep(1)            # what is measured is time; no event tells that the run has begun
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        text, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert text.startswith("INVALID: sending was ") and "requests/s" not in text.splitlines()[0]
    found = json.loads((tmp_path / "late.json").read_text())["cairn"]
    assert found["valid"] is False and "late at p99.9" in found["invalid_why"]
    assert found["lateness"]["ms"]["max"] > 40


@pytest.mark.parametrize("fault, outcome", [
    ("close", "cut"), ("cut", "cut"), ("garbage", "bad_http"), ("badjson", "bad_event"), ("error", "error_event"),
    ("empty", "empty"), ("silent", "timeout"), ("status:429", "http_4xx"), ("status:503", "http_5xx"),
    ("status:302", "http_other")])
def test_what_goes_wrong_is_counted_by_kind_and_the_run_goes_on(tmp_path: Path, fault: str, outcome: str) -> None:
    with sink("--fault", fault) as url:
        run = load(tmp_path, url, "--rate", 500, "--sessions", 20, "--warmups", 0, "--timeout", 0.3)
    assert run.code in (1, 3)
    outcomes = {kind: count for kind, count in run.json["cairn"]["outcomes"].items() if count}
    assert outcomes == {outcome: 20}
    assert run.json["failed"] == 20 and run.json["completed"] == 0
    assert f"  {outcome} " in run.text
    if fault.startswith("status") or fault == "error":
        assert {line["error"] for line in run.lines} == {"the sink was told to fail"}


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run = load(tmp_path, url, "--rate", 500, "--sessions", 20, "--warmups", 0, "--model", "m")
        warm = bench("run", "--url", url, "--model", "m")
        nameless = bench("run", "--url", url)
    assert run.code in (1, 3) and run.json["cairn"]["outcomes"]["refused"] == 20
    assert warm.returncode == 1 and "the first request failed: the connection was refused" in warm.stderr
    assert nameless.returncode == 1 and "Connection refused" in nameless.stderr


def test_cancelled_and_slow_clients_are_kept_apart(tmp_path: Path) -> None:
    with sink("--itl", 5) as url:
        cancelled = load(tmp_path, url, "--rate", 200, "--sessions", 100, "--output-tokens", 20,
                         "--cancel-share", 0.3, "--cancel-after", 0.03)
        slow = load(tmp_path, url, "--rate", 200, "--sessions", 40, "--output-tokens", 10,
                    "--slow-share", 0.2, "--slow-bytes", 4000)
    outcomes = cancelled.json["cairn"]["outcomes"]
    assert 15 <= outcomes["cancelled"] <= 45        # 30, 3.3 standard deviations
    assert outcomes["cancelled"] + outcomes["ok"] == 100 and cancelled.json["failed"] == 0
    times = [line["end_s"] - line["sent_s"] for line in cancelled.lines if line["outcome"] == "cancelled"]
    assert min(times) >= 0.03
    slow_lines = [line for line in slow.lines if line["slow"]]
    assert 2 <= len(slow_lines) <= 20 and slow.json["completed"] == 40
    assert slow.json["cairn"]["from_due"]["e2el_ms"]["count"] == 40 - len(slow_lines)
    # Ten events of about 190 bytes at 4,000 bytes a second.
    assert min(line["end_s"] - line["sent_s"] for line in slow_lines) > 0.3


def test_a_lost_stream_is_resumed_where_it_ended(tmp_path: Path) -> None:
    """What was asked is the same in both runs, and in one of them nothing is lost: an event that came twice,
    or never, would change the digest."""
    same = ("--api", "responses", "--rate", "inf", "--sessions", 30, "--turns", 2, "--output-tokens", 20,
            "--reconnect-share", 0.7)
    with sink("--ttft", 10, "--itl", 10) as url:
        whole = load(tmp_path, url, *same, "--reconnect-after", "uniform:100:101")
        lost = load(tmp_path, url, *same, "--reconnect-after", "uniform:0:0.15")
    assert whole.json["cairn"]["resumed"] == 0
    assert 20 <= lost.json["cairn"]["resumed"] == sum(line["resumed"] for line in lost.lines) < 60
    assert lost.json["completed"] == whole.json["completed"] == 60
    assert {line["events"] for line in lost.lines} == {20}
    assert [line["digest"] for line in lost.lines] == [line["digest"] for line in whole.lines]


@pytest.mark.parametrize("api", ["chat", "completions", "responses"])
@pytest.mark.parametrize("stream", ["yes", "no"])
def test_each_api_streamed_and_whole(tmp_path: Path, api: str, stream: str) -> None:
    with sink("--ttft", 1) as url:
        run = load(tmp_path, url, "--api", api, "--stream", stream, "--rate", 500, "--sessions", 20, "--turns", 2,
                   "--output-tokens", 6)
    assert run.json["completed"] == 40 and run.json["total_output_tokens"] == 240
    assert run.json["total_input_tokens"] > 0
    assert {line["events"] for line in run.lines} == {6 if stream == "yes" else 1}


def test_history_by_id_and_by_conversation(tmp_path: Path) -> None:
    with sink() as url:
        for history in ("previous", "conversation"):
            run = load(tmp_path, url, "--api", "responses", "--history", history, "--rate", 500, "--sessions", 10,
                       "--turns", 3, "--output-tokens", 3)
            assert run.json["completed"] == 30
            # Nothing is sent twice: all turns have inputs of about the same length.
            sizes = [turn["input_tokens"] for turn in run.json["cairn"]["turns"]]
            assert max(sizes) < 1.2 * min(sizes)


def test_traces_are_replayed_at_their_times(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"timestamp": 1000 + 100 * i, "input_length": 600, "output_length": 3 + i,
                                         "hash_ids": [1, 2 + i]}) + "\n" for i in range(5)))
    with sink() as url:
        run = load(tmp_path, url, "--dataset", trace, "--format", "mooncake", "--speed", 2, command="replay")
        timeless = bench("replay", "--url", url, "--dataset", trace, "--format", "sharegpt")
    assert [line["due_s"] for line in run.lines] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2], abs=1e-9)
    assert [line["output_tokens"] for line in run.lines] == [3, 4, 5, 6, 7]
    assert timeless.returncode == 2 and "has no times to replay" in timeless.stderr


def test_messages_of_a_file_are_asked_in_their_order(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "first question"}, {"from": "gpt", "value": "recorded"},
            {"from": "human", "value": "second"}]
    trace = tmp_path / "talks.json"
    trace.write_text(json.dumps([{"id": str(i), "conversations": talk} for i in range(8)]))
    with sink() as url:
        run = load(tmp_path, url, "--dataset", trace, "--format", "sharegpt", "--rate", 200)
    assert [line["turn"] for line in run.lines] == [0, 1] * 8
    # The same words were asked: the answers of the sink are the same in all sessions.
    assert len({line["digest"] for line in run.lines}) == 2


def test_the_capacity_of_a_sink_with_four_places(tmp_path: Path) -> None:
    """Four places of 100 ms each bear 40 sessions a second at most; the wait for a place breaks earlier."""
    out = tmp_path / "capacity.json"
    with sink("--slots", 4, "--itl", 5) as url:
        result = bench("capacity", "--url", url, "--goodput", "ttft:250", "--output-tokens", 21, "--probe", 1,
                       "--rate-min", 20, "--precision", 0.5, "--repeats", 1, "--out", out)
        above = bench("capacity", "--url", url, "--goodput", "ttft:250", "--output-tokens", 2, "--probe", 0.3,
                      "--rate-min", 10, "--rate-max", 10, "--repeats", 1, "--out", out.with_suffix(".above"))
    assert result.returncode in (0, 3), result.stderr
    found = json.loads(out.read_text())
    if result.returncode == 0:
        assert 10 <= found["capacity"] <= 60 and found["verdict"] == "found"
    assert found["attempts"][-1]["p99_ttft_ms"] > 0
    assert above.returncode in (1, 3)
    assert json.loads(out.with_suffix(".above").read_text())["verdict"] in ("above --rate-max", "INVALID")


@pytest.mark.parametrize("arguments, says", [
    (["run", "--url", "https://127.0.0.1"], "--url: https://127.0.0.1; must begin with http://"),
    (["run", "--url", "ftp://x"], "--url: ftp://x; must look like http://127.0.0.1:8000"),
    (["run", "--rate", "fast"], "--rate: fast; must be a number from 0 to 1e+07, or inf"),
    (["run", "--rate", "0"], "--rate: 0; must be above 0"),
    (["run", "--rtae", "1"], "unknown argument --rtae; is this meant: --rate"),
    (["run", "--rate"], "--rate: needs a value"),
    (["run", "x.json"], "1 files given; usage: cairn bench run [--flag value ...]"),
    (["run", "--stream", "maybe"], "--stream: maybe; must be yes or no"),
    (["run", "--api", "grpc"], "--api: grpc; must be chat, completions or responses"),
    (["run", "--history", "previous"], "--history: previous; needs --api responses"),
    (["run", "--reconnect-share", "0.5"], "--reconnect-share: 0.5; needs --api responses and --stream yes"),
    (["run", "--prompt", "ids"], "--prompt: ids; needs --api completions"),
    (["run", "--arrivals", "ramp"], "--duration: 0; must be above 0 for --arrivals ramp"),
    (["run", "--arrivals", "sometimes"], "--arrivals: sometimes; must be poisson, gamma"),
    (["run", "--turns", "many"], "--turns: many; must be N, uniform:LOW:HIGH"),
    (["run", "--goodput", "ttft"], "--goodput: ttft; must be ttft:MS"),
    (["run", "--slo", "gpt-9"], "--slo: gpt-9; must be ttft:MS tpot:MS e2el:MS, or one of llama2-70b, "),
    (["run", "--preset", "x"], "--preset: x; must be azure-conv"),
    (["run", "--extra-body", "x"], "--extra-body: x; must be an object of JSON"),
    (["run", "--extra-body", "{ }"], "--extra-body: { }; must be an object of JSON"),
    (["run", "--dataset", "x"], "--dataset: x with --format none; both must be given"),
    (["replay"], "--dataset: none with --format none; both must be given"),
    (["capacity"], "--slo: is not given"),
    (["sink", "--listen", "x"], "--listen: x; must look like 127.0.0.1:8001"),
    (["sink", "--fault", "fire"], "--fault: fire; must be close, cut"),
    (["compare", "a.json"], "1 files given; usage: cairn bench compare A.json B.json"),
    (["repot"], "unknown command bench repot; is this meant: cairn bench report"),
])
def test_what_is_mistyped_is_told(arguments: list[str], says: str) -> None:
    result = bench(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"cairn: {says}"), result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "capacity", "replay", "sink", "report", "compare"])
def test_commands_have_help(command: str) -> None:
    result = bench(command, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith(f"usage: cairn bench {command}")
    assert max(map(len, result.stdout.splitlines())) <= 110
    assert f"  {command} " in bench("--help").stdout


def test_files_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with sink() as url:
        result = bench("run", "--url", url, "--rate", 500, "--sessions", 2, "--out", tmp_path / "no" / "x.json")
    assert result.returncode == 1 and "x.json: No such file or directory" in result.stderr
    assert bench("report", tmp_path / "absent.json").returncode == 1
    lost = bench("run", "--dataset", tmp_path / "absent.csv", "--format", "azure")
    assert lost.returncode == 1 and "absent.csv: No such file or directory" in lost.stderr
    (tmp_path / "bad.csv").write_text("a,b\n")
    bad = bench("run", "--dataset", tmp_path / "bad.csv", "--format", "azure")
    assert bad.returncode == 1 and "bad.csv line 1: has no column TIMESTAMP" in bad.stderr
    other = tmp_path / "other.json"
    other.write_text('{"date": "20261124-000000"}')
    result = bench("report", other)
    assert result.returncode == 1 and "was not written by `cairn bench run`" in result.stderr


def test_an_interrupted_run_says_what_it_has(tmp_path: Path) -> None:
    with sink("--itl", 2) as url:
        process = subprocess.Popen([CAIRN, "bench", "run", "--url", url, "--rate", "100", "--duration", "60",
                                    "--output-tokens", "5", "--out", tmp_path / "part.json"], env=CLEAN, text=True,
                                   stdout=subprocess.PIPE)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode in (0, 3)
    found = json.loads((tmp_path / "part.json").read_text())
    assert found["completed"] > 10 and found["failed"] == 0
    assert found["cairn"]["outcomes"]["unsent"] > 1000


def test_ten_descriptors_are_too_few_and_that_is_the_generators_fault(tmp_path: Path) -> None:
    with sink("--ttft", 300) as url:
        result = subprocess.run(["sh", "-c", "ulimit -n 24; exec \"$@\"", "sh", CAIRN, "bench", "run", "--url", url,
                                 "--rate", "inf", "--sessions", "60", "--out", str(tmp_path / "few.json")],
                                env=CLEAN, text=True, capture_output=True, timeout=30)
    assert result.returncode == 3 and "found no descriptor" in result.stdout
    assert json.loads((tmp_path / "few.json").read_text())["cairn"]["outcomes"]["descriptor"] > 20
