"""What the real compiler says of the kernels, for both architectures: they compile, nothing is spilled, no
local memory, and registers allow the occupancy that docs/KERNELS.md counts on. Needs nvcc (13.0) in PATH."""
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
KERNELS = sorted((TOP / "kernels/cuda").glob("*.cu"))
ARCHITECTURES = ["sm_80", "sm_90a"]
# Registers at most; a block's threads times these fit the 65,536 of a multiprocessor as often as it says there.
REGISTERS = {"decode_kernelILi128": 255, "prefill_kernelILi128": 255, "prefill_kernelILi64": 168, "tile_kernel": 255, "stream_kernel": 128,
             "sample_kernel": 64}
REGISTERS_ELSE = 128

if shutil.which("nvcc") is None:
    pytest.skip("nvcc is not in PATH: the kernels were compiled for the emulator only", allow_module_level=True)


def compile_one(job: tuple[Path, str, Path]) -> tuple[str, str]:
    kernel, architecture, folder = job
    run = subprocess.run(
        ["nvcc", "-std=c++20", "-arch", architecture, "-I", str(TOP), "-Xptxas", "-v", "-cubin",
         "-o", str(folder / f"{kernel.stem}.{architecture}.cubin"), str(kernel)],
        text=True, capture_output=True, check=False)
    assert run.returncode == 0, f"{kernel.name} for {architecture}:\n{run.stderr}"
    return f"{kernel.name} {architecture}", run.stderr


def test_no_kernel_spills(tmp_path: Path) -> None:
    assert KERNELS
    jobs = [(kernel, architecture, tmp_path) for kernel in KERNELS for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(compile_one, jobs))
    wrong, seen = [], 0
    for where, text in reports:
        found = re.findall(r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                           r"(\d+) bytes spill loads.*?Used (\d+) registers", text, re.S)
        assert found, f"{where}: ptxas said nothing of a kernel:\n{text}"
        for name, stack, stores, loads, registers in found:
            seen += 1
            most = next((n for part, n in REGISTERS.items() if part in name), REGISTERS_ELSE)
            print(f"{where:24} {name[:60]:60} {registers:>4} registers")
            if int(stack) or int(stores) or int(loads):
                wrong.append(f"{where} {name}: {stack} bytes of stack, {stores} + {loads} spilled")
            if int(registers) > most:
                wrong.append(f"{where} {name}: {registers} registers; at most {most}")
    assert not wrong, "\n".join(wrong)
    assert seen >= 2 * 25
