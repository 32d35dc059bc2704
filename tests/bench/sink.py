"""`cairn bench` and its sink, run by tests: every run leaves its JSON and its lines."""
import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CAIRN = TOP / os.environ.get("CN_BUILD", "build") / "cairn"
CLEAN = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "ASAN_OPTIONS", "UBSAN_OPTIONS")}


@dataclass
class Run:
    code: int
    text: str                    # stdout
    errors: str                  # stderr
    json: dict | None
    lines: list[dict]            # of --log


def bench(*arguments: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    assert CAIRN.exists(), f"{CAIRN} is not built; run tests/run"
    return subprocess.run([CAIRN, "bench", *map(str, arguments)], env=CLEAN, text=True, capture_output=True,
                          timeout=timeout_s)


def load(tmp: Path, url: str, *flags: object, command: str = "run") -> Run:
    """One run of the generator. That this machine made it late is no failure of most tests, so 3 is as good
    as 0 or 1 where they do not look."""
    out, log = tmp / "run.json", tmp / "run.jsonl"
    for path in (out, log):
        path.unlink(missing_ok=True)
    result = bench(command, "--url", url, "--out", out, "--log", log, *flags)
    found = json.loads(out.read_text()) if out.exists() else None
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Run(result.returncode, result.stdout, result.stderr, found, lines)


@contextlib.contextmanager
def sink(*flags: object) -> Iterator[str]:
    """The URL of a sink, which must end well when it is told to."""
    process = subprocess.Popen([CAIRN, "bench", "sink", "--listen", "127.0.0.1:0", *map(str, flags)],
                               env=CLEAN, stdout=subprocess.PIPE, text=True)
    try:
        found = re.match(r"listening on (\S+)", process.stdout.readline())
        assert found, f"the sink did not start (exit code {process.wait()})"
        yield f"http://{found.group(1)}"
    finally:
        process.terminate()
        code = process.wait(20)
        process.stdout.close()
    assert code == 0
