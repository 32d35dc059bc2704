#include "model/detokenizer.h"

#include <string.h>

#include "base/utf8.h"
#include "model/tokenizer_int.h"

/* How it works. Pieces are ready (decoder.c); two things need memory between tokens.
 *
 * Byte-level pieces are cut anywhere, so up to three bytes of a character are held until the next
 * piece completes or breaks it; each maximal part of a broken one becomes one U+FFFD.
 *
 * Byte tokens among text follow another rule: the whole run between two text tokens must be UTF-8, or
 * each byte of it becomes U+FFFD. So a run is held until it ends, and goes out early only where it
 * does not fit. */

#define REPLACEMENT "\xEF\xBF\xBD"

void cn_detokenizer_init(cn_detokenizer *detokenizer, const cn_tokenizer *tokenizer,
                         bool skip_special)
{
    *detokenizer = (cn_detokenizer){.tokenizer = tokenizer, .skip_special = skip_special,
                                    .strip_left = tokenizer->decoder.strip_max};
}

// Whole characters only. Strips what is to be stripped from the start of the text.
static void emit(cn_detokenizer *d, const char *text, size_t len, cn_buf *out)
{
    const cn_decoder *decoder = &d->tokenizer->decoder;
    while (d->strip_left && len) {
        const size_t n = decoder->strip_len;
        if (len < n || memcmp(text, decoder->strip, n) != 0) {
            d->strip_left = 0;
            break;
        }
        d->strip_left--;
        text += n;
        len -= n;
    }
    cn_buf_add(out, text, len);
}

static void emit_lossy(cn_detokenizer *d, const char *bytes, size_t len, cn_buf *out)
{
    size_t plain = 0;
    for (size_t at = 0; at < len;) {
        const size_t step = cn_utf8_len(bytes + at, len - at);
        if (step) {
            at += step;
            continue;
        }
        emit(d, bytes + plain, at - plain, out);
        emit(d, REPLACEMENT, 3, out);
        at += cn_utf8_bad_len(bytes + at, len - at);
        plain = at;
    }
    emit(d, bytes + plain, len - plain, out);
}

// Adds one byte to the held start of a character and lets go of what is decided.
static void complete_held(cn_detokenizer *d, char byte, cn_buf *out)
{
    d->held[d->held_count++] = byte;
    const size_t partial = cn_utf8_partial_len(d->held, d->held_count);
    const size_t decided = d->held_count - partial;
    emit_lossy(d, d->held, decided, out);
    memmove(d->held, d->held + decided, partial);
    d->held_count = (uint8_t)partial;
}

static void push_bytes(cn_detokenizer *d, const char *bytes, size_t len, cn_buf *out)
{
    size_t at = 0;
    while (d->held_count && at < len) complete_held(d, bytes[at++], out);
    const size_t partial = at < len ? cn_utf8_partial_len(bytes + at, len - at) : 0;
    emit_lossy(d, bytes + at, len - at - partial, out);
    if (partial) {
        memcpy(d->held, bytes + len - partial, partial);
        d->held_count = (uint8_t)partial;
    }
}

/* Length of the whole characters at the start of the run; *bad if what follows is more than the
 * beginning of one. */
static size_t run_len(const cn_detokenizer *d, bool *bad)
{
    size_t at = 0;
    while (at < d->held_count) {
        const size_t rest = d->held_count - at, step = cn_utf8_len(d->held + at, rest);
        if (step == 0) {
            *bad = cn_utf8_partial_len(d->held + at, rest) != rest;
            return at;
        }
        at += step;
    }
    *bad = false;
    return at;
}

static void emit_run_as_bad(cn_detokenizer *d, cn_buf *out)
{
    for (uint8_t i = 0; i < d->held_count; i++) emit(d, REPLACEMENT, 3, out);
    d->held_count = 0;
}

static void push_run_byte(cn_detokenizer *d, char byte, cn_buf *out)
{
    if (d->run_bad) {
        emit(d, REPLACEMENT, 3, out);
        return;
    }
    d->held[d->held_count++] = byte;
    const size_t len = run_len(d, &d->run_bad);
    if (d->run_bad) {
        emit_run_as_bad(d, out);
    } else if (d->held_count == sizeof d->held) {
        emit(d, d->held, len, out);
        d->held_count = (uint8_t)(d->held_count - len);
        memmove(d->held, d->held + len, d->held_count);
    }
}

static void end_run(cn_detokenizer *d, cn_buf *out)
{
    bool bad;
    if (run_len(d, &bad) != d->held_count) emit_run_as_bad(d, out);
    emit(d, d->held, d->held_count, out);
    d->held_count = 0;
    d->run_bad = false;
}

void cn_detokenizer_push(cn_detokenizer *detokenizer, int32_t id, cn_buf *out)
{
    const cn_tokenizer *tokenizer = detokenizer->tokenizer;
    const cn_decoder *decoder = &tokenizer->decoder;
    const cn_tokenizer_vocab_entry *token = cn_tokenizer_vocab_at(&tokenizer->vocab, id);
    if (!token || (token->special && detokenizer->skip_special)) return;
    const bool first = !detokenizer->started;
    const cn_decoder_piece *piece = first ? &decoder->firsts[id] : &decoder->pieces[id];
    detokenizer->started = true;
    if (decoder->byte_level) {
        push_bytes(detokenizer, piece->text, piece->len, out);
    } else if (piece->byte >= 0) {
        push_run_byte(detokenizer, (char)piece->byte, out);
    } else {
        end_run(detokenizer, out);
        if (decoder->joins_by_space && !first) emit(detokenizer, " ", 1, out);
        emit(detokenizer, piece->text, piece->len, out);
    }
}

void cn_detokenizer_finish(cn_detokenizer *detokenizer, cn_buf *out)
{
    if (!detokenizer->tokenizer->decoder.byte_level) {
        end_run(detokenizer, out);
        return;
    }
    emit_lossy(detokenizer, detokenizer->held, detokenizer->held_count, out);
    detokenizer->held_count = 0;
}

void cn_detokenizer_bytes(const cn_tokenizer *tokenizer, int32_t id, cn_buf *out)
{
    if (!cn_tokenizer_vocab_at(&tokenizer->vocab, id)) return;
    const cn_decoder_piece *piece = &tokenizer->decoder.pieces[id];
    if (piece->byte >= 0) cn_buf_add_char(out, (char)piece->byte);
    else cn_buf_add(out, piece->text, piece->len);
}
