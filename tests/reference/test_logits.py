"""The CPU backend computes the models that transformers computes.

Every checkpoint of make_checkpoints.py, on every instruction set that the machine has: logits of
the prompt against the float32 reference kept in reference.npz, and 64 greedy tokens. Needs numpy,
pytest and the program logits_driver of the build directory CN_BUILD (default: build).

    pytest tests/reference/test_logits.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from make_checkpoints import CHECKPOINTS, Checkpoint, prompt, write

HERE = Path(__file__).parent
BUILD = Path(os.environ.get("CN_BUILD", HERE.parents[1] / "build"))
PATHS = ["portable", "avx2", "avx512", "avx512-bf16"]
EXIT_NO_PATH = 3
GREEDY_STEPS = 64

# Weights in F32 and F16: float32 arithmetic, sums of a few hundred products rounded at 2^-24 through
# at most 4 layers; with sums in double the error was 5e-6. Weights in BF16: K and V are bfloat16 too,
# and the path with bfloat16 products rounds activations as well; both are judged by what that does to
# the distribution. torch's own bfloat16 is 1.0e-3 on average and 3.8e-3 at worst away from its
# float32 on these checkpoints.
FLOAT32_ERROR_MAX = 1e-4         # of a row's range
BFLOAT16_KL_MEAN = 1e-3          # nats per token
BFLOAT16_KL_MAX = {"avx512-bf16": 4e-3}
BFLOAT16_KV_KL_MAX = 1e-3        # where only K and V are rounded


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("checkpoints")
    for checkpoint in CHECKPOINTS:
        write(checkpoint, parent)
    return parent


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    with np.load(HERE / "reference.npz") as arrays:
        return dict(arrays)


def drive(directory: Path, checkpoint: Checkpoint, path: str, kept: int) -> dict:
    command = [BUILD / "logits_driver", directory / checkpoint.name, path, str(kept),
               str(GREEDY_STEPS)]
    ids = " ".join(map(str, prompt(checkpoint)))
    done = subprocess.run(command, input=ids, capture_output=True, text=True, timeout=300)
    if done.returncode == EXIT_NO_PATH:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def greedy_agrees(answer: dict, tokens: np.ndarray, margins: np.ndarray, error: float) -> int:
    """Compares while the reference's choice is clear; a near tie may fall the other way, and then
    the continuations have nothing more to do with each other. Returns the tokens compared."""
    for i, (token, _) in enumerate(answer["greedy"]):
        if token != tokens[i]:
            assert margins[i] <= error, f"greedy token {i}: {token}, reference {tokens[i]} " \
                                        f"with a margin of {margins[i]:.3g} (error {error:.3g})"
            return i
    return len(tokens)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda checkpoint: checkpoint.name)
def test_logits(directory: Path, reference: dict[str, np.ndarray], checkpoint: Checkpoint,
                path: str) -> None:
    logits = reference[f"{checkpoint.name}/logits"]
    answer = drive(directory, checkpoint, path, len(logits))
    want = log_softmax(logits)
    got = np.array(answer["logprobs"], np.float64).T
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    assert np.abs(np.exp(got).sum(axis=1) - 1).max() < 1e-4

    error = np.abs(got - want)
    relative = (error.max(axis=1) / np.ptp(want, axis=1)).max()
    divergence = (np.exp(want) * (want - got)).sum(axis=1)
    compared = greedy_agrees(answer, reference[f"{checkpoint.name}/tokens"],
                             reference[f"{checkpoint.name}/margins"], 2 * error.max())
    print(f"{checkpoint.name} {answer['numerics']}: error {relative:.2g} of the range, KL at most "
          f"{divergence.max():.2g}, {compared} greedy tokens equal")
    if checkpoint.dtype in ("BF16", "MIXED"):
        assert divergence.mean() < BFLOAT16_KL_MEAN
        assert divergence.max() < BFLOAT16_KL_MAX.get(path, BFLOAT16_KV_KL_MAX)
    else:
        assert relative <= FLOAT32_ERROR_MAX


def test_reference_is_of_these_checkpoints(reference: dict[str, np.ndarray]) -> None:
    """A checkpoint that was added or renamed without remake.py would otherwise be a KeyError."""
    assert {key.split("/")[0] for key in reference} == {c.name for c in CHECKPOINTS}
