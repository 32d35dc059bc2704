#include "model/tokenizer_vocab_int.h"

#include <string.h>

#include "base/assert.h"

static bool grow(cn_tokenizer_vocab *vocab, uint32_t need)
{
    const uint32_t half_more = vocab->capacity + vocab->capacity / 2;
    const uint32_t capacity = need + 1024 > half_more ? need + 1024 : half_more;
    cn_tokenizer_vocab_entry *tokens = cn_arena_take_array(vocab->arena, capacity, sizeof *tokens);
    if (!tokens) return false;
    if (vocab->count) memcpy(tokens, vocab->tokens, vocab->count * sizeof *tokens);
    vocab->tokens = tokens;
    vocab->capacity = capacity;
    return true;
}

cn_code cn_tokenizer_vocab_open(cn_tokenizer_vocab *vocab, uint32_t count_hint, cn_arena *arena)
{
    *vocab = (cn_tokenizer_vocab){.arena = arena};
    if (cn_map_open(count_hint, 0, &vocab->by_text) != CN_OK) return CN_E_MEMORY;
    return grow(vocab, count_hint) ? CN_OK : CN_E_MEMORY;
}

void cn_tokenizer_vocab_close(cn_tokenizer_vocab *vocab)
{
    cn_map_close(vocab->by_text);
    vocab->by_text = NULL;
}

cn_code cn_tokenizer_vocab_add(cn_tokenizer_vocab *vocab, int32_t id, const char *text,
                               uint32_t len)
{
    const uint32_t index = (uint32_t)id;
    CN_ASSERT(id >= 0 && id <= CN_TOKENIZER_ID_MAX);
    if (index >= vocab->capacity && !grow(vocab, index + 1)) return CN_E_MEMORY;
    CN_ASSERT(!vocab->tokens[index].text);
    const char *copy = cn_arena_copy(vocab->arena, text, len);
    if (!copy) return CN_E_MEMORY;
    vocab->tokens[index] = (cn_tokenizer_vocab_entry){
        .text = copy, .shown = copy, .len = len, .shown_len = len};
    if (index >= vocab->count) vocab->count = index + 1;
    return cn_map_put(vocab->by_text, copy, len, index);
}

const cn_tokenizer_vocab_entry *cn_tokenizer_vocab_at(const cn_tokenizer_vocab *vocab, int32_t id)
{
    if (id < 0 || (uint32_t)id >= vocab->count || !vocab->tokens[id].text) return NULL;
    return &vocab->tokens[id];
}

int32_t cn_tokenizer_vocab_find(const cn_tokenizer_vocab *vocab, const char *text, uint32_t len)
{
    uint64_t id;
    return cn_map_find(vocab->by_text, text, len, &id) ? (int32_t)id : -1;
}
