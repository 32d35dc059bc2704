"""The systemd units: sound, tight by systemd's own count, and what they make on a system below a root of the test's."""
import json
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from cli.program import CAIRN, CLEAN, DEMO, TOP

UNITS = TOP / "deploy/systemd"
pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")


def place(tmp_path: Path, *drop_ins: str) -> Path:
    unit = tmp_path / "cairn.service"
    shutil.copy(UNITS / "cairn.service", unit)
    for name in drop_ins:
        (tmp_path / "cairn.service.d").mkdir(exist_ok=True)
        shutil.copy(UNITS / name, tmp_path / "cairn.service.d" / name)
    return unit


@pytest.mark.parametrize("drop_ins", [(), ("gpu.conf",), ("dpdk.conf",)])
def test_what_it_may_do_is_little(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    """The overall exposure is 2.2 at most, also with a port or a GPU of its own."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=22", "--no-pager",
                           place(tmp_path, *drop_ins)], capture_output=True, text=True)
    score = re.search(r"Overall exposure level for cairn.service: ([\d.]+)", done.stdout + done.stderr)
    assert score and done.returncode == 0, done.stdout[-200:] + done.stderr
    print(f"exposure with {drop_ins or 'no drop-in'}: {score[1]}")
    assert float(score[1]) <= 2.2


def test_an_open_unit_would_be_noticed(tmp_path: Path) -> None:
    unit = place(tmp_path)
    unit.write_text(re.sub(r"^(CapabilityBoundingSet|SystemCallFilter|Protect|Restrict).*\n", "", unit.read_text(), flags=re.M))
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=22", "--no-pager", unit],
                          capture_output=True, text=True)
    assert done.returncode != 0


def test_units_are_sound(tmp_path: Path) -> None:
    """systemd itself reads them and has nothing to say, but that nothing is installed here."""
    unit = place(tmp_path, "dpdk.conf", "gpu.conf")
    unit.write_text(unit.read_text().replace("/usr/bin/cairn", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_user_and_the_directories(tmp_path: Path) -> None:
    (tmp_path / "etc/cairn").mkdir(parents=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        (tmp_path / "etc" / name).write_text("")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", UNITS / "sysusers.conf"], check=True, capture_output=True)
    entry = re.search(r"^cairn:\w*:(\d+):(\d+):.*:/var/lib/cairn:/usr/sbin/nologin$",
                      (tmp_path / "etc/passwd").read_text(), re.M)
    assert entry and f"\ncairn:x:{entry[2]}:" in "\n" + (tmp_path / "etc/group").read_text().replace("!", "x")
    (tmp_path / "etc/cairn/cairn.yaml").write_text("")
    (tmp_path / "etc/cairn/api-keys").write_text("")
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", UNITS / "tmpfiles.conf"], check=True,
                   capture_output=True)
    for path, mode in (("etc/cairn", 0o750), ("etc/cairn/cairn.yaml", 0o640), ("etc/cairn/api-keys", 0o640)):
        found = (tmp_path / path).stat()
        assert (found.st_mode & 0o777, found.st_gid) == (mode, int(entry[2])), path


def test_the_unit_waits_for_what_it_starts() -> None:
    """What `cairn doctor` demands of any unit holds for ours with the default of drain.seconds."""
    unit = (UNITS / "cairn.service").read_text()
    drain = int(re.search(r'"drain.seconds", *\w+, *(\d+)', (TOP / "appliance/config_table.h").read_text())[1])
    assert int(re.search(r"^TimeoutStopSec=(\d+)", unit, re.M)[1]) >= drain + 15
    assert "Type=notify" in unit and "WatchdogSec=" in unit and "KillMode=mixed" in unit


@pytest.mark.parametrize("name", ["60-cairn.conf", "61-cairn-dpdk.conf"])
def test_variables_of_the_kernel_exist(name: str) -> None:
    for line in (TOP / "deploy/host" / name).read_text().splitlines():
        if line and not line.startswith("#"):
            key, value = (word.strip() for word in line.split("="))
            path = Path("/proc/sys") / key.replace(".", "/")
            assert value.isdigit() and (path.exists() or not path.parent.exists()), key


def system_calls(group: str) -> set[str]:
    """The calls of one of systemd's groups, with those of the groups in it."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in text.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return {call for word in words for call in (system_calls(word) if word[0] == "@" else {word})}


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_what_the_program_calls_is_allowed(tmp_path: Path) -> None:
    """Every system call of a server and its private Redis servers, from the start over an answer to the end, passes
    the filter of the unit."""
    allowed: set[str] = set()
    for words in re.findall(r"^SystemCallFilter=(.*)", (UNITS / "cairn.service").read_text(), re.M):
        calls = {call for word in words.removeprefix("~").split()
                 for call in (system_calls(word) if word[0] == "@" else {word})}
        allowed = allowed - calls if words[0] == "~" else allowed | calls
    trace = tmp_path / "trace"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, CAIRN, "serve", "--model", DEMO, "--listen",
                               "127.0.0.1:0", "--log.level", "off", "--state.directory", tmp_path / "state",
                               "--run_directory", tmp_path / "run"], env=CLEAN, stdout=subprocess.PIPE, text=True)
    found = re.fullmatch(r"listening on (\S+)\n", tracer.stdout.readline())
    if not found:
        tracer.wait()
        pytest.skip("strace may not trace here")
    body = json.dumps({"input": "Hi!", "max_output_tokens": 4}).encode()
    request = urllib.request.Request(f"http://{found[1]}/v1/responses", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        assert answer.status == 200
    first = int(trace.read_text(errors="replace").split(" ", 1)[0])              # the server's own process
    subprocess.run(["kill", f"-{signal.SIGTERM}", str(first)], check=True)
    assert tracer.wait(300) == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.M))
    assert {"execve", "clone3", "fdatasync"} & used and len(used) > 50
    assert used - allowed == set()
