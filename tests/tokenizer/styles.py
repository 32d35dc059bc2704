"""Tokenizers of the styles that Cairn reads, trained on the spot with PyPI `tokenizers`."""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = """Der schnelle braune Fuchs springt über den faulen Hund. Ça va être très naïf, déjà vu !
Быстрая коричневая лиса прыгает через ленивую собаку. 我能吞下玻璃而不傷身體。今天天气很好，我们去公园吧。
吾輩は猫である。名前はまだ無い。カタカナもひらがなも使う。 나는 유리를 먹을 수 있어요. 그래도 아프지 않아요
أنا قادر على أكل الزجاج و هذا لا يؤلمني. אני יכול לאכול זכוכית וזה לא מזיק לי. मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती.
ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ 🙂👍🏽👨‍👩‍👧‍👦🇩🇪 I've, you'll, they're, we'd; it's don't I'm 12345 3.14159 1,000,000"""

BYTES = [f"<0x{b:02X}>" for b in range(256)]


def corpus() -> list[str]:
    """The project's own text and a few lines in other scripts."""
    lines = SENTENCES.split("\n") * 20
    for path in sorted([*ROOT.glob("base/*.[ch]"), *ROOT.glob("model/t*.[ch]")]):
        lines += path.read_text().split("\n")
    rng = random.Random(1)
    words = " ".join(lines).split()
    lines += [" ".join(rng.choice(words) for _ in range(12)) for _ in range(500)]
    return lines


def edit(tokenizer: Tokenizer, change) -> Tokenizer:
    data = json.loads(tokenizer.to_str())
    change(data)
    return Tokenizer.from_str(json.dumps(data))


def byte_level(pre, normalizer=None, specials=(), added=(), post=None, vocab=1500) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in specials])
    tokenizer.add_tokens(list(added))
    if post:
        tokenizer.post_processor = post(tokenizer)
    return tokenizer


def llama3(regex: str, ignore_merges: bool) -> Tokenizer:
    def post(t):
        bos = "<|begin_of_text|>"
        return processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                          special_tokens=[(bos, t.token_to_id(bos))])])

    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>",
                "<|end_header_id|>", *(f"<|reserved_special_token_{i}|>" for i in range(40))]
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = byte_level(pre, specials=specials, post=post)
    return edit(tokenizer, lambda d: d["model"].update(ignore_merges=ignore_merges))


def qwen() -> Tokenizer:
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    added = [AddedToken(t, normalized=False, special=False)
             for t in ("<tool_call>", "</tool_call>", "<think>", "</think>")]
    return byte_level(pre, normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], added)


def deepseek() -> Tokenizer:
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return byte_level(pre, None, ["<｜begin▁of▁sentence｜>", "<｜User｜>"],
                      [AddedToken("<｜tool▁sep｜>", normalized=True, special=False)])


def sentencepiece(pre, normalizer, train_pre, vocab=1500, missing=(), decoder=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = train_pre
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=vocab, show_progress=False, limit_alphabet=200,
                                  special_tokens=specials + [b for b in BYTES if b not in missing])
    tokenizer.train_from_iterator(corpus(), trainer)

    def change(data):  # byte tokens are of the vocabulary, not added ones
        data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in specials]
        if train_pre is None:
            data["pre_tokenizer"] = None

    tokenizer = edit(tokenizer, change)
    if pre:
        tokenizer.pre_tokenizer = pre
    else:
        tokenizer = edit(tokenizer, lambda d: d.update(pre_tokenizer=None))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoder or decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    bos = [("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=bos)
    return tokenizer


def older_form() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def flags() -> Tokenizer:
    """Every flag of added tokens, in the raw and in the normalized text."""
    added = [AddedToken("<l>", lstrip=True, normalized=False),
             AddedToken("<r>", rstrip=True, normalized=False),
             AddedToken("<lr>", lstrip=True, rstrip=True, normalized=False),
             AddedToken("<w>", single_word=True, normalized=False),
             AddedToken("word", single_word=True, normalized=True),
             AddedToken("LOUD", normalized=True), AddedToken("ab", normalized=False),
             AddedToken("abc", normalized=False), AddedToken("bcd", normalized=False),
             AddedToken("  ", normalized=False), AddedToken("\n\n", normalized=True),
             AddedToken("é", normalized=True), AddedToken("ＡＢ", normalized=True)]
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True),
                      normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
                      ["<s>", "<sep>"], added)


def mixed(seed: int) -> Tokenizer:
    """Rare steps in random combinations."""
    rng = random.Random(seed)
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    norms = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(),
             normalizers.Lowercase(), normalizers.Strip(left=rng.random() < .5, right=True),
             normalizers.Replace(Regex(r" {2,}"), "▁"), normalizers.Replace("e", "ee"),
             normalizers.Replace(Regex(r"\s+$"), "!"), normalizers.Prepend("x ")]
    pres = [pre_tokenizers.Digits(individual_digits=rng.random() < .5),
            pre_tokenizers.Punctuation(rng.choice(behaviors)), pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Split(Regex(rng.choice([r"\s+", r"\w+", r"[^\p{Han}]+", r"x*", r"\d|\n$",
                                                   r"\h+", r"(?<=a).", r"\p{Lu}\p{Ll}{,2}"])),
                                 rng.choice(behaviors), rng.random() < .5),
            pre_tokenizers.Split(rng.choice([" ", "e", "th"]), rng.choice(behaviors),
                                 rng.random() < .5)]
    pre = rng.sample(pres, rng.randint(1, 3))
    pre.append(pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < .3,
                                        use_regex=rng.random() < .5))
    return byte_level(pre_tokenizers.Sequence(pre), normalizers.Sequence(rng.sample(norms, rng.randint(1, 3))),
                      ["<s>"], [AddedToken("Tag", normalized=True)], vocab=600)


STYLES = {
    "gpt2": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False),
                               specials=["<|endoftext|>"],
                               post=lambda _: processors.ByteLevel(trim_offsets=False)),
    "gpt2-small": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), vocab=400,
                                     specials=["<|endoftext|>"]),
    "llama3": lambda: llama3(LLAMA3, True),
    "llama3-merges": lambda: llama3(LLAMA3, False),
    "gpt4o": lambda: llama3(GPT4O, False),
    "qwen": qwen,
    "deepseek": deepseek,
    "metaspace-first": lambda: sentencepiece(
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False), None,
        pre_tokenizers.Metaspace()),
    "metaspace-always": lambda: sentencepiece(
        pre_tokenizers.Metaspace(prepend_scheme="always", split=True), None,
        pre_tokenizers.Metaspace(), decoder=decoders.Metaspace()),
    "metaspace-never": lambda: sentencepiece(
        pre_tokenizers.Metaspace(prepend_scheme="never", split=True), None,
        pre_tokenizers.Metaspace(), missing=BYTES[0xC0:0xE0]),
    "llama2": lambda: sentencepiece(None, older_form(), pre_tokenizers.Metaspace()),
    "llama2-inner-marks": lambda: sentencepiece(None, older_form(), pre_tokenizers.Split(
        Regex(r"[^\n]{1,12}"), "isolated"), vocab=1200),
    "flags": flags,
    **{f"mixed-{i}": (lambda i=i: mixed(i)) for i in range(5)},
}
