"""The TCP stack under libFuzzer: fuzz_tcp.c, built with clang, AddressSanitizer and UBSan from the sources that
the build directory was configured with. CN_FUZZ_SECONDS says for how long (default 20), CN_FUZZ_SEED where it
begins: fixed by default, so that what chance finds does not fail a change that has nothing to do with it."""
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / os.environ.get("CN_BUILD", "build")
SECONDS = int(os.environ.get("CN_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("CN_FUZZ_SEED", "1"))
OURS = ["dataplane/stack.c", "dataplane/transport_dpdk.c", "dataplane/transport_held.c", "dataplane/lwip_pool.c",
        "dataplane/inet_sum.c", "dataplane/nic_sim.c", "dataplane/nic_lossy.c", "dataplane/transport_address.c",
        "base/assert.c", "base/err.c", "base/clock.c", "base/random.c", "base/wake.c",
        "tests/dataplane/tcp_wire.c", "tests/dataplane/fuzz_tcp.c"]
# fuzzer-no-link instruments; only the last step brings libFuzzer's main.
SANITIZE = "address,undefined"
FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-O1", "-g", "-DCN_SLOW_ASSERTS", "-DFUZZ_LIBFUZZER", "-fno-strict-aliasing",
         f"-fsanitize=fuzzer-no-link,{SANITIZE}", "-fno-sanitize-recover=all", f"-I{TOP}", f"-I{TOP}/dataplane/lwip"]


def lwip_sources() -> list[Path]:
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    found = sorted({Path(c["file"]) for c in commands if "/lwip-" in c["file"]})
    assert found, f"{BUILD} was configured without lwIP"
    return found


def build(into: Path) -> Path:
    lwip = lwip_sources()
    include = f"-isystem{str(lwip[0]).split('/src/')[0]}/src/include"
    launcher = ["ccache"] if shutil.which("ccache") else []
    objects = []
    for source in [*lwip, *(TOP / name for name in OURS)]:
        quiet = ["-w", "-fno-sanitize=alignment"] if source in lwip else ["-Wall", "-Wextra", "-Werror"]
        objects.append(into / f"{source.stem}-{len(objects)}.o")
        command = [*launcher, "clang", *FLAGS, include, *quiet, "-c", str(source), "-o", str(objects[-1])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stderr}"
    program = into / "fuzz_tcp"
    subprocess.run(["clang", f"-fsanitize=fuzzer,{SANITIZE}", *objects, "-o", program, "-lcmocka", "-lsodium"],
                   check=True)
    return program


def test_nothing_from_the_wire_is_a_fault(tmp_path: Path) -> None:
    assert shutil.which("clang"), "clang is missing; deploy/packages test installs it"
    program = build(tmp_path)
    found = tmp_path / "found"
    found.mkdir()
    done = subprocess.run([program, f"-max_total_time={SECONDS}", f"-seed={SEED}", "-max_len=600", "-print_final_stats=1",
                           f"-artifact_prefix={tmp_path}/", found, TOP / "tests/dataplane/fuzz_tcp_corpus"],
                          capture_output=True, text=True)
    tail = "\n".join(done.stderr.splitlines()[-60:])
    assert done.returncode == 0, f"an input is in {tmp_path}:\n{tail}"
    runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    assert runs and int(runs[0].split()[-1]) > 1000, tail
