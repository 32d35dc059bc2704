#include "model/decoder_int.h"

#include <string.h>

#include "model/tokenizer_bytes_int.h"
#include "model/tokenizer_kinds_int.h"
#include "model/tokenizer_unicode_int.h"

/* How it works. In the library a decoder is a chain over the list of tokens, and Fuse joins the list
 * into one text. A stream cannot wait for the whole text, so the chain is read as three stages: steps
 * on single tokens, then bytes (ByteLevel or ByteFallback), then at the start of the whole text (a
 * Strip behind Fuse). Chains that do not fall into these stages are refused. */

static cn_code run_replace(const cn_decoder_step *step, cn_tokenizer_work *work,
                           cn_tokenizer_text *text)
{
    return cn_tokenizer_pattern_replace(step->pattern, work, step->content, step->content_len,
                                        text);
}

static cn_code run_strip(const cn_decoder_step *step, cn_tokenizer_work *work,
                         cn_tokenizer_text *text)
{
    (void)work;
    const size_t n = step->content_len;
    for (uint32_t i = 0; i < step->start && text->len >= n; i++) {
        if (memcmp(text->at, step->content, n) != 0) break;
        text->at += n;
        text->len -= n;
    }
    for (uint32_t i = 0; i < step->stop && text->len >= n; i++) {
        if (memcmp(text->at + text->len - n, step->content, n) != 0) break;
        text->len -= n;
    }
    return CN_OK;
}

static cn_code run_metaspace(const cn_decoder_step *step, cn_tokenizer_work *work,
                             cn_tokenizer_text *text)
{
    char *out = cn_arena_take(work->arena, text->len);
    if (!out) return cn_tokenizer_work_memory(work);
    size_t len = 0;
    for (size_t at = 0, width; at < text->len; at += width) {
        width = cn_tokenizer_unicode_step(text->at + at);
        if (width != step->content_len || memcmp(text->at + at, step->content, width) != 0) {
            memcpy(out + len, text->at + at, width);
            len += width;
        } else if (!text->first || !step->drops_first) {
            out[len++] = ' ';
        }
    }
    text->at = out;
    text->len = len;
    return CN_OK;
}

typedef struct reader {
    cn_decoder *decoder;
    cn_arena *arena;
} reader;

static cn_code refuse_order(const cn_json_object *object, const char *where, cn_err *err)
{
    return cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err, "Cairn reads it only %s",
                               where);
}

// NULL, with the error written, where a step on single tokens cannot stand.
static cn_decoder_step *add_step(const reader *r, const cn_json_object *object, cn_err *err)
{
    cn_decoder *d = r->decoder;
    if (d->fused || d->byte_level || d->byte_fallback) {
        refuse_order(object, "before ByteLevel, ByteFallback and Fuse", err);
        return NULL;
    }
    if (d->count == CN_DECODER_STEPS_MAX) {
        cn_json_file_refuse(object, "type", CN_E_UNSUPPORTED, err, "Cairn reads up to %d decoders",
                            CN_DECODER_STEPS_MAX);
        return NULL;
    }
    cn_decoder_step *step = &d->steps[d->count++];
    *step = (cn_decoder_step){0};
    return step;
}

static cn_code copy_content(const reader *r, const cn_json_object *object, const char *field,
                            cn_decoder_step *step, cn_err *err)
{
    const char *text;
    const cn_code code = cn_tokenizer_kinds_text(object, field, &text, err);
    if (code != CN_OK) return code;
    step->content_len = strlen(text);
    step->content = cn_arena_copy(r->arena, text, step->content_len);
    return step->content ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", object->file);
}

static cn_code copy_character(const reader *r, const cn_json_object *object, const char *field,
                              cn_decoder_step *step, cn_err *err)
{
    const cn_code code = copy_content(r, object, field, step, err);
    if (code != CN_OK) return code;
    if (step->content_len && step->content_len == cn_tokenizer_unicode_step(step->content)) {
        return CN_OK;
    }
    return cn_json_file_refuse(object, field, CN_E_FORMAT, err, "must be one character");
}

static cn_code read_replace(void *part, const cn_json_object *object, cn_err *err)
{
    cn_decoder_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    step->run = run_replace;
    const cn_code code = copy_content(part, object, "content", step, err);
    return code == CN_OK ? cn_tokenizer_pattern_read(object, &step->pattern, err) : code;
}

static cn_code read_metaspace(void *part, const cn_json_object *object, cn_err *err)
{
    static const cn_tokenizer_word schemes[] = {
        {"never", 0}, {"first", 1}, {"always", 1}, {NULL, 0}};
    cn_decoder_step *step = add_step(part, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    bool add_prefix_space = true;
    step->run = run_metaspace;
    cn_code code = copy_character(part, object, "replacement", step, err);
    if (code == CN_OK) code = cn_json_file_bool(object, "add_prefix_space", &add_prefix_space, err);
    if (code != CN_OK) return code;
    int drops = add_prefix_space;
    code = cn_tokenizer_kinds_word(object, "prepend_scheme", schemes, &drops, err);
    step->drops_first = drops;
    return code;
}

// A Strip behind Fuse is about the start of the whole text.
static cn_code read_fused_strip(cn_decoder *d, const cn_decoder_step *step,
                                const cn_json_object *object, cn_err *err)
{
    if (step->stop) {
        return cn_json_file_refuse(object, "stop", CN_E_UNSUPPORTED, err,
                                   "Cairn reads 0 behind Fuse, because text is sent as it comes");
    }
    if (d->strip_len) return refuse_order(object, "once behind Fuse", err);
    memcpy(d->strip, step->content, step->content_len);
    d->strip_len = (uint32_t)step->content_len;
    d->strip_max = step->start;
    return CN_OK;
}

static cn_code read_strip(void *part, const cn_json_object *object, cn_err *err)
{
    const reader *r = part;
    cn_decoder_step own = {0};
    cn_decoder_step *step = r->decoder->fused ? &own : add_step(r, object, err);
    if (!step) return CN_E_UNSUPPORTED;
    step->run = run_strip;
    cn_code code = copy_character(r, object, "content", step, err);
    if (code == CN_OK) code = cn_json_file_u32(object, "start", 0, 1 << 20, &step->start, err);
    if (code == CN_OK) code = cn_json_file_u32(object, "stop", 0, 1 << 20, &step->stop, err);
    if (code != CN_OK || !r->decoder->fused) return code;
    return read_fused_strip(r->decoder, step, object, err);
}

static cn_code read_bytes(void *part, const cn_json_object *object, bool *kind, cn_err *err)
{
    const cn_decoder *d = ((const reader *)part)->decoder;
    if (d->fused || d->byte_level || d->byte_fallback) {
        return refuse_order(object, "once, before Fuse", err);
    }
    *kind = true;
    return CN_OK;
}

static cn_code read_byte_level(void *part, const cn_json_object *object, cn_err *err)
{
    return read_bytes(part, object, &((const reader *)part)->decoder->byte_level, err);
}

static cn_code read_byte_fallback(void *part, const cn_json_object *object, cn_err *err)
{
    return read_bytes(part, object, &((const reader *)part)->decoder->byte_fallback, err);
}

static cn_code read_fuse(void *part, const cn_json_object *object, cn_err *err)
{
    (void)object;
    (void)err;
    ((const reader *)part)->decoder->fused = true;
    return CN_OK;
}

static const cn_tokenizer_kind kinds[] = {
    {"ByteLevel", read_byte_level}, {"ByteFallback", read_byte_fallback},
    {"Metaspace", read_metaspace},  {"Replace", read_replace},
    {"Strip", read_strip},          {"Fuse", read_fuse},
    {NULL, NULL}};

cn_code cn_decoder_read(const cn_json_object *root, cn_arena *arena, cn_decoder *decoder,
                        cn_err *err)
{
    *decoder = (cn_decoder){.joins_by_space = !cn_json_file_find(root, "decoder")};
    reader r = {decoder, arena};
    return cn_tokenizer_kinds_read(root, "decoder", "decoders", kinds, &r, err);
}

static cn_code piece_of(const cn_decoder *d, const cn_tokenizer_vocab_entry *token, bool first,
                        cn_tokenizer_work *work, cn_arena *keep, cn_decoder_piece *piece)
{
    cn_tokenizer_text text = {token->shown, token->shown_len, first};
    for (uint32_t i = 0; i < d->count; i++) {
        const cn_code code = d->steps[i].run(&d->steps[i], work, &text);
        if (code != CN_OK) return code;
    }
    char *copy = cn_arena_copy(keep, text.at, text.len);
    if (!copy) return CN_E_MEMORY;
    *piece = (cn_decoder_piece){copy, (uint32_t)text.len, -1};
    if (d->byte_fallback) piece->byte = cn_tokenizer_bytes_fallback(text.at, text.len);
    if (!d->byte_level) return CN_OK;
    // A token with a character outside of the alphabet, an added one, is text.
    const size_t count = cn_tokenizer_bytes_of(text.at, text.len, copy);
    if (count != SIZE_MAX) piece->len = (uint32_t)count;
    else memcpy(copy, text.at, text.len);
    return CN_OK;
}

static cn_code pieces_of(const cn_decoder *d, const cn_tokenizer_vocab *vocab, bool first,
                         cn_decoder_piece **out)
{
    cn_arena scratch;
    cn_arena_init(&scratch, (uint64_t)1 << 32);
    cn_decoder_piece *pieces = cn_arena_take_array(vocab->arena, vocab->count, sizeof *pieces);
    cn_code code = pieces ? CN_OK : CN_E_MEMORY;
    for (uint32_t id = 0; id < vocab->count && code == CN_OK; id++) {
        cn_tokenizer_work work = {.arena = &scratch};
        if (!vocab->tokens[id].text) continue;
        code = piece_of(d, &vocab->tokens[id], first, &work, vocab->arena, &pieces[id]);
        cn_arena_reset(&scratch);
    }
    cn_arena_close(&scratch);
    *out = pieces;
    return code;
}

cn_code cn_decoder_prepare(cn_decoder *decoder, const cn_tokenizer_vocab *vocab, cn_err *err)
{
    bool differs = false;
    for (uint32_t i = 0; i < decoder->count; i++) differs |= decoder->steps[i].drops_first;
    cn_code code = pieces_of(decoder, vocab, false, &decoder->pieces);
    decoder->firsts = decoder->pieces;
    if (code == CN_OK && differs) code = pieces_of(decoder, vocab, true, &decoder->firsts);
    return code == CN_OK ? CN_OK : cn_err_set(err, code, "no memory for the texts of %u tokens",
                                              vocab->count);
}

void cn_decoder_close(cn_decoder *decoder)
{
    for (uint32_t i = 0; i < decoder->count; i++) {
        cn_tokenizer_pattern_close(decoder->steps[i].pattern);
    }
    decoder->count = 0;
}
