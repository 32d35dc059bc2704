"""Random texts that are hard on tokenizers, from a seed."""

import random

RANGES = {
    "ascii": [(0x20, 0x7E)], "latin": [(0x61, 0x7A), (0xC0, 0x24F), (0x20, 0x20)],
    "marks": [(0x61, 0x66), (0x300, 0x36F), (0x1AB0, 0x1AFF), (0x20D0, 0x20F0), (0x591, 0x5C7)],
    "rtl": [(0x5D0, 0x5EA), (0x620, 0x65F), (0x200E, 0x200F), (0x20, 0x20), (0x660, 0x669)],
    "cjk": [(0x4E00, 0x9FFF), (0x3040, 0x30FF), (0x3000, 0x3003), (0xFF10, 0xFF5A)],
    "hangul": [(0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x20, 0x20)],
    "emoji": [(0x1F300, 0x1FAFF), (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0x200D, 0x200D),
              (0xFE0F, 0xFE0F), (0x2600, 0x27BF)],
    "spaces": [(0x20, 0x20), (0x20, 0x20), (0x9, 0xD), (0xA0, 0xA0), (0x2000, 0x200B),
               (0x3000, 0x3000), (0x85, 0x85), (0x180E, 0x180E), (0x61, 0x62)],
    "numbers": [(0x30, 0x39), (0xB2, 0xB3), (0x2150, 0x2189), (0x966, 0x96F), (0x2C, 0x2E)],
    "symbols": [(0x2000, 0x2BFF), (0x21, 0x2F), (0x1F100, 0x1F1AF)],
    "indic": [(0x900, 0x97F), (0xC00, 0xDFF), (0xE00, 0xE4F), (0x20, 0x20)],
    "newer": [(0x10D40, 0x10D8F), (0x11380, 0x113E2), (0x16D40, 0x16D79), (0x31350, 0x31360),
              (0x1CC00, 0x1CCF9), (0xA7CB, 0xA7DC), (0x897, 0x8D3), (0x1C89, 0x1C8A), (0x61, 0x63)],
    "any": [(0x0, 0xD7FF), (0xE000, 0x10FFFF)],
    "plane0": [(0x80, 0x33FF), (0xA000, 0xABFF), (0xF900, 0xFFFF)],
    "plane1": [(0x10000, 0x1FFFF)],
}
CODE = ["for (int i = 0; i < n; i++) {", "\n    ", "\n\t\t", "}\n\n", "return x;", "def f(a, b=None):\n",
        "if __name__ == \"__main__\":", "// don't", "/* */", "#include <stdio.h>\n", "a->b.c[3]",
        "0x1F", "1e-9f", "\r\n", "    ", "        ", "'s", "'LL", "'ſ", "\"\\n\"", "CamelCaseName",
        "snake_case_name", "HTTPServer2", "https://example.org/a?b=c&d=%20"]
PROSE = ("the quick brown fox jumps over the lazy dog and it's what they've done I'LL word Tag "
         "straße naïve café LOUD abcd tokenizer returns memory error Привет мир 你好 世界 日本語 "
         "한국어 مرحبا שלום नमस्ते สวัสดี 1234567 3.14 ▁ ▁▁a x e İstanbul ΟΔΟΣ ﬁ ½ ℌ Å").split(" ")


def from_range(rng: random.Random, name: str, count: int) -> str:
    ranges = RANGES[name]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(count))


def one(rng: random.Random, specials: list[str]) -> bytes:
    parts = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(from_range(rng, rng.choice(list(RANGES)), rng.randint(1, 24)))
        elif kind < 0.55:
            parts.append("".join(rng.choice(CODE) for _ in range(rng.randint(1, 5))))
        elif kind < 0.8:
            space = rng.choice([" ", " ", " ", "  ", "\n", ", ", ""])
            parts.append(space.join(rng.choice(PROSE) for _ in range(rng.randint(1, 10))))
        elif kind < 0.9 and specials:
            special = rng.choice(specials)
            parts.append(rng.choice(["", " ", "\n", "  "]) + special[:rng.randint(1, len(special))]
                         if rng.random() < 0.2 else special)
        else:
            parts.append(rng.choice([" ", "\n", "\t", "=", "-", "a", "▁", "0", "é"]) * rng.randint(1, 70))
        if rng.random() < 0.3:
            parts.append(rng.choice([" ", "\n", "  "]))
    data = "".join(parts).encode()
    if rng.random() < 0.1:  # ill-formed: bytes put in, or cut
        data = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(data))
            data[at:at + rng.randint(0, 2)] = rng.choice(
                [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe4\xbd", b"\xf0\x9f\x98", b"\x80", b"\xf4\x90"])
        data = bytes(data)
    return data
