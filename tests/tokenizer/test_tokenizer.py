"""Cairn's tokenizer against PyPI `tokenizers`: equal ids, equal text, whole and streamed.

CN_BUILD names the build directory (default: build), CN_SEED repeats a run."""

import os
import random
import struct
import subprocess

import pytest

from styles import BYTES, ROOT, STYLES
from texts import RANGES, one

SEED = int(os.environ.get("CN_SEED", random.SystemRandom().randrange(1 << 31)))
DRIVER = ROOT / os.environ.get("CN_BUILD", "build") / "tokenizer_driver"
TEXTS = 1200                     # per tokenizer; 18 of them
DECODED = 600


class Driver:
    def __init__(self) -> None:
        self.process = subprocess.Popen([DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, kind: str, payload: bytes, flags: int = 0) -> bytes:
        self.process.stdin.write(struct.pack("=BBI", ord(kind), flags, len(payload)) + payload)
        self.process.stdin.flush()
        status, size = struct.unpack("=BI", self.process.stdout.read(5))
        answer = self.process.stdout.read(size)
        if status:
            raise RuntimeError(answer.decode())
        return answer

    def open(self, tokenizer, directory) -> None:
        tokenizer.save(str(directory / "tokenizer.json"))
        self.ask("O", str(directory).encode())

    def encode(self, text: bytes, flags: int = 1) -> list[int]:
        answer = self.ask("E", text, flags)
        return list(struct.unpack(f"={len(answer) // 4}i", answer))

    def decode(self, ids: list[int], skip: bool) -> str:
        return self.ask("D", struct.pack(f"={len(ids)}i", *ids), int(skip)).decode()

    def stream(self, ids: list[int], skip: bool) -> list[bytes]:
        answer, pieces = self.ask("S", struct.pack(f"={len(ids)}i", *ids), int(skip)), []
        while answer:
            size, = struct.unpack_from("=I", answer)
            pieces.append(answer[4:4 + size])
            answer = answer[4 + size:]
        return pieces


@pytest.fixture(scope="module")
def driver():
    print(f"CN_SEED={SEED}")
    driver = Driver()
    yield driver
    driver.process.stdin.close()
    assert driver.process.wait() == 0


@pytest.fixture(scope="module", params=list(STYLES))
def style(request, driver, tmp_path_factory):
    tokenizer = STYLES[request.param]()
    directory = tmp_path_factory.mktemp(request.param)
    driver.open(tokenizer, directory)
    return tokenizer


def test_encode(style, driver) -> None:
    """Ids of random texts, with and without the post-processor, special tokens cut and not."""
    rng = random.Random(f"{SEED} encode")
    specials = [t.content for t in style.get_added_tokens_decoder().values()]
    texts = [b"", *(one(rng, specials) for _ in range(TEXTS))]
    strings = [text.decode("utf-8", "replace") for text in texts]
    for flags in (1, 0, 2):
        style.encode_special_tokens = flags == 2
        part = texts if flags == 1 else texts[:TEXTS // 4]
        wanted = style.encode_batch(strings[:len(part)], add_special_tokens=flags == 1)
        for text, want in zip(part, wanted):
            got = driver.encode(text, flags)
            assert got == want.ids, (SEED, flags, text, want.tokens,
                                     [style.id_to_token(i) for i in got])
    style.encode_special_tokens = False


def random_ids(rng: random.Random, style) -> list[int]:
    count = style.get_vocab_size()
    single = [i for i in (style.token_to_id(b) for b in BYTES) if i is not None]
    ids = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.5 or not single:
            ids += [rng.randrange(count + 3) for _ in range(rng.randint(1, 8))]
        elif kind < 0.8:  # whole characters as byte tokens
            text = "".join(chr(rng.choice([0x41, 0xE9, 0x4F60, 0x1F600])) for _ in range(rng.randint(1, 5)))
            ids += [style.token_to_id(f"<0x{b:02X}>") or 0 for b in text.encode()]
        else:
            ids += [rng.choice(single) for _ in range(rng.randint(1, 5))]
    return ids


def longest_byte_run(style, ids: list[int]) -> int:
    longest = run = 0
    for i in ids:
        run = run + 1 if (style.id_to_token(i) or "").startswith("<0x") else 0
        longest = max(longest, run)
    return longest


def test_decode(style, driver) -> None:
    """Text of encoded texts and of random ids, whole and in pieces that are UTF-8 each."""
    rng = random.Random(f"{SEED} decode")
    for step in range(DECODED):
        if step % 2:
            ids = random_ids(rng, style)
        else:
            ids = style.encode(one(rng, ["<s>"]).decode("utf-8", "replace")).ids
        skip = bool(step & 2)
        whole, pieces = driver.decode(ids, skip), driver.stream(ids, skip)
        if longest_byte_run(style, ids) <= 64:
            assert whole == style.decode(ids, skip_special_tokens=skip), (SEED, ids)
        assert "".join(piece.decode() for piece in pieces) == whole, (SEED, ids, pieces)


def test_every_character(style, driver) -> None:
    """Each code point between letters, digits and spaces: the classes of the expressions."""
    rng = random.Random(f"{SEED} characters")
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and rng.random() < 0.03]
    points += [c for a, b in RANGES["newer"] for c in range(a, b + 1)]
    points += [c for c in range(0x2FFF) if rng.random() < 0.3]
    texts = ["".join(rng.choice(["a", " ", "1", "", "\u0301", "-"]) + chr(c) for c in points[i:i + 40])
             for i in range(0, len(points), 40)]
    for text, want in zip(texts, style.encode_batch(texts)):
        got = driver.encode(text.encode())
        assert got == want.ids, (SEED, text, want.tokens, [style.id_to_token(i) for i in got])


def test_long_words_are_not_quadratic(style, driver) -> None:
    """Text without a place to cut: ten times the length, not a hundred times the time."""
    for unit in ("a", "▁", "é", "ab1", "\u0301\u0323", "\n", " ", " \n"):
        times = []
        for count in (20000, 200000):
            used_ns, _ = struct.unpack("=QQ", driver.ask("T", (unit * count).encode()))
            times.append(used_ns / 1e9)
        assert times[1] < 40 * times[0] + 0.1, (unit, times)  # quadratic is 100, n log n is 12
    text = "ab1é" * 2000
    assert driver.encode(text.encode()) == style.encode(text).ids
