"""bench/gpu/run tried without a GPU: the script runs its parts over the emulator, keeps what was measured when a
part fails, and never calls the emulator's times results of a GPU."""
import json
import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = os.environ.get("CN_BUILD", "build")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([TOP / "bench/gpu/run", *arguments], env={**os.environ, "CN_BUILD": BUILD, **environment},
                          text=True, capture_output=True, check=False, timeout=400)


def test_dry_run_has_a_figure_of_each_part_and_calls_none_a_gpus(tmp_path: Path) -> None:
    out = tmp_path / "dry.jsonl"
    done = run("--emulated", "--out", str(out), "--parts", "ceilings attention gemm step sanitizer")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["part"] == "machine" and lines[0]["device"] == "emulator, not a GPU"
    assert all(line["gpu"] is False for line in lines)
    figures = [line for line in lines if "us" in line]
    assert {line["part"] for line in figures} == {"ceilings", "attention", "gemm", "step", "pages"}
    assert all(line["us"] > 0 and line["rate"] > 0 for line in figures)
    assert [line["check"] for line in lines if line.get("passed")] == ["ceilings", "attention", "gemm", "step"]
    table = Path(f"{out}.txt").read_text()
    assert table.startswith("DRY RUN in the emulator: these are no figures of a GPU")
    assert all(line["what"] in table for line in figures)
    assert "sanitizer: left out, there is no GPU" in done.stdout


def test_a_part_that_fails_is_said_and_the_next_one_runs(tmp_path: Path) -> None:
    """A copy of the build in which the program knows no part but gemm."""
    broken = tmp_path / "build"
    broken.mkdir()
    program = broken / "bench_gpu_emu"
    program.write_text(f'#!/bin/sh\n[ "$1" = gemm ] && exec "{TOP / BUILD}/bench_gpu_emu" gemm\necho "no such luck" >&2\nexit 7\n')
    program.chmod(0o755)
    out = tmp_path / "broken.jsonl"
    done = run("--emulated", "--out", str(out), "--parts", "attention gemm", CN_BUILD=str(broken))
    assert done.returncode == 1
    assert "attention: attention: FAILED (7)" in done.stdout and "no such luck" in done.stdout
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["part"], line["passed"]) for line in lines if "check" in line] == [("attention", False), ("gemm", True)]


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (("--emulated", "--out", "bench/results/2026-01-01-gpu.jsonl"), 2, "the emulator's times are no results of a GPU"),
    (("--emulated", "--parts", "speed", "--out", "/dev/null/x"), 2, "--parts: speed; must be of"),
    (("--fast",), 2, "bench/gpu/run --emulated"),
    (("--out",), 2, "bench/gpu/run --emulated"),
])
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], code: int, text: str) -> None:
    done = run(*arguments)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert not (TOP / "bench/results/2026-01-01-gpu.jsonl").exists()


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    done = run("--out", str(tmp_path / "out"), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 3 and "nvidia-smi finds no GPU" in done.stderr
    assert not (tmp_path / "out").exists()
