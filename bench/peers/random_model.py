#!/usr/bin/env python3
"""Writes a checkpoint with random weights twice: as a Hugging Face directory for Cairn, and as the same
weights in GGUF for llama.cpp. Speed does not depend on what the weights are, so bench/serve needs no
download. Needs numpy and gguf.

usage: random_model.py SHAPE DIRECTORY        SHAPE: tiny, small, 1b
"""
import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

SHAPES = {
    # name: architecture, dim, layers, heads, kv heads, head_dim, mlp, vocabulary, rope theta, eps
    "tiny": ("llama", 256, 6, 4, 4, 64, 704, 1024, 1e4, 1e-5),
    "small": ("qwen3", 1024, 28, 16, 8, 128, 3072, 151936, 1e6, 1e-6),
    "1b": ("llama", 2048, 16, 32, 8, 64, 8192, 128256, 5e5, 1e-5),
}
SPECIAL = ["<|bos|>", "<|eos|>", "<|pad|>", "<|unk|>"]
CONTEXT = 8192
GGUF_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
GGUF_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def make_tensors(shape: tuple) -> dict[str, np.ndarray]:
    """bf16 bit patterns by Hugging Face name."""
    arch, dim, layers, heads, kv_heads, head_dim, mlp, vocab, _, _ = shape
    rng = np.random.default_rng(7)

    def matrix(rows: int, cols: int) -> np.ndarray:
        return to_bf16(rng.standard_normal((rows, cols), dtype=np.float32) * 0.02)

    def ones(n: int) -> np.ndarray:
        return to_bf16(np.ones(n, np.float32))

    tensors = {"model.embed_tokens.weight": matrix(vocab, dim), "model.norm.weight": ones(dim)}
    for i in range(layers):
        p = f"model.layers.{i}."
        tensors[p + "self_attn.q_proj.weight"] = matrix(heads * head_dim, dim)
        tensors[p + "self_attn.k_proj.weight"] = matrix(kv_heads * head_dim, dim)
        tensors[p + "self_attn.v_proj.weight"] = matrix(kv_heads * head_dim, dim)
        tensors[p + "self_attn.o_proj.weight"] = matrix(dim, heads * head_dim)
        tensors[p + "mlp.gate_proj.weight"] = matrix(mlp, dim)
        tensors[p + "mlp.up_proj.weight"] = matrix(mlp, dim)
        tensors[p + "mlp.down_proj.weight"] = matrix(dim, mlp)
        tensors[p + "input_layernorm.weight"] = ones(dim)
        tensors[p + "post_attention_layernorm.weight"] = ones(dim)
        if arch == "qwen3":
            tensors[p + "self_attn.q_norm.weight"] = ones(head_dim)
            tensors[p + "self_attn.k_norm.weight"] = ones(head_dim)
    return tensors


def make_vocabulary(count: int) -> tuple[list[str], list[str]]:
    """Byte-level BPE: the 256 bytes, then all pairs, triples, ... of some ASCII letters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    letters = [chr(c) for c in range(97, 123)] + ["\u0120"] + [chr(c) for c in range(65, 91)]
    vocabulary, merges, grown = list(alphabet), [], letters
    while len(vocabulary) < count:
        pairs = [(a, c) for a in grown for c in letters][: count - len(vocabulary)]
        vocabulary += [a + c for a, c in pairs]
        merges += [f"{a} {c}" for a, c in pairs]
        grown = [a + c for a, c in pairs]
    return vocabulary, merges


def write_huggingface(directory: Path, shape: tuple, tensors: dict[str, np.ndarray],
                      vocabulary: list[str], merges: list[str]) -> None:
    arch, dim, layers, heads, kv_heads, head_dim, mlp, vocab, theta, eps = shape
    family = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[arch]
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": [family], "model_type": arch, "hidden_size": dim,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": mlp,
        "vocab_size": vocab, "tie_word_embeddings": True, "rope_theta": theta,
        "rms_norm_eps": eps, "max_position_embeddings": CONTEXT, "hidden_act": "silu",
        "torch_dtype": "bfloat16", "bos_token_id": vocab - 4, "eos_token_id": vocab - 3,
        "attention_bias": False,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    added = [{"id": vocab - 4 + i, "content": s, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True} for i, s in enumerate(SPECIAL)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(vocabulary)}, "merges": merges},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    header, offset = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(t.shape),
                        "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            t.tofile(f)


def gguf_name(name: str) -> str:
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def interleave_rope(t: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs where Hugging Face rotates halves."""
    return t.reshape(heads, 2, t.shape[0] // heads // 2, t.shape[1]).swapaxes(1, 2).reshape(t.shape)


def write_gguf(path: Path, shape: tuple, tensors: dict[str, np.ndarray], vocabulary: list[str],
               merges: list[str]) -> None:
    arch, dim, layers, heads, kv_heads, head_dim, mlp, vocab, theta, eps = shape
    w = gguf.GGUFWriter(path, arch)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(mlp)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(eps)
    w.add_rope_freq_base(theta)
    w.add_vocab_size(vocab)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    if arch == "llama":
        w.add_rope_dimension_count(head_dim)
    w.add_file_type(32)          # mostly bf16
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(vocabulary + SPECIAL)
    w.add_token_types([1] * len(vocabulary) + [3] * len(SPECIAL))
    w.add_token_merges(merges)
    w.add_bos_token_id(vocab - 4)
    w.add_eos_token_id(vocab - 3)
    w.add_add_bos_token(False)
    for name, t in tensors.items():
        if arch == "llama" and "q_proj" in name:
            t = interleave_rope(t, heads)
        if arch == "llama" and "k_proj" in name:
            t = interleave_rope(t, kv_heads)
        if t.ndim == 1:
            w.add_tensor(gguf_name(name), (t.astype(np.uint32) << 16).view(np.float32))
        else:
            w.add_tensor(gguf_name(name), np.ascontiguousarray(t).view(np.uint8),
                         raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    shape, directory = SHAPES[sys.argv[1]], Path(sys.argv[2])
    tensors = make_tensors(shape)
    vocabulary, merges = make_vocabulary(shape[7] - len(SPECIAL))
    write_huggingface(directory, shape, tensors, vocabulary, merges)
    write_gguf(directory / "model.gguf", shape, tensors, vocabulary, merges)
    return 0


if __name__ == "__main__":
    sys.exit(main())
