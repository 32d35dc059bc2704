/* bench/words.h: text of a wanted length made from a seed: short, common words, which most large
 * vocabularies write as one token each. Equal seeds give equal text, and a longer text begins with
 * the shorter one of the same seed, so that shared prefixes are shared.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include <stdint.h>

#include "base/buf.h"

/* `count` words, a space before each. Needs no escape in JSON. */
void cn_words_write(uint64_t seed, uint32_t count, cn_buf *out);

/* `count` token ids below `vocab`, a comma before each; none is below 16, where control tokens
 * are. */
void cn_words_write_ids(uint64_t seed, uint32_t count, uint32_t vocab, cn_buf *out);

/* One seed from two numbers, so that neither can be read off the result. */
uint64_t cn_words_mix(uint64_t a, uint64_t b);
