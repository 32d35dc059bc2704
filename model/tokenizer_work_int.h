/* model/tokenizer_work_int.h: what one call of encode carries through its stages: the arena, the
 * scratch of the regex engine, the ids found so far.
 *
 * Threads: one.
 * Memory:  everything is in the caller's arena and goes with it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/arena.h"
#include "base/err.h"

typedef struct cn_bpe_scratch cn_bpe_scratch;

typedef struct cn_tokenizer_work {
    cn_arena *arena;
    cn_err *err;
    pcre2_match_data *match;         // made by the first pattern that needs it
    cn_bpe_scratch *bpe;             // made by the first word that needs it
    int32_t *ids;
    uint32_t count, capacity;
    uint32_t tokens_max;             // UINT32_MAX: no limit
} cn_tokenizer_work;

/* A piece of text between two stages, well-formed UTF-8, borrowed. */
typedef struct cn_tokenizer_text {
    const char *at;
    size_t len;
    bool first;                      // begins where the whole input begins
} cn_tokenizer_text;

cn_code cn_tokenizer_work_memory(const cn_tokenizer_work *work);   // the error "arena full"

/* Appends ids. Errors: CN_E_LIMIT (above tokens_max), CN_E_MEMORY. */
cn_code cn_tokenizer_work_add(cn_tokenizer_work *work, const int32_t *ids, uint32_t count);
