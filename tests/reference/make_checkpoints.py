"""Small checkpoints with random weights, the same bytes on every machine.

They are not committed: a test makes them where it needs them, and the reference logits beside this
file were computed from the same bytes. Numbers come from SplitMix64 and exact scaling alone, so
neither numpy's generators nor anybody's libm have a say. Every checkpoint is in the format of
Hugging Face: config.json, and model.safetensors or shards with an index.

    python tests/reference/make_checkpoints.py DIRECTORY
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Checkpoint:
    """`config` is its config.json."""

    name: str
    dtype: str                   # of the weights: F32, F16, BF16, or MIXED (norms in F32)
    config: dict[str, Any]
    prompt_tokens: int = 48
    shards: int = 1
    head_in_file: bool = False   # a tied checkpoint that holds its head nevertheless
    header_padding: int = 0      # 1 leaves every tensor at an odd address


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "attention_bias": False,
    "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "sliding_window": None,
    "bos_token_id": 1, "eos_token_id": 2,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "max_position_embeddings": 4096, "attention_bias": False,
    "use_sliding_window": False, "sliding_window": None, "max_window_layers": 28,
    "bos_token_id": 1, "eos_token_id": [2, 3],
}


def shape(vocab: int, dim: int, mlp: int, layers: int, heads: int, kv_heads: int,
          head_dim: int | None = None) -> dict[str, Any]:
    sizes = {
        "vocab_size": vocab, "hidden_size": dim, "intermediate_size": mlp,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
    }
    return sizes if head_dim is None else {**sizes, "head_dim": head_dim}


# Wavelengths of these heads lie on both sides of the original context, so every branch counts.
LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}

CHECKPOINTS = [
    Checkpoint("llama-mha-f32", "F32",
               {**LLAMA, **shape(97, 72, 100, 2, 6, 6), "torch_dtype": "float32",
                "rope_theta": 10000.0}),
    Checkpoint("llama-gqa-tied-bf16", "BF16",
               {**LLAMA, **shape(130, 64, 172, 3, 8, 2, 16), "torch_dtype": "bfloat16",
                "tie_word_embeddings": True, "rope_theta": 500.0,
                "rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}}),
    Checkpoint("llama-mqa-linear-f16", "F16",
               {**LLAMA, **shape(101, 48, 80, 1, 4, 1, 20), "dtype": "float16",
                "rope_scaling": {"type": "linear", "factor": 4.0}}, prompt_tokens=47),
    Checkpoint("llama-llama3-sharded-f32", "F32",
               {**LLAMA, **shape(97, 96, 100, 4, 6, 3), "dtype": "float32",
                "rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3_ROPE}},
               prompt_tokens=49, shards=3),
    Checkpoint("llama-long-f32", "F32",
               {**LLAMA, **shape(97, 32, 64, 2, 2, 1), "dtype": "float32"}, prompt_tokens=530),
    Checkpoint("llama-one-token-bf16", "BF16",
               {**LLAMA, **shape(97, 256, 512, 2, 4, 4), "dtype": "bfloat16",
                "tie_word_embeddings": True}, prompt_tokens=1, head_in_file=True),
    Checkpoint("mistral-gqa-f16", "F16",
               {**MISTRAL, **shape(97, 64, 90, 2, 4, 2, 24), "torch_dtype": "float16",
                "rope_theta": 1000000.0}),
    Checkpoint("qwen3-gqa-f32", "F32",
               {**QWEN3, **shape(97, 80, 112, 2, 4, 2, 32), "torch_dtype": "float32",
                "rope_theta": 1000000.0, "rope_scaling": None}),
    Checkpoint("qwen3-mqa-tied-bf16", "BF16",
               {**QWEN3, **shape(128, 128, 256, 2, 4, 1, 64), "dtype": "bfloat16",
                "tie_word_embeddings": True, "layer_types": ["full_attention"] * 2,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    Checkpoint("qwen3-mha-yarn-f16", "F16",
               {**QWEN3, **shape(99, 54, 70, 2, 3, 3, 16), "dtype": "float16",
                "rope_parameters": {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
                                    "original_max_position_embeddings": 128}}),
    Checkpoint("qwen3-mixed-unaligned", "MIXED",
               {**QWEN3, **shape(97, 64, 96, 1, 4, 2, 16), "dtype": "bfloat16"},
               header_padding=1),
]


def random_bits(seed: int, count: int) -> np.ndarray:
    """SplitMix64 (Steele, Lea, Flood 2014): output i of the generator that starts at `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name: str, count: int) -> np.ndarray:
    """float32 in [-1, 1) in steps of 2^-23, each exact."""
    bits = random_bits(zlib.crc32(name.encode()), count) >> np.uint64(40)
    return (bits.astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def prompt(checkpoint: Checkpoint) -> list[int]:
    bits = random_bits(zlib.crc32(checkpoint.name.encode()) ^ 0x70726F6D, checkpoint.prompt_tokens)
    return [int(b) % checkpoint.config["vocab_size"] for b in bits >> np.uint64(33)]


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, mlp = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", dim // config["num_attention_heads"])
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], dim)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = (dim,)
        shapes[prefix + "self_attn.q_proj.weight"] = (q, dim)
        shapes[prefix + "self_attn.k_proj.weight"] = (kv, dim)
        shapes[prefix + "self_attn.v_proj.weight"] = (kv, dim)
        if config["model_type"] == "qwen3":
            shapes[prefix + "self_attn.q_norm.weight"] = (head_dim,)
            shapes[prefix + "self_attn.k_norm.weight"] = (head_dim,)
        shapes[prefix + "self_attn.o_proj.weight"] = (dim, q)
        shapes[prefix + "post_attention_layernorm.weight"] = (dim,)
        shapes[prefix + "mlp.gate_proj.weight"] = (mlp, dim)
        shapes[prefix + "mlp.up_proj.weight"] = (mlp, dim)
        shapes[prefix + "mlp.down_proj.weight"] = (dim, mlp)
    shapes["model.norm.weight"] = (dim,)
    shapes["lm_head.weight"] = (config["vocab_size"], dim)
    return shapes


def tensor_values(checkpoint: Checkpoint, name: str, size: tuple[int, ...]) -> np.ndarray:
    """Scales that keep activations near 1 and let attention and MLP decide the next token."""
    values = uniform(f"{checkpoint.name}/{name}", int(np.prod(size)))
    if len(size) == 1:
        return np.float32(1) + values * np.float32(0.25)
    # The uniform's deviation is 3^-1/2; q and k get more, so that attention is not flat. A tied
    # embedding gets no more than this, or every token would predict itself.
    shrink = 2.0 ** -(int(np.frexp(np.float32(size[1]))[1]) // 2)
    if "embed_tokens" in name or "lm_head" in name:
        return values * np.float32(4.0 * shrink)
    gain = 3.0 if "q_proj" in name or "k_proj" in name else 1.75
    return values * np.float32(gain * shrink)


def encode(checkpoint: Checkpoint, values: np.ndarray) -> tuple[str, bytes]:
    vector = values.ndim == 1
    dtype = checkpoint.dtype
    if dtype == "MIXED":
        dtype = "F32" if vector else "BF16"
    if dtype == "F32":
        return dtype, values.astype("<f4").tobytes()
    if dtype == "F16":
        return dtype, values.astype("<f2").tobytes()
    return dtype, to_bfloat16(values).astype("<u2").tobytes()


def tensors(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    result = {}
    tied = checkpoint.config.get("tie_word_embeddings", False)
    for name, size in tensor_shapes(checkpoint.config).items():
        if name == "lm_head.weight" and tied and not checkpoint.head_in_file:
            continue
        source = "model.embed_tokens.weight" if name == "lm_head.weight" and tied else name
        values = tensor_values(checkpoint, source, size).reshape(size)
        dtype, data = encode(checkpoint, values)
        result[name] = (dtype, size, data)
    return result


def write_safetensors(path: Path, items: dict[str, tuple[str, tuple[int, ...], bytes]],
                      padding: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, size, data) in items.items():
        header[name] = {"dtype": dtype, "shape": list(size), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 + padding)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, _, data in items.values():
            out.write(data)


def write_weights(checkpoint: Checkpoint, directory: Path) -> None:
    items = tensors(checkpoint)
    if checkpoint.shards == 1:
        write_safetensors(directory / "model.safetensors", items, checkpoint.header_padding)
        return
    weight_map, names = {}, list(items)
    for shard in range(checkpoint.shards):
        file = f"model-{shard + 1:05d}-of-{checkpoint.shards:05d}.safetensors"
        part = {name: items[name] for name in names[shard::checkpoint.shards]}
        weight_map.update(dict.fromkeys(part, file))
        write_safetensors(directory / file, part, checkpoint.header_padding)
    size = sum(len(data) for _, _, data in items.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def write(checkpoint: Checkpoint, parent: Path) -> Path:
    """Writes `parent`/name and returns it."""
    directory = parent / checkpoint.name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(checkpoint.config, indent=1))
    write_weights(checkpoint, directory)
    return directory


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for checkpoint in CHECKPOINTS:
        print(write(checkpoint, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
