#include "bench/words.h"

#include <string.h>

#include "base/random.h"

enum { WORD_COUNT = 128, ID_MIN = 16 };

static const char words[WORD_COUNT][8] = {
    "the",   "of",    "and",   "to",    "in",    "is",    "that",  "it",    "was",   "for",
    "on",    "are",   "as",    "with",  "his",   "they",  "at",    "be",    "this",  "from",
    "have",  "or",    "by",    "one",   "had",   "not",   "but",   "what",  "all",   "were",
    "when",  "we",    "there", "can",   "an",    "your",  "which", "their", "said",  "if",
    "do",    "will",  "each",  "about", "how",   "up",    "out",   "them",  "then",  "she",
    "many",  "some",  "so",    "these", "would", "other", "into",  "has",   "more",  "her",
    "two",   "like",  "him",   "see",   "time",  "could", "no",    "make",  "than",  "first",
    "been",  "its",   "who",   "now",   "people", "my",   "made",  "over",  "did",   "down",
    "only",  "way",   "find",  "use",   "may",   "water", "long",  "little", "very", "after",
    "words", "just",  "where", "most",  "know",  "get",   "through", "back", "much", "go",
    "good",  "new",   "write", "our",   "me",    "man",   "too",   "any",   "day",   "same",
    "right", "look",  "think", "also",  "around", "came", "come",  "work",  "three", "must",
    "part",  "even",  "place", "well",  "here",  "why",   "help",  "such",
};

uint64_t cn_words_mix(uint64_t a, uint64_t b)
{
    uint64_t state = a;
    const cn_random random = cn_random_seeded(&state);
    state ^= cn_random_u64(&random) + b;
    return cn_random_u64(&random);
}

// Eight words from each random number, one from each of its bytes.
void cn_words_write(uint64_t seed, uint32_t count, cn_buf *out)
{
    const cn_random random = cn_random_seeded(&seed);
    char *at = cn_buf_reserve(out, (size_t)count * (sizeof words[0] + 1));
    if (!at) return;
    char *const start = at;
    for (uint64_t i = 0, bits = 0; i < count; i++, bits >>= 8) {
        if (i % 8 == 0) bits = cn_random_u64(&random);
        const char *word = words[bits % WORD_COUNT];
        *at++ = ' ';
        for (size_t k = 0; k < sizeof words[0] && word[k]; k++) *at++ = word[k];
    }
    cn_buf_advance(out, (size_t)(at - start));
}

void cn_words_write_ids(uint64_t seed, uint32_t count, uint32_t vocab, cn_buf *out)
{
    const cn_random random = cn_random_seeded(&seed);
    for (uint32_t i = 0; i < count; i++) {
        cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, ID_MIN + cn_random_u64(&random) % (vocab - ID_MIN));
    }
}
