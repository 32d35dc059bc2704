"""How the tree reads (docs/DESIGN.md, the arrows; CONTRIBUTING.md): checked from the sources and, for
symbols, from the built libraries. CN_BUILD names the build directory, default build."""
import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / os.environ.get("CN_BUILD", "build")
ROOMS = ["base", "kernels", "model", "state", "scheduler", "dataplane", "bench", "appliance"]
# What a room may include beside itself and base/. A path is a single header.
ARROWS = {
    "base": set(),
    "kernels": set(),
    "model": {"kernels/backend.h"},
    "state": {"kernels/backend.h", "proto"},
    "scheduler": {"state", "model", "kernels/backend.h"},
    "dataplane": {"scheduler", "state", "model", "kernels/backend.h", "proto"},
    "bench": set(),
    "appliance": {*ROOMS, "proto"},
}
# Calls that only some files may make, and what everybody else uses.
CALLS = [
    (r"clock_gettime|gettimeofday|\btime\s*\(\s*NULL", {"base/clock.c"}, "cn_clock (base/clock.h)"),
    (r"\bgetrandom|\brand\s*\(|\brandom\s*\(\s*\)", {"base/random.c"}, "cn_random (base/random.h)"),
    (r"\bsocket\s*\(|\bepoll_\w+\s*\(|\baccept4?\s*\(",
     {"dataplane/transport_kernel.c", "state/redis_lane.c", "dataplane/nic_dpdk.c", "dataplane/nic_capture.c",
      "dataplane/nic_interface.c", "appliance/http_client.c", "appliance/capture.c", "appliance/agent.c",
      "appliance/control.c", "appliance/notify.c", "bench/client.c", "bench/sink.c",
      "bench/state/store.c"},
     "cn_transport (dataplane/transport.h)"),
    (r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok)\s*\(", set(), "snprintf or cn_buf (base/buf.h)"),
    (r"\b(usleep|nanosleep|sleep)\s*\(", set(), "cn_wake_wait (base/wake.h)"),
]
# Files that run for every step or message: memory is taken when they are opened, elsewhere.
NO_MALLOC = ["scheduler/compose.c", "scheduler/sequence.c", "kernels/cpu/forward.c", "kernels/cpu/sample.c",
             "kernels/cpu/path.c", "state/page_key.c", "state/tier_rate.c", "scheduler/restore.c"]
FILE_LINES_MAX = 1000
BASE_LINES_MAX = 1500
FUNCTION_LINES_MAX = 85          # a ratchet: may fall, not rise


def is_measurement(path: Path) -> bool:
    """A program of bench/ that measures rooms from outside, by any means."""
    return path.suffix == ".c" and TOP / "bench" in path.parents and "\nint main(" in path.read_text()


def sources(*suffixes: str, rooms: list[str] = ROOMS) -> list[Path]:
    return sorted(p for room in rooms for s in suffixes for p in (TOP / room).rglob(f"*{s}")
                  if not is_measurement(p))


def name(path: Path) -> str:
    return str(path.relative_to(TOP))


def code(path: Path) -> str:
    """The text without comments and string contents, lines kept."""
    text = path.read_text()
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(\\.|[^"\\\n])*"', '""', text)


def test_includes_follow_the_arrows() -> None:
    wrong = []
    for path in sources(".c", ".h"):
        room = name(path).split("/")[0]
        for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
            target = included.split("/")[0]
            if target in {room, "base"} or included in ARROWS[room] or target in ARROWS[room]:
                continue
            wrong.append(f"{name(path)} includes {included}")
    assert not wrong, "\n".join(wrong)


def test_internal_headers_stay_in_their_room() -> None:
    wrong = [f"{name(p)} includes {i}" for p in sources(".c", ".h")
             for i in re.findall(r'^#include "([^"]+_int\.h)"', p.read_text(), re.M)
             if i.split("/")[0] != name(p).split("/")[0]]
    assert not wrong, "\n".join(wrong)


def test_headers_say_purpose_threads_and_memory() -> None:
    wrong = []
    for path in sources(".h"):
        head = path.read_text().split("#pragma once")[0]
        if not head.startswith(f"/* {name(path)}: "):
            wrong.append(f"{name(path)} does not begin with its name and purpose")
        for word in ("Threads:", "Memory:"):
            if word not in head:
                wrong.append(f"{name(path)} does not say {word}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("pattern, allowed, instead", CALLS)
def test_calls_go_through_their_interface(pattern: str, allowed: set[str], instead: str) -> None:
    wrong = [f"{name(p)}:{code(p)[:m.start()].count(chr(10)) + 1} calls {m.group().strip()}: use {instead}"
             for p in sources(".c", ".h") if name(p) not in allowed
             for m in re.finditer(pattern, code(p))]
    assert not wrong, "\n".join(wrong)


def test_hot_files_take_no_memory() -> None:
    wrong = [f"{f} calls {m}" for f in NO_MALLOC
             for m in re.findall(r"\b(malloc|calloc|realloc|strdup)\s*\(", code(TOP / f))]
    assert not wrong, "\n".join(wrong)


def test_public_symbols_carry_their_file() -> None:
    """A function cn_<file>_<verb> is in <file>.c, or in a file whose name begins so."""
    wrong = []
    objects = sorted(BUILD.glob("CMakeFiles/**/*.c.o")) + sorted(BUILD.glob("kernels/**/*.c.o"))
    assert objects, f"nothing is built in {BUILD}; run cmake --build --preset release"
    # A build directory also keeps the objects of sources that are gone.
    stems = {p.stem for p in sources(".c")} - {"main"}
    listing = subprocess.run(["nm", "--print-file-name", "--defined-only", "--extern-only", *objects], text=True,
                             check=True, stdout=subprocess.PIPE).stdout
    for path, symbol in re.findall(r"^(.*):\w* [TDRBG] (\w+)$", listing, re.M):
        stem = Path(path).name.removesuffix(".c.o")
        words = symbol.removeprefix("cn_").split("_")
        if stem in stems and (not symbol.startswith("cn_") or words[0] not in stem.split("_")):
            wrong.append(f"{symbol} is in {stem}.c")
    assert not wrong, "\n".join(wrong)


def function_lengths(path: Path) -> list[tuple[int, str]]:
    lengths, start, head = [], 0, ""
    lines = code(path).split("\n")
    for i, line in enumerate(lines):
        if line == "{":
            start, head = i, lines[i - 1].strip()
        elif line == "}" and start:
            lengths.append((i - start + 1, head))
            start = 0
    return lengths


def test_files_and_functions_stay_short() -> None:
    wrong = [f"{name(p)} has {n} lines; at most {FILE_LINES_MAX}" for p in sources(".c", ".h")
             if (n := p.read_text().count("\n")) > FILE_LINES_MAX]
    wrong += [f"{name(p)}: {head} has {n} lines; at most {FUNCTION_LINES_MAX}" for p in sources(".c")
              for n, head in function_lengths(p) if n > FUNCTION_LINES_MAX]
    # The metrics are a table: data, which every room adds to.
    base = sum(p.read_text().count("\n") for p in sources(".c", ".h", rooms=["base"])
               if name(p) != "base/metrics_table.h")
    if base > BASE_LINES_MAX:
        wrong.append(f"base/ has {base} lines; at most {BASE_LINES_MAX}")
    assert not wrong, "\n".join(wrong)


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=TOP, text=True, check=True, stdout=subprocess.PIPE)
    return [TOP / line for line in listing.stdout.splitlines() if (TOP / line).is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        if path.suffix in {".safetensors", ".npz"} or path == Path(__file__).resolve():
            continue
        found.append((path, path.read_text(errors="replace")))
    return found


def test_nothing_is_left_for_later() -> None:
    wrong = [f"{name(p)}: {m}" for p, text in texts() if p.suffix in {".c", ".h", ".py", ".md", ""}
             for m in re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", text)]
    assert not wrong, "\n".join(wrong)


def test_nothing_points_outside() -> None:
    """No registry host, and no path of the machine that somebody worked on."""
    pattern = re.compile(r"/work/|/opt/cairn|pypi\.org|files\.pythonhosted|deb\.debian\.org|huggingface\.co/")
    wrong = [f"{name(p)}: {m}" for p, text in texts() if p.suffix != ".json" for m in pattern.findall(text)]
    assert not wrong, "\n".join(wrong)


def test_every_program_is_built_or_run() -> None:
    """Each C file below tests/ and bench/ is in a CMakeLists.txt or of the room bench/; each Python file is a
    test, is imported or is named by somebody."""
    everything = "\n".join(text for _, text in texts())
    wrong = []
    for path in tracked():
        room = name(path).split("/")[0]
        if room not in {"tests", "bench"} or path.name in {"CMakeLists.txt", "conftest.py"}:
            continue
        named = path.suffix == ".c" and "unit/" in name(path) or path.name.startswith("test_")
        named = named or path.suffix == ".c" and path.parent == TOP / "bench"
        itself = path.read_text(errors="replace").count(path.stem)
        if not named and path.suffix in {".c", ".py", ".h", ""} and everything.count(path.stem) <= itself:
            wrong.append(f"nothing names {name(path)}")
    assert not wrong, "\n".join(wrong)
