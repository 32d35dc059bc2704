#!/usr/bin/env python3
"""Prints model/tokenizer_unicode_table_int.h: where the Unicode data of PyPI `tokenizers` differs
from that of our libraries. Run it when either side moves to another Unicode version.

Three data sets meet in `tokenizers`: its regex engine (Unicode 16), its normalizer (Unicode 11) and
the Rust library (Unicode 17). Ours are PCRE2 10.42 (Unicode 14, as Python 3.11's unicodedata) and
utf8proc 2.8 (Unicode 15)."""

import ctypes
import ctypes.util
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, POINTS))
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf "
              "Co").split()


def members(pattern: str) -> set[int]:
    return set(POINTS) - set(map(ord, normalizers.Replace(Regex(pattern), "").normalize_str(ALL)))


def ranges(values: dict[int, object]) -> list[tuple[int, int, object]]:
    out: list[list] = []
    for c, value in sorted(values.items()):
        if out and out[-1][1] == c - 1 and out[-1][2] == value:
            out[-1][1] = c
        else:
            out.append([c, c, value])
    return [tuple(r) for r in out]


def newer_categories() -> dict[int, str]:
    """Code points whose category in the library's regex engine is not that of Unicode 14."""
    han = members(r"\p{Han}")
    out = {}
    for category in CATEGORIES:
        for c in members(r"\p{%s}" % category):
            if unicodedata.category(chr(c)) != category:
                out[c] = "HAN" if c in han and category == "Lo" else category.upper()
    return out


def lower_case(utf8proc) -> dict[int, int]:
    """Distance to the lower case where it is not utf8proc's; U+0130 has two characters."""
    out = {}
    for c in POINTS:
        low = normalizers.Lowercase().normalize_str(chr(c))
        if len(low) == 1 and ord(low) != utf8proc.utf8proc_tolower(c):
            out[c] = ord(low) - c
    return out


def inert(utf8proc) -> dict[int, bool]:
    """Code points that decompose, reorder or compose in utf8proc and not in the library."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    buffer, bound = (ctypes.c_int32 * 64)(), ctypes.c_int(0)
    out = {0x11930: True, 0x11935: True}  # these two compose since Unicode 13
    for c in POINTS:
        for option, form in ((1 << 4, nfd), (1 << 4 | 1 << 2, nfkd)):
            n = utf8proc.utf8proc_decompose_char(c, buffer, 64, option, ctypes.byref(bound))
            if not 0xAC00 <= c <= 0xD7A3 and list(map(ord, form.normalize_str(chr(c)))) != buffer[:n]:
                out[c] = True
        ordered = nfd.normalize_str("a\u0345" + chr(c))
        if utf8proc.utf8proc_decompose_char(c, buffer, 64, 1 << 4, ctypes.byref(bound)) == 1:
            properties = ctypes.cast(utf8proc.utf8proc_get_property(c), ctypes.POINTER(ctypes.c_uint16))
            if (0 < properties[1] < 240) != (ordered[1] != "\u0345"):
                out[c] = True
    return out


def predicate(pre_tokenizer, ours) -> dict[int, bool]:
    """Code points on which a pre-tokenizer and `ours`, by Unicode 15 category, disagree."""
    out = {}
    for c in POINTS:
        theirs = len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) > 1
        if theirs != ours(c):
            out[c] = theirs
    return out


def table(comment: str, head: str, rows: list[str]) -> None:
    print(f"\n// {comment}\n{head} = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 100:
            print(line)
            line = "   "
        line += f" {row},"
    print(line + "\n};")


def main() -> None:
    utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    utf8proc.utf8proc_get_property.restype = ctypes.c_void_p

    def category(c: int) -> str:
        utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
        return utf8proc.utf8proc_category_string(c).decode()

    print("/* model/tokenizer_unicode_table_int.h: where the Unicode data of `tokenizers` is not ours.\n"
          " * Written by tests/tokenizer/unicode_tables.py; not for editing. Included by "
          "tokenizer_unicode.c only.\n *\n * Threads: any, constants.\n * Memory:  constants. */\n"
          "#pragma once\n\n"
          '#include "model/tokenizer_unicode_int.h"')
    table("Categories that the regex engine of `tokenizers` gives to characters newer than PCRE2's.",
          "static const cn_tokenizer_unicode_range newer[]",
          [f"{{0x{a:04X}, 0x{b:04X}, NEW_{v}}}" for a, b, v in ranges(newer_categories())])
    table("Distance to the lower case, where utf8proc has another one.",
          "static const cn_tokenizer_unicode_range lower[]",
          [f"{{0x{a:04X}, 0x{b:04X}, {v}}}" for a, b, v in ranges(lower_case(utf8proc))])
    table("Inert in the normalization forms of `tokenizers`, not in utf8proc.",
          "static const cn_tokenizer_unicode_range inert[]",
          [f"{{0x{a:04X}, 0x{b:04X}, 0}}" for a, b, _ in ranges(inert(utf8proc))])
    table("Numeric in Rust and not in utf8proc (1), or the reverse (0).",
          "static const cn_tokenizer_unicode_range numeric[]",
          [f"{{0x{a:04X}, 0x{b:04X}, {int(v)}}}" for a, b, v in ranges(predicate(
              pre_tokenizers.Digits(individual_digits=True), lambda c: category(c)[0] == "N"))])
    ascii_marks = set(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    table("Punctuation in `tokenizers` and not in utf8proc (1), or the reverse (0).",
          "static const cn_tokenizer_unicode_range punctuation[]",
          [f"{{0x{a:04X}, 0x{b:04X}, {int(v)}}}" for a, b, v in ranges(predicate(
              pre_tokenizers.Punctuation(),
              lambda c: category(c)[0] == "P" or c in ascii_marks))])


if __name__ == "__main__":
    main()
