"""Computes the reference logits again: with transformers and torch, in float32, on the CPU.

Needs what no test needs (torch, transformers); the results are kept in reference.npz beside this
file, and versions.json says what computed them.

    python tests/reference/remake.py
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from make_checkpoints import CHECKPOINTS, Checkpoint, prompt, write

HERE = Path(__file__).parent
GREEDY_STEPS = 64
KEPT_POSITIONS = 64              # of a long prompt, the last


def compute(checkpoint: Checkpoint, directory: Path) -> dict[str, np.ndarray]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    ids = prompt(checkpoint)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy().astype(np.float32)
        tokens, margins = [], []
        for _ in range(GREEDY_STEPS):
            # The whole sequence each time: a cache would be one more thing to trust.
            last = model(torch.tensor([ids + tokens])).logits[0, -1].numpy()
            order = np.argsort(-last, kind="stable")
            tokens.append(int(order[0]))
            margins.append(float(last[order[0]] - last[order[1]]))
    return {"logits": logits[-KEPT_POSITIONS:], "tokens": np.array(tokens, np.int32),
            "margins": np.array(margins, np.float32)}


def main() -> None:
    torch.set_num_threads(1)
    arrays = {}
    with tempfile.TemporaryDirectory() as parent:
        for checkpoint in CHECKPOINTS:
            results = compute(checkpoint, write(checkpoint, Path(parent)))
            arrays.update({f"{checkpoint.name}/{key}": value for key, value in results.items()})
            logits = results["logits"]
            print(f"{checkpoint.name}: {logits.shape}, deviation {logits.std():.2f}, "
                  f"{len(set(results['tokens'].tolist()))} different greedy tokens, "
                  f"smallest margin {results['margins'].min():.2g}")
    np.savez_compressed(HERE / "reference.npz", **arrays)
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "torch": torch.__version__, "transformers": transformers.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
