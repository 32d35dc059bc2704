#include "model/bpe_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/tokenizer_bytes_int.h"
#include "model/tokenizer_kinds_int.h"
#include "model/tokenizer_unicode_int.h"

/* Reads the model of tokenizer.json and prepares what encoding wants to know: the pair table, the
 * symbols of bytes and characters, and the map of texts that are one token, so that a word which is
 * in the vocabulary costs one lookup. Not every token is such a text: some are reached only from
 * within a longer word, so each is merged once here to see what becomes of it. */

#define SPACE_MARK "\xE2\x96\x81"                // U+2581, a space in SentencePiece vocabularies

static cn_code no_memory(const cn_json_object *object, cn_err *err)
{
    return cn_err_set(err, CN_E_MEMORY, "%s: no memory for the vocabulary", object->file);
}

static cn_code read_vocab(const cn_json_object *model, cn_tokenizer_vocab *vocab, cn_err *err)
{
    cn_json_object object;
    const char *text;
    json_t *value;
    cn_code code = cn_json_file_child(model, "vocab", &object, err);
    if (code != CN_OK) return code;
    if (!object.value) {
        return cn_json_file_refuse(model, "vocab", CN_E_FORMAT, err, "must be an object of ids");
    }
    json_object_foreach((json_t *)object.value, text, value) {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > CN_TOKENIZER_ID_MAX) {
            return cn_json_file_refuse(&object, text, CN_E_FORMAT, err,
                                       "must be an integer from 0 to %d", CN_TOKENIZER_ID_MAX);
        }
        if (cn_tokenizer_vocab_at(vocab, (int32_t)id)) {
            return cn_json_file_refuse(&object, text, CN_E_FORMAT, err,
                                       "must be an id that no other token has");
        }
        code = cn_tokenizer_vocab_add(vocab, (int32_t)id, text, (uint32_t)strlen(text));
        if (code != CN_OK) return no_memory(&object, err);
    }
    return CN_OK;
}

// The two sides of a merge: "a b" or ["a", "b"].
static bool split_merge(const json_t *merge, const char *sides[2], size_t lens[2])
{
    if (json_is_array(merge)) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *side = json_array_get(merge, i);
            if (json_array_size(merge) != 2 || !json_is_string(side)) return false;
            sides[i] = json_string_value(side);
            lens[i] = json_string_length(side);
        }
        return true;
    }
    const char *text = json_string_value(merge);
    const char *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' ')) return false;
    sides[0] = text;
    lens[0] = (size_t)(space - text);
    sides[1] = space + 1;
    lens[1] = strlen(space + 1);
    return true;
}

static cn_code refuse_merge(const cn_json_object *model, size_t index, const json_t *merge,
                            const char *right, cn_err *err)
{
    char *shown = json_dumps(merge, JSON_ENCODE_ANY | JSON_COMPACT);
    const cn_code code = cn_err_set(err, CN_E_FORMAT, "%s: model.merges[%zu]: %.100s; %s",
                                    model->file, index, shown ? shown : "?", right);
    free(shown);
    return code;
}

static uint32_t hash_of(uint64_t key) { return (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32); }

cn_bpe_pair *cn_bpe_pair_seek(const cn_bpe *bpe, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t at = hash_of(key) & bpe->pair_mask;; at = (at + 1) & bpe->pair_mask) {
        cn_bpe_pair *pair = &bpe->pairs[at];
        if (pair->merged < 0 || pair->key == key) return pair;
    }
}

static cn_code add_merge(const cn_json_object *model, size_t index, const json_t *merge,
                         const cn_tokenizer_vocab *vocab, cn_bpe *bpe, cn_buf *joined, cn_err *err)
{
    const char *sides[2];
    size_t lens[2];
    if (!split_merge(merge, sides, lens)) {
        return refuse_merge(model, index, merge, "must be \"a b\" or [\"a\", \"b\"]", err);
    }
    cn_buf_clear(joined);
    cn_buf_add(joined, sides[0], lens[0]);
    cn_buf_add(joined, sides[1], lens[1]);
    if (joined->overflowed) return no_memory(model, err);
    const int32_t left = cn_tokenizer_vocab_find(vocab, sides[0], (uint32_t)lens[0]);
    const int32_t right = cn_tokenizer_vocab_find(vocab, sides[1], (uint32_t)lens[1]);
    int32_t merged = -1;
    if (joined->len) merged = cn_tokenizer_vocab_find(vocab, joined->data, (uint32_t)joined->len);
    if (left < 0 || right < 0 || merged < 0) {
        return refuse_merge(model, index, merge,
                            "both sides and what they make must be in model.vocab", err);
    }
    cn_bpe_pair *pair = cn_bpe_pair_seek(bpe, left, right);
    pair->key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    pair->rank = (uint32_t)index;    // of a pair that is listed twice the later rank counts
    pair->merged = merged;
    return CN_OK;
}

static cn_code read_merges(const cn_json_object *model, const cn_tokenizer_vocab *vocab,
                           cn_bpe *bpe, cn_err *err)
{
    const json_t *merges = cn_json_file_find(model, "merges");
    const size_t count = json_array_size(merges);
    if (!json_is_array(merges) || count > CN_TOKENIZER_ID_MAX) {
        return cn_json_file_refuse(model, "merges", CN_E_FORMAT, err,
                                   "must be an array of at most %d merges", CN_TOKENIZER_ID_MAX);
    }
    uint32_t capacity = 16;
    while (capacity < count * 2) capacity *= 2;
    bpe->pairs = cn_arena_take_array(vocab->arena, capacity, sizeof *bpe->pairs);
    if (!bpe->pairs) return no_memory(model, err);
    for (uint32_t i = 0; i < capacity; i++) bpe->pairs[i].merged = -1;
    bpe->pair_mask = capacity - 1;
    cn_buf joined;
    cn_buf_init(&joined, 1 << 24);
    cn_code code = CN_OK;
    for (size_t i = 0; i < count && code == CN_OK; i++) {
        code = add_merge(model, i, json_array_get(merges, i), vocab, bpe, &joined, err);
    }
    cn_buf_close(&joined);
    return code;
}

// Options that change the algorithm and that no model of the families we serve sets.
static cn_code refuse_options(const cn_json_object *model, cn_err *err)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = "BPE";
    double dropout = 0;
    cn_code code = cn_json_file_string(model, "type", &type, err);
    if (code == CN_OK && strcmp(type, "BPE") != 0) {
        return cn_json_file_refuse(model, "type", CN_E_UNSUPPORTED, err, "Cairn reads BPE");
    }
    if (code == CN_OK) code = cn_json_file_double(model, "dropout", 0, 1, &dropout, err);
    if (code == CN_OK && dropout > 0) {
        return cn_json_file_refuse(model, "dropout", CN_E_UNSUPPORTED, err,
                                   "Cairn reads null or 0");
    }
    for (size_t i = 0; i < 2 && code == CN_OK; i++) {
        const char *affix = "";
        code = cn_json_file_string(model, affixes[i], &affix, err);
        if (code == CN_OK && *affix) {
            return cn_json_file_refuse(model, affixes[i], CN_E_UNSUPPORTED, err,
                                       "Cairn reads null or \"\"");
        }
    }
    return code;
}

static cn_code read_options(const cn_json_object *model, cn_bpe *bpe, cn_err *err)
{
    cn_code code = refuse_options(model, err);
    if (code == CN_OK) code = cn_json_file_bool(model, "fuse_unk", &bpe->fuse_unk, err);
    if (code == CN_OK) code = cn_json_file_bool(model, "byte_fallback", &bpe->byte_fallback, err);
    if (code == CN_OK) code = cn_json_file_bool(model, "ignore_merges", &bpe->ignore_merges, err);
    return code;
}

static cn_code read_unk(const cn_json_object *model, const cn_tokenizer_vocab *vocab, cn_bpe *bpe,
                        cn_err *err)
{
    const char *text = "";
    const cn_code code = cn_json_file_string(model, "unk_token", &text, err);
    if (code != CN_OK || !*text) return code;
    bpe->unk = cn_tokenizer_vocab_find(vocab, text, (uint32_t)strlen(text));
    if (bpe->unk >= 0) return CN_OK;
    return cn_json_file_refuse(model, "unk_token", CN_E_FORMAT, err, "must be in model.vocab");
}

// The id of every byte: as a character of the alphabet, or as "<0x0A>".
static cn_code read_bytes(const cn_json_object *model, const cn_tokenizer_vocab *vocab, cn_bpe *bpe,
                          cn_err *err)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        const int32_t c = cn_tokenizer_bytes_char((unsigned char)byte);
        if (!bpe->byte_level) snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        else if (c < 0x80) snprintf(text, sizeof text, "%c", (char)c);
        else snprintf(text, sizeof text, "%c%c", (char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F)));
        bpe->byte_ids[byte] = cn_tokenizer_vocab_find(vocab, text, (uint32_t)strlen(text));
        if (bpe->byte_level && bpe->byte_fallback && bpe->byte_ids[byte] < 0) {
            return cn_json_file_refuse(model, "byte_fallback", CN_E_UNSUPPORTED, err,
                                       "Cairn reads it under ByteLevel only if model.vocab has all "
                                       "256 bytes, and 0x%02X is missing", (unsigned)byte);
        }
    }
    for (int c = 0; c < 128; c++) {
        const char text = (char)c;
        bpe->ascii_ids[c] = cn_tokenizer_vocab_find(vocab, &text, 1);
    }
    return CN_OK;
}

/* What the token is as text that reaches the model; false if it is none. Bytes of a byte-level token
 * are copied into the arena. */
static bool text_of(const cn_bpe *bpe, const cn_tokenizer_vocab_entry *token, cn_arena *arena,
                    const char **text, size_t *len)
{
    *text = token->text;
    *len = token->len;
    if (!bpe->byte_level) return token->len > 0;
    char *bytes = cn_arena_take(arena, token->len + 1);
    if (!bytes) return false;
    *len = cn_tokenizer_bytes_of(token->text, token->len, bytes);
    *text = bytes;
    return *len != SIZE_MAX && *len > 0;
}

static cn_code put_whole(cn_bpe *bpe, const char *text, size_t len, int32_t id)
{
    if (len > bpe->whole_len_max) bpe->whole_len_max = (uint32_t)len;
    return cn_map_put(bpe->whole, text, (uint32_t)len, (uint32_t)id);
}

static bool is_one_symbol(const cn_bpe *bpe, const char *text, size_t len)
{
    return len == (bpe->byte_level ? 1 : cn_tokenizer_unicode_step(text));
}

/* Single symbols first: the merging that judges longer tokens looks them up. */
static cn_code find_whole(const cn_tokenizer_vocab *vocab, cn_bpe *bpe, cn_tokenizer_work *work)
{
    for (int round = 0; round < 2; round++) {
        for (uint32_t id = 0; id < vocab->count; id++) {
            const char *text;
            size_t len;
            bool whole = true;
            const cn_tokenizer_vocab_entry *token = &vocab->tokens[id];
            if (!token->text || !text_of(bpe, token, vocab->arena, &text, &len)) continue;
            if (is_one_symbol(bpe, text, len) != (round == 0)) continue;
            cn_code code = CN_OK;
            if (round == 1 && !bpe->ignore_merges) {
                code = cn_bpe_is_whole(bpe, work, text, len, (int32_t)id, &whole);
            }
            if (code == CN_OK && whole) code = put_whole(bpe, text, len, (int32_t)id);
            if (code != CN_OK) return code;
        }
    }
    return CN_OK;
}

static bool has_inner_mark(const cn_tokenizer_vocab_entry *token)
{
    const char *at = token->text;
    while (strncmp(at, SPACE_MARK, 3) == 0) at += 3;
    return strstr(at, SPACE_MARK);
}

/* Where no token holds a mark behind another character, nothing merges across such a place, and long
 * text that no pre-tokenizer has cut falls into words. */
static bool can_break(const cn_bpe *bpe, const cn_tokenizer_vocab *vocab)
{
    if (bpe->byte_level || cn_tokenizer_vocab_find(vocab, SPACE_MARK, 3) < 0) return false;
    for (uint32_t id = 0; id < vocab->count; id++) {
        if (vocab->tokens[id].text && has_inner_mark(&vocab->tokens[id])) return false;
    }
    return true;
}

static cn_code prepare(const cn_json_object *model, const cn_tokenizer_vocab *vocab, cn_bpe *bpe,
                       cn_err *err)
{
    cn_arena arena;
    cn_arena_init(&arena, (uint64_t)1 << 32);
    cn_tokenizer_work work = {.arena = &arena, .tokens_max = UINT32_MAX};
    cn_code code = cn_map_open(cn_map_count(vocab->by_text), 0, &bpe->whole);
    if (code == CN_OK) code = find_whole(vocab, bpe, &work);
    cn_arena_close(&arena);
    bpe->breaks = can_break(bpe, vocab);
    return code == CN_OK ? CN_OK : no_memory(model, err);
}

cn_code cn_bpe_read(const cn_json_object *root, bool byte_level, cn_tokenizer_vocab *vocab,
                    cn_bpe *bpe, cn_err *err)
{
    cn_json_object model;
    *bpe = (cn_bpe){.byte_level = byte_level, .unk = -1};
    cn_code code = cn_json_file_child(root, "model", &model, err);
    if (code != CN_OK) return code;
    if (!model.value) {
        return cn_json_file_refuse(root, "model", CN_E_FORMAT, err, "must be an object");
    }
    if (code == CN_OK) code = read_options(&model, bpe, err);
    if (code == CN_OK) code = read_vocab(&model, vocab, err);
    if (code == CN_OK) code = read_unk(&model, vocab, bpe, err);
    if (code == CN_OK) code = read_bytes(&model, vocab, bpe, err);
    if (code == CN_OK) code = read_merges(&model, vocab, bpe, err);
    if (code == CN_OK) code = prepare(&model, vocab, bpe, err);
    return code;
}

void cn_bpe_close(cn_bpe *bpe)
{
    cn_map_close(bpe->whole);
    bpe->whole = NULL;
}
