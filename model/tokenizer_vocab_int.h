/* model/tokenizer_vocab_int.h: ids and the tokens they stand for, from the model's vocabulary and
 * from the added tokens together.
 *
 * Threads: one while it is filled, any afterwards.
 * Memory:  tokens are copied into the given arena; 40 bytes and a map entry each. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"

enum { CN_TOKENIZER_ID_MAX = (1 << 24) - 1 };

typedef struct cn_tokenizer_vocab_entry {
    const char *text;                // terminated; NULL: no token has this id
    const char *shown;               // what the decoder gets: the normal form of some added tokens
    uint32_t len, shown_len;
    bool special;
} cn_tokenizer_vocab_entry;

typedef struct cn_tokenizer_vocab {
    cn_arena *arena;
    cn_tokenizer_vocab_entry *tokens;
    uint32_t count, capacity;        // count: largest id + 1
    cn_map *by_text;
} cn_tokenizer_vocab;

cn_code cn_tokenizer_vocab_open(cn_tokenizer_vocab *vocab, uint32_t count_hint, cn_arena *arena);
void cn_tokenizer_vocab_close(cn_tokenizer_vocab *vocab);

/* Adds a token whose id and text are both new; the caller has checked that.
 * Errors: CN_E_MEMORY. */
cn_code cn_tokenizer_vocab_add(cn_tokenizer_vocab *vocab, int32_t id, const char *text,
                               uint32_t len);

/* The token of an id, NULL if there is none. */
const cn_tokenizer_vocab_entry *cn_tokenizer_vocab_at(const cn_tokenizer_vocab *vocab, int32_t id);
/* The id of a text, -1 if there is none. */
int32_t cn_tokenizer_vocab_find(const cn_tokenizer_vocab *vocab, const char *text, uint32_t len);
