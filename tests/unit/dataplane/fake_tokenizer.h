/* tests/unit/dataplane/fake_tokenizer.h: a tokenizer that a test can predict: a byte is a token.
 * Ids 0 to 255 are bytes; above are special tokens: <|begin|>, <|end|>, <|user|>, <|assistant|> and
 * <|end|><|user|> (one that contains others). It takes the place of model/tokenizer.c and
 * model/detokenizer.c in the program that includes it.
 *
 * Threads: one.
 * Memory:  none of its own. */
#pragma once

#include <string.h>

#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/tokenizer.h"

enum { FAKE_BEGIN = 256, FAKE_END, FAKE_USER, FAKE_ASSISTANT, FAKE_BOTH, FAKE_VOCAB };

static const char *const fake_specials[] = {"<|begin|>", "<|end|>", "<|user|>", "<|assistant|>",
                                            "<|end|><|user|>"};

static uint32_t fake_encode_count;       // calls so far
static uint64_t fake_encoded_bytes;      // bytes given to them

static int32_t fake_special_at(const char *text, size_t len, size_t *token_len)
{
    int32_t best = -1;
    *token_len = 1;
    for (int32_t id = FAKE_BEGIN; id < FAKE_VOCAB; id++) {
        const size_t n = strlen(fake_specials[id - FAKE_BEGIN]);
        if (n > len || memcmp(text, fake_specials[id - FAKE_BEGIN], n) || n < *token_len) continue;
        best = id;
        *token_len = n;
    }
    return best;
}

cn_code cn_tokenizer_encode(const cn_tokenizer *tokenizer, const char *text, size_t len,
                            const cn_encode_options *options, cn_arena *arena, cn_token_list *out,
                            cn_err *err)
{
    (void)tokenizer;
    int32_t *ids = cn_arena_take_array(arena, len + 1, sizeof *ids);
    uint32_t count = 0;
    fake_encode_count++;
    fake_encoded_bytes += len;
    if (!ids) return cn_err_set(err, CN_E_MEMORY, "no memory");
    if (options->add_special_tokens) ids[count++] = FAKE_BEGIN;
    for (size_t at = 0, n; at < len; at += n) {
        int32_t id = fake_special_at(text + at, len - at, &n);
        if (id < 0 || options->split_special) {
            id = (unsigned char)text[at];
            n = 1;
        }
        ids[count++] = id;
    }
    *out = (cn_token_list){ids, count};
    if (options->tokens_max && count > options->tokens_max) {
        return cn_err_set(err, CN_E_LIMIT, "too many tokens");
    }
    return CN_OK;
}

void cn_detokenizer_bytes(const cn_tokenizer *tokenizer, int32_t id, cn_buf *out)
{
    (void)tokenizer;
    if (id >= FAKE_BEGIN && id < FAKE_VOCAB) cn_buf_add_text(out, fake_specials[id - FAKE_BEGIN]);
    else if (id >= 0 && id < 256) cn_buf_add_char(out, (char)id);
}

void cn_tokenizer_decode(const cn_tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         bool skip_special, cn_buf *out)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!skip_special || ids[i] < FAKE_BEGIN) cn_detokenizer_bytes(tokenizer, ids[i], out);
    }
}

uint32_t cn_tokenizer_vocab_count(const cn_tokenizer *tokenizer)
{
    (void)tokenizer;
    return FAKE_VOCAB;
}

int32_t cn_tokenizer_find(const cn_tokenizer *tokenizer, const char *content, size_t len)
{
    (void)tokenizer;
    size_t n;
    const int32_t id = fake_special_at(content, len, &n);
    return id >= 0 && n == len ? id : len == 1 ? (unsigned char)*content : -1;
}

const char *cn_tokenizer_token(const cn_tokenizer *tokenizer, int32_t id)
{
    static char byte[256][2];
    (void)tokenizer;
    if (id >= FAKE_BEGIN && id < FAKE_VOCAB) return fake_specials[id - FAKE_BEGIN];
    if (id < 0 || id > 255) return NULL;
    byte[id][0] = (char)id;
    return byte[id];
}

bool cn_tokenizer_is_special(const cn_tokenizer *tokenizer, int32_t id)
{
    (void)tokenizer;
    return id >= FAKE_BEGIN && id < FAKE_VOCAB;
}

void cn_detokenizer_init(cn_detokenizer *detokenizer, const cn_tokenizer *tokenizer,
                         bool skip_special)
{
    *detokenizer = (cn_detokenizer){.tokenizer = tokenizer, .skip_special = skip_special};
}

void cn_detokenizer_push(cn_detokenizer *d, int32_t id, cn_buf *out)
{
    if (id >= FAKE_BEGIN) {
        cn_detokenizer_finish(d, out);
        if (!d->skip_special) cn_detokenizer_bytes(d->tokenizer, id, out);
        return;
    }
    d->held[d->held_count++] = (char)id;
    if (cn_utf8_partial_len(d->held, d->held_count) == d->held_count) return;
    if (cn_utf8_len(d->held, d->held_count)) cn_buf_add(out, d->held, d->held_count);
    else cn_buf_add_text(out, "\xEF\xBF\xBD");
    d->held_count = 0;
}

void cn_detokenizer_finish(cn_detokenizer *d, cn_buf *out)
{
    if (d->held_count) cn_buf_add_text(out, "\xEF\xBF\xBD");
    d->held_count = 0;
}
