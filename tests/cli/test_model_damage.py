"""A checkpoint that is damaged, cut short or of another kind stops `cairn serve` with one sentence that
names the file, before anything listens."""
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .program import DEMO, refuses


def half(content: bytes) -> bytes:
    return content[:len(content) // 2]


@pytest.mark.parametrize("name, damage, says", [
    ("config.json", lambda b: b"not JSON", "config.json"),
    ("config.json", half, "config.json"),
    ("config.json", lambda b: b.replace(b"LlamaForCausalLM", b"AbacusForCounting"), "AbacusForCounting"),
    ("config.json", lambda b: b.replace(b'"num_hidden_layers": 4', b'"num_hidden_layers": 5'), "layers.4"),
    ("model.safetensors", lambda b: b"", "model.safetensors"),
    ("model.safetensors", half, "model.safetensors"),
    ("model.safetensors", lambda b: b[:-1], "model.safetensors"),
    ("model.safetensors", lambda b: b"\xff" * 8 + b[8:], "model.safetensors"),
    ("tokenizer.json", lambda b: b"{}", "tokenizer.json"),
    ("tokenizer.json", half, "tokenizer.json"),
    ("tokenizer.json", lambda b: b.replace(b'"BPE"', b'"Runes"'), "tokenizer.json"),
])
def test_a_damaged_model_is_refused(tmp_path: Path, name: str, damage: Callable[[bytes], bytes], says: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    whole = (model / name).read_bytes()
    (model / name).write_bytes(damage(whole))
    assert (model / name).read_bytes() != whole
    assert says in refuses("serve", "--model", model, "--listen", "127.0.0.1:0", code=1)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    (model / name).unlink()
    assert name.split(".")[0] in refuses("serve", "--model", model, "--listen", "127.0.0.1:0", code=1)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\0" * 100)
    assert str(path) in refuses("serve", "--model", path, code=1)
