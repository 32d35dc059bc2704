#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/tokenizer_int.h"
#include "model/tokenizer_kinds_int.h"

/* How it works. A text goes through the stages that the file names, and each stage hands its pieces
 * to the next one as it finds them, so that no list of pieces exists:
 *
 *    text ─▶ raw added tokens ─▶ normalizer ─▶ normalized added tokens ─▶ pre-tokenizer ─▶ BPE ─▶ ids
 *                  └────────────────────── ids ──────┘
 *
 * Each stage between two added tokens begins anew, as in the library: a normalizer that prepends
 * prepends to every such piece. The post-processor's ids go before and behind. The fields truncation
 * and padding are not read: they are settings of a training run, and a prompt is never cut. */

enum { ARENA_BYTES_MAX = 1 << 30, TEXT_BYTES_MAX = 1 << 30 };

static cn_code read_parts(const cn_json_object *root, cn_tokenizer *t, cn_err *err)
{
    static const cn_tokenizer_word versions[] = {{"1.0", 1}, {NULL, 0}};
    int version;
    cn_code code = cn_tokenizer_kinds_word(root, "version", versions, &version, err);
    if (code == CN_OK) code = cn_normalizer_read(root, &t->arena, &t->normalizer, err);
    if (code == CN_OK) code = cn_pre_tokenizer_read(root, &t->pre, err);
    if (code == CN_OK) code = cn_bpe_read(root, t->pre.byte_level, &t->vocab, &t->bpe, err);
    if (code == CN_OK) code = cn_added_tokens_read(root, &t->normalizer, &t->vocab, &t->added, err);
    if (code == CN_OK) code = cn_tokenizer_post_read(root, &t->vocab, &t->post, err);
    if (code == CN_OK) code = cn_decoder_read(root, &t->arena, &t->decoder, err);
    return code == CN_OK ? cn_decoder_prepare(&t->decoder, &t->vocab, err) : code;
}

// Room for the vocabulary at once; a file with more tokens than there can be ids is refused later.
static uint32_t vocab_hint(const json_t *tokens)
{
    const size_t count = json_object_size(tokens);
    return count < CN_TOKENIZER_ID_MAX ? (uint32_t)count : CN_TOKENIZER_ID_MAX;
}

cn_code cn_tokenizer_open(const char *directory, cn_tokenizer **out, cn_err *err)
{
    cn_json_file file;
    *out = NULL;
    cn_code code = cn_json_file_open(directory, "tokenizer.json", &file, err);
    if (code != CN_OK) return code;
    const cn_json_object root = cn_json_file_root(&file);
    const json_t *tokens = json_object_get(json_object_get(root.value, "model"), "vocab");
    cn_tokenizer *t = calloc(1, sizeof *t);
    if (t) {
        cn_arena_init(&t->arena, ARENA_BYTES_MAX);
        code = cn_tokenizer_vocab_open(&t->vocab, vocab_hint(tokens), &t->arena);
    }
    if (!t || code != CN_OK) code = cn_err_set(err, CN_E_MEMORY, "tokenizer.json: no memory");
    if (code == CN_OK) code = read_parts(&root, t, err);
    cn_json_file_close(&file);
    if (code == CN_OK) *out = t;
    else cn_tokenizer_close(t);
    return code;
}

void cn_tokenizer_close(cn_tokenizer *tokenizer)
{
    if (!tokenizer) return;
    cn_normalizer_close(&tokenizer->normalizer);
    cn_pre_tokenizer_close(&tokenizer->pre);
    cn_bpe_close(&tokenizer->bpe);
    cn_decoder_close(&tokenizer->decoder);
    cn_tokenizer_vocab_close(&tokenizer->vocab);
    cn_arena_close(&tokenizer->arena);
    free(tokenizer);
}

// Length of the well-formed UTF-8 at the start of the text.
static size_t well_formed_len(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        uint64_t eight;
        while (len - at >= sizeof eight) {
            memcpy(&eight, text + at, sizeof eight);
            if (eight & 0x8080808080808080u) break;
            at += sizeof eight;
        }
        const size_t step = at < len ? cn_utf8_len(text + at, len - at) : 0;
        if (step == 0) break;
        at += step;
    }
    return at;
}

/* The text with U+FFFD in place of each maximal ill-formed part; itself if there is none. */
static bool repair(const char *text, size_t len, cn_arena *arena, cn_tokenizer_text *out)
{
    size_t at = well_formed_len(text, len), written = 0;
    *out = (cn_tokenizer_text){text, len, true};
    if (at == len) return true;
    char *copy = cn_arena_take(arena, at + (len - at) * 3);
    if (!copy) return false;
    at = 0;
    while (at < len) {
        const size_t good = well_formed_len(text + at, len - at);
        memcpy(copy + written, text + at, good);
        written += good;
        at += good;
        if (at == len) break;
        memcpy(copy + written, "\xEF\xBF\xBD", 3);
        written += 3;
        at += cn_utf8_bad_len(text + at, len - at);
    }
    out->at = copy;
    out->len = written;
    return true;
}

typedef struct encoder {
    const cn_tokenizer *tokenizer;
    bool split_special;
} encoder;

static cn_code take_word(const void *sink, cn_tokenizer_work *work, const char *word, size_t len)
{
    return cn_bpe_encode(&((const encoder *)sink)->tokenizer->bpe, work, word, len);
}

static cn_code take_normalized(const void *sink, cn_tokenizer_work *work,
                               const cn_tokenizer_text *text)
{
    return cn_pre_tokenizer_run(&((const encoder *)sink)->tokenizer->pre, work, text, take_word,
                                sink);
}

static cn_code take_raw(const void *sink, cn_tokenizer_work *work, const cn_tokenizer_text *text)
{
    const encoder *e = sink;
    const cn_tokenizer *t = e->tokenizer;
    cn_tokenizer_text normalized = *text;
    const cn_code code = cn_normalizer_run(&t->normalizer, work, &normalized);
    if (code != CN_OK) return code;
    return cn_added_tokens_run(&t->added, &t->added.normalized, e->split_special, work, &normalized,
                               take_normalized, sink);
}

cn_code cn_tokenizer_encode(const cn_tokenizer *tokenizer, const char *text, size_t len,
                            const cn_encode_options *options, cn_arena *arena, cn_token_list *out,
                            cn_err *err)
{
    const encoder e = {tokenizer, options->split_special};
    const cn_tokenizer_post *post = &tokenizer->post;
    const bool wrapped = options->add_special_tokens;
    cn_tokenizer_work work = {.arena = arena, .err = err, .tokens_max = options->tokens_max};
    cn_tokenizer_text whole;
    *out = (cn_token_list){0};
    if (work.tokens_max == 0) work.tokens_max = UINT32_MAX;
    if (len > TEXT_BYTES_MAX) {
        return cn_err_set(err, CN_E_LIMIT, "the text has %zu bytes; at most %d can be encoded", len,
                          TEXT_BYTES_MAX);
    }
    if (!repair(text, len, arena, &whole)) return cn_tokenizer_work_memory(&work);
    cn_code code = CN_OK;
    if (wrapped) code = cn_tokenizer_work_add(&work, post->before.ids, post->before.count);
    if (code == CN_OK) {
        code = cn_added_tokens_run(&tokenizer->added, &tokenizer->added.raw, e.split_special, &work,
                                   &whole, take_raw, &e);
    }
    if (code == CN_OK && wrapped) {
        code = cn_tokenizer_work_add(&work, post->behind.ids, post->behind.count);
    }
    if (code == CN_OK) *out = (cn_token_list){work.ids, work.count};
    return code;
}

void cn_tokenizer_decode(const cn_tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         bool skip_special, cn_buf *out)
{
    cn_detokenizer detokenizer;
    cn_detokenizer_init(&detokenizer, tokenizer, skip_special);
    for (uint32_t i = 0; i < count; i++) cn_detokenizer_push(&detokenizer, ids[i], out);
    cn_detokenizer_finish(&detokenizer, out);
}

uint32_t cn_tokenizer_vocab_count(const cn_tokenizer *tokenizer) { return tokenizer->vocab.count; }

int32_t cn_tokenizer_find(const cn_tokenizer *tokenizer, const char *content, size_t len)
{
    if (len > UINT32_MAX) return -1;
    return cn_tokenizer_vocab_find(&tokenizer->vocab, content, (uint32_t)len);
}

const char *cn_tokenizer_token(const cn_tokenizer *tokenizer, int32_t id)
{
    const cn_tokenizer_vocab_entry *token = cn_tokenizer_vocab_at(&tokenizer->vocab, id);
    return token ? token->text : NULL;
}

bool cn_tokenizer_is_special(const cn_tokenizer *tokenizer, int32_t id)
{
    const cn_tokenizer_vocab_entry *token = cn_tokenizer_vocab_at(&tokenizer->vocab, id);
    return token && token->special;
}
