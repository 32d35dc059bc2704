"""One model on several ranks (devices.tensor_parallel): the same answers to the last bit under shard_invariant
numerics, with pages that another number of ranks computed, and one sentence where it cannot be."""
import json
import subprocess
import urllib.request

import pytest

from .server import CAIRN, DEMO, Server, serve

PROMPT = "The cairn on the hill remembers who came by, and when, and what they said to one another. " * 6


def answer(server: Server) -> dict:
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0.8, "seed": 7, "logprobs": 5}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def test_the_number_of_ranks_does_not_show(tmp_path) -> None:
    """4 ranks share the demo model's 2 KV heads; each server after the first finds the pages of the one before."""
    flags = ["--numerics", "shard_invariant", "--state.directory", str(tmp_path)]
    choices, cached = [], []
    for ranks in (1, 4, 2):
        with serve("--devices.tensor_parallel", str(ranks), *flags) as server:
            found = answer(server)
            choices.append(found["choices"])
            cached.append(found["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert choices[0] == choices[1] == choices[2]
    assert cached[0] == 0 and cached[1] > 0 and cached[2] > 0


@pytest.mark.parametrize("flags, sentence", [
    (["--devices.tensor_parallel", "8"],
     "devices.tensor_parallel: 8; must divide the model's 4 heads (num_attention_heads)"),
    (["--devices.tensor_parallel", "3"], "devices.tensor_parallel: 3; must be 1, 2, 4 or 8"),
    (["--backend", "cuda-emu", "--devices.tensor_parallel", "2"],
     "devices.tensor_parallel: 2; the backend cuda-emu serves 1"),
    (["--backend", "cuda-emu", "--numerics", "shard_invariant"],
     "numerics: shard_invariant; the backend cuda-emu has per_rank"),
    (["--numerics", "fast"], "numerics: fast; must be shard_invariant or per_rank"),
])
def test_what_cannot_be_is_said_in_one_sentence(flags: list[str], sentence: str, tmp_path) -> None:
    run = subprocess.run([CAIRN, "serve", "--model", DEMO, "--listen", "127.0.0.1:0", "--state.store", "none",
                          "--run_directory", tmp_path, *flags], text=True, capture_output=True, timeout=300)
    assert run.returncode != 0
    assert sentence in run.stderr
