/* model/tokenizer_unicode_int.h: characters as `tokenizers` sees them.
 * The library and we read Unicode data of different versions; token for token equality needs its
 * view. Our data is PCRE2's and utf8proc's, and the differences are a generated table.
 *
 * Threads: any, nothing is kept.
 * Memory:  shadow takes a copy of the text from the arena, only where one is needed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

typedef struct cn_tokenizer_unicode_range {
    int32_t first, last;
    int32_t value;
} cn_tokenizer_unicode_range;

/* The character at `text`, which is well-formed UTF-8; *step is its length. */
static inline int32_t cn_tokenizer_unicode_at(const char *text, size_t *step)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) {
        *step = 1;
        return at[0];
    }
    if (at[0] < 0xE0) {
        *step = 2;
        return (at[0] & 0x1F) << 6 | (at[1] & 0x3F);
    }
    if (at[0] < 0xF0) {
        *step = 3;
        return (at[0] & 0x0F) << 12 | (at[1] & 0x3F) << 6 | (at[2] & 0x3F);
    }
    *step = 4;
    return (at[0] & 0x07) << 18 | (at[1] & 0x3F) << 12 | (at[2] & 0x3F) << 6 | (at[3] & 0x3F);
}

/* Length of the character at `text`, which is well-formed UTF-8. */
static inline size_t cn_tokenizer_unicode_step(const char *text)
{
    const unsigned char lead = (unsigned char)*text;
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

bool cn_tokenizer_unicode_is_space(int32_t c);         // White_Space
bool cn_tokenizer_unicode_is_word(int32_t c);          // \w of Rust's regex
bool cn_tokenizer_unicode_is_numeric(int32_t c);       // char::is_numeric
bool cn_tokenizer_unicode_is_punctuation(int32_t c);   // what the Punctuation pre-tokenizer splits on

/* Lower case of one character: 1 or 2 characters in `out`. */
int cn_tokenizer_unicode_lower(int32_t c, int32_t out[2]);

/* True where the library's normalization forms neither change, move nor join the character. */
bool cn_tokenizer_unicode_is_inert(int32_t c);

/* A text of the same length in which PCRE2 finds the matches that the library's regex engine finds
 * in `text`: characters that PCRE2 does not know are replaced by ones of the same category and the
 * same length. It is `text` itself if there are none; NULL: no memory. */
const char *cn_tokenizer_unicode_shadow(const char *text, size_t len, cn_arena *arena);
