"""`cairn serve --backend cuda-emu` answers as `--backend cpu` does: the kernels of the GPU, in the emulator, over
the whole of the server, on conversations of the demo model. CN_BACKEND=cuda is for a GPU (tests/gpu/run)."""
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.server import TOP, Server, serve

# 50 take a core about a minute; CN_CONVERSATIONS=50 asks for them.
BACKEND = os.environ.get("CN_BACKEND", "cuda-emu")
CONVERSATIONS = int(os.environ.get("CN_CONVERSATIONS", "6"))
TOKENS = 16
# Between bf16 activations on one side and, by path, float on the other; the largest seen on 50 is in docs/KERNELS.md.
LOGPROB_BOUND = 0.02
FLAGS = ["--state.store", "none", "--kv.bytes", "64M", "--engine.context_tokens", "1024", "--engine.sequences", "8",
         "--engine.step_tokens", "256"]


def ask(server: Server, messages: list[dict]) -> tuple[str, list[float]]:
    body = {"model": "model", "messages": messages, "temperature": 0, "max_tokens": TOKENS, "logprobs": True}
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=280) as answer:
        choice = json.load(answer)["choices"][0]
    return choice["message"]["content"], [token["logprob"] for token in choice["logprobs"]["content"]]


def answers(backend: str, conversations: list[list[dict]]) -> list[tuple[str, list[float]]]:
    with serve("--backend", backend, *FLAGS) as server, ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda messages: ask(server, messages), conversations))


def test_greedy_answers_are_those_of_the_cpu() -> None:
    lines = (TOP / "deploy/demo/questions.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    chosen = [q for q in questions if q["history_tokens"] <= 300][:CONVERSATIONS]
    assert len(chosen) == CONVERSATIONS
    conversations = [q["messages"] + [{"role": "user", "content": q["question"]}] for q in chosen]
    want, got = answers("cpu", conversations), answers(BACKEND, conversations)
    assert [text for text, _ in got] == [text for text, _ in want]
    largest = max(abs(a - b) for (_, x), (_, y) in zip(want, got) for a, b in zip(x, y))
    print(f"{CONVERSATIONS} conversations, largest difference of a logprob: {largest:.2g}")
    assert largest <= LOGPROB_BOUND
