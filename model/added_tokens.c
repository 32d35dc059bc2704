#include "model/added_tokens_int.h"

#include <stdio.h>
#include <string.h>

#include "model/tokenizer_kinds_int.h"
#include "model/tokenizer_unicode_int.h"

/* How it works. From left to right, the longest token that begins at a place wins and the search goes
 * on behind it, also where the token is then refused (a special token that is to be ordinary text, a
 * whole word that is part of one): no other token is found within its bytes. A table of first bytes
 * passes over text in which no token can begin. A token with lstrip or rstrip takes the white space
 * beside it along. */

static uint32_t child_of(const cn_added_trie *trie, uint32_t node, unsigned char byte)
{
    if (node == 0) return trie->starts[byte];
    uint32_t at = trie->nodes[node].child;
    while (at && trie->nodes[at].byte != byte) at = trie->nodes[at].sibling;
    return at;
}

// A new child, 0: no memory.
static uint32_t add_child(cn_added_trie *trie, cn_arena *arena, uint32_t node, unsigned char byte)
{
    if (trie->count == trie->capacity) {
        const uint32_t capacity = trie->capacity ? trie->capacity * 2 : 256;
        cn_added_node *nodes = cn_arena_take_array(arena, capacity, sizeof *nodes);
        if (!nodes) return 0;
        if (trie->count) memcpy(nodes, trie->nodes, trie->count * sizeof *nodes);
        trie->nodes = nodes;
        trie->capacity = capacity;
        if (!trie->count) trie->count = 1;
    }
    const uint32_t child = trie->count++;
    trie->nodes[child] = (cn_added_node){.byte = byte};
    if (node == 0) {
        trie->starts[byte] = child;
    } else {
        trie->nodes[child].sibling = trie->nodes[node].child;
        trie->nodes[node].child = child;
    }
    return child;
}

static bool add_to_trie(cn_added_trie *trie, cn_arena *arena, const char *text, size_t len,
                        uint32_t token)
{
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)text[i];
        const uint32_t child = child_of(trie, node, byte);
        node = child ? child : add_child(trie, arena, node, byte);
        if (!node) return false;
    }
    if (!trie->nodes[node].token) trie->nodes[node].token = token + 1;
    return true;
}

// Puts a token whose id or text the vocabulary may have already.
static cn_code place(const cn_json_object *object, cn_tokenizer_vocab *vocab, int32_t id,
                     const char *text, cn_err *err)
{
    const uint32_t len = (uint32_t)strlen(text);
    const int32_t known = cn_tokenizer_vocab_find(vocab, text, len);
    if (known == id) return CN_OK;
    if (known >= 0) {
        return cn_json_file_refuse(object, "id", CN_E_FORMAT, err,
                                   "must be %d, the id of \"%.40s\" in model.vocab", known, text);
    }
    const cn_tokenizer_vocab_entry *other = cn_tokenizer_vocab_at(vocab, id);
    if (other) {
        return cn_json_file_refuse(object, "id", CN_E_FORMAT, err,
                                   "must be an id of its own, and \"%.40s\" has it", other->text);
    }
    if (cn_tokenizer_vocab_add(vocab, id, text, len) == CN_OK) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY, "%s: no memory for the vocabulary", object->file);
}

static cn_code read_flags(const cn_json_object *object, cn_added_token *token, cn_err *err)
{
    const struct {
        const char *field;
        bool *value;
    } flags[] = {{"special", &token->special},       {"single_word", &token->single_word},
                 {"lstrip", &token->lstrip},         {"rstrip", &token->rstrip},
                 {"normalized", &token->normalized}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const cn_code code = cn_tokenizer_kinds_flag(object, flags[i].field, flags[i].value, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

/* Enters the token into the trie of the text that it is looked for in. A normalized one is also shown
 * in its normal form when it is decoded: so does the library. */
static cn_code enter(const cn_json_object *object, const cn_normalizer *normalizer,
                     cn_tokenizer_vocab *vocab, cn_added_tokens *added, cn_err *err)
{
    const uint32_t index = added->count++;
    cn_tokenizer_vocab_entry *entry = &vocab->tokens[added->tokens[index].id];
    cn_tokenizer_work work = {.arena = vocab->arena, .err = err, .tokens_max = UINT32_MAX};
    cn_tokenizer_text text = {entry->text, entry->len, true};
    cn_added_trie *trie = &added->raw;
    if (added->tokens[index].normalized) {
        const cn_code code = cn_normalizer_run(normalizer, &work, &text);
        if (code != CN_OK) return code;
        trie = &added->normalized;
        entry->shown = text.at;
        entry->shown_len = (uint32_t)text.len;
    }
    if (text.len == 0) return CN_OK;
    if (add_to_trie(trie, vocab->arena, text.at, text.len, index)) return CN_OK;
    return cn_err_set(err, CN_E_MEMORY, "%s: no memory for added tokens", object->file);
}

static cn_code read_token(const cn_json_object *object, const cn_normalizer *normalizer,
                          cn_tokenizer_vocab *vocab, cn_added_tokens *added, cn_err *err)
{
    const char *content;
    uint32_t id = UINT32_MAX;
    cn_added_token token = {0};
    cn_code code = cn_tokenizer_kinds_text(object, "content", &content, err);
    if (code == CN_OK) code = cn_json_file_u32(object, "id", 0, CN_TOKENIZER_ID_MAX, &id, err);
    if (code == CN_OK && id == UINT32_MAX) {
        return cn_json_file_refuse(object, "id", CN_E_FORMAT, err,
                                   "must be an integer from 0 to %d", CN_TOKENIZER_ID_MAX);
    }
    if (code == CN_OK) code = read_flags(object, &token, err);
    if (code == CN_OK) code = place(object, vocab, (int32_t)id, content, err);
    if (code != CN_OK) return code;
    token.id = (int32_t)id;
    vocab->tokens[id].special |= token.special;
    added->tokens[added->count] = token;
    return enter(object, normalizer, vocab, added, err);
}

cn_code cn_added_tokens_read(const cn_json_object *root, const cn_normalizer *normalizer,
                             cn_tokenizer_vocab *vocab, cn_added_tokens *added, cn_err *err)
{
    *added = (cn_added_tokens){0};
    const json_t *list = cn_json_file_find(root, "added_tokens");
    if (!list) return CN_OK;
    if (!json_is_array(list)) {
        return cn_json_file_refuse(root, "added_tokens", CN_E_FORMAT, err, "must be an array");
    }
    added->tokens = cn_arena_take_array(vocab->arena, json_array_size(list), sizeof *added->tokens);
    if (!added->tokens) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", root->file);
    cn_code code = CN_OK;
    for (size_t i = 0; i < json_array_size(list) && code == CN_OK; i++) {
        cn_json_object object = {json_array_get(list, i), root->file, ""};
        snprintf(object.prefix, sizeof object.prefix, "added_tokens[%zu].", i);
        code = read_token(&object, normalizer, vocab, added, err);
    }
    return code;
}

// The longest token that begins at `at`, NULL if none does.
static const cn_added_token *match(const cn_added_tokens *added, const cn_added_trie *trie,
                                   const cn_tokenizer_text *text, size_t at, size_t *end)
{
    uint32_t token = 0;
    uint32_t node = trie->starts[(unsigned char)text->at[at]];
    for (size_t i = at + 1; node; i++) {
        if (trie->nodes[node].token) {
            token = trie->nodes[node].token;
            *end = i;
        }
        node = i < text->len ? child_of(trie, node, (unsigned char)text->at[i]) : 0;
    }
    return token ? &added->tokens[token - 1] : NULL;
}

static size_t char_before(const char *text, size_t at)
{
    do at--;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static bool is_inside_word(const cn_tokenizer_text *text, size_t start, size_t end)
{
    size_t step;
    if (start > 0) {
        const char *before = text->at + char_before(text->at, start);
        if (cn_tokenizer_unicode_is_word(cn_tokenizer_unicode_at(before, &step))) return true;
    }
    return end < text->len &&
           cn_tokenizer_unicode_is_word(cn_tokenizer_unicode_at(text->at + end, &step));
}

static size_t strip_left(const cn_tokenizer_text *text, size_t start, size_t bound)
{
    while (start > bound) {
        size_t step;
        const size_t before = char_before(text->at, start);
        const int32_t c = cn_tokenizer_unicode_at(text->at + before, &step);
        if (!cn_tokenizer_unicode_is_space(c)) break;
        start = before;
    }
    return start;
}

static size_t strip_right(const cn_tokenizer_text *text, size_t end)
{
    for (size_t step; end < text->len; end += step) {
        if (!cn_tokenizer_unicode_is_space(cn_tokenizer_unicode_at(text->at + end, &step))) break;
    }
    return end;
}

typedef struct between {
    cn_tokenizer_work *work;
    const cn_tokenizer_text *text;
    cn_added_tokens_sink *take;
    const void *sink;
} between;

static cn_code pass_on(const between *b, size_t start, size_t end)
{
    if (start >= end) return CN_OK;
    const cn_tokenizer_text piece = {b->text->at + start, end - start,
                                     b->text->first && start == 0};
    return b->take(b->sink, b->work, &piece);
}

cn_code cn_added_tokens_run(const cn_added_tokens *added, const cn_added_trie *trie,
                            bool split_special, cn_tokenizer_work *work,
                            const cn_tokenizer_text *text, cn_added_tokens_sink *take,
                            const void *sink)
{
    const between b = {work, text, take, sink};
    size_t done = 0, at = trie->count ? 0 : text->len;
    while (at < text->len) {
        size_t end = 0;
        const cn_added_token *token = match(added, trie, text, at, &end);
        if (!token) {
            at++;
            continue;
        }
        size_t start = at;
        at = end;
        if (split_special && token->special) continue;
        if (token->single_word && is_inside_word(text, start, end)) continue;
        if (token->lstrip) start = strip_left(text, start, done);
        if (token->rstrip) end = strip_right(text, end);
        cn_code code = pass_on(&b, done, start);
        if (code == CN_OK) code = cn_tokenizer_work_add(work, &token->id, 1);
        if (code != CN_OK) return code;
        done = end;
    }
    return pass_on(&b, done, text->len);
}
