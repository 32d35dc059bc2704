"""The program `cairn` of CN_BUILD (default: build), run as a person or a service manager would."""
import itertools
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CAIRN = TOP / os.environ.get("CN_BUILD", "build") / "cairn"
DEMO = TOP / "deploy/demo/model"
# Nothing of the caller's environment but what sanitizers want to know.
CLEAN = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
STATE = tempfile.TemporaryDirectory(prefix="cairn-test-")
COUNTER = itertools.count()


def environment(env: dict[str, str] | None) -> dict[str, str]:
    """CLEAN and `env`, with a place for private Redis servers that no other process has."""
    return CLEAN | {"XDG_STATE_HOME": f"{STATE.name}/{next(COUNTER)}"} | (env or {})


def run(*arguments: str | Path, env: dict[str, str] | None = None, text: str = "",
        timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    assert CAIRN.exists(), f"{CAIRN} is not built; run tests/run"
    return subprocess.run([CAIRN, *arguments], env=environment(env), input=text, text=True,
                          capture_output=True, timeout=timeout_s)


def refuses(*arguments: str | Path, env: dict[str, str] | None = None, code: int = 2) -> str:
    """The one sentence on stderr of a run that must fail with `code`."""
    result = run(*arguments, env=env)
    assert result.returncode == code, result
    assert result.stdout == ""
    assert re.fullmatch(r"cairn: [^\n]+\n", result.stderr), result.stderr
    return result.stderr.removeprefix("cairn: ").rstrip("\n")


class Server:
    """A `cairn serve` with the demo model on a free port, with its log at hand."""

    def __init__(self, *flags: str, env: dict[str, str] | None = None) -> None:
        assert CAIRN.exists(), f"{CAIRN} is not built; run tests/run"
        start = time.monotonic()
        self.process = subprocess.Popen(
            [CAIRN, "serve", "--model", DEMO, "--listen", "127.0.0.1:0", *flags],
            env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.start_s = time.monotonic() - start
        found = re.fullmatch(r"listening on (127\.0\.0\.1:[1-9]\d*)\n", line)
        assert found, (line, self.process.communicate())
        self.address = found.group(1)
        self.url = f"http://{self.address}"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 30) -> tuple[int, str]:
        """Waits for the end; the exit code and the whole log."""
        _, log = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, log

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
