/* model/decoder_int.h: the field "decoder" of tokenizer.json: tokens to text.
 * What a decoder does to a token by itself is done once, when the file is read; what remains for
 * every token is to put pieces together (detokenizer.c).
 *
 * Threads: immutable after prepare.
 * Memory:  16 bytes per token and its text, in the tokenizer's arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_pattern_int.h"
#include "model/tokenizer_vocab_int.h"

enum { CN_DECODER_STEPS_MAX = 16 };

typedef struct cn_decoder_step cn_decoder_step;
struct cn_decoder_step {
    cn_code (*run)(const cn_decoder_step *step, cn_tokenizer_work *work, cn_tokenizer_text *text);
    cn_tokenizer_pattern *pattern;   // Replace
    char *content;                   // Replace: what comes in; Strip: what goes; Metaspace: the mark
    size_t content_len;
    uint32_t start, stop;            // Strip: at most so many characters
    bool drops_first;                // Metaspace: the first token of a text loses its marks
};

typedef struct cn_decoder_piece {
    const char *text;                // UTF-8, or any bytes under byte_level
    uint32_t len;
    int32_t byte;                    // of "<0x0A>" under byte_fallback, else -1
} cn_decoder_piece;

typedef struct cn_decoder {
    bool joins_by_space;             // there is no decoder
    bool byte_level;                 // pieces are bytes of a text
    bool byte_fallback;              // some pieces are
    bool fused;                      // while it is read: steps see the whole text from here on
    char strip[8];                   // leading characters of the whole text to strip
    uint32_t strip_len, strip_max;
    uint32_t count;
    cn_decoder_step steps[CN_DECODER_STEPS_MAX];
    cn_decoder_piece *pieces;        // by id
    cn_decoder_piece *firsts;        // of the first token of a text; may be the same
} cn_decoder;

/* close must follow, even after an error. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_decoder_read(const cn_json_object *root, cn_arena *arena, cn_decoder *decoder,
                        cn_err *err);
/* Computes the pieces of all tokens, once the vocabulary is complete. Errors: CN_E_MEMORY. */
cn_code cn_decoder_prepare(cn_decoder *decoder, const cn_tokenizer_vocab *vocab, cn_err *err);
void cn_decoder_close(cn_decoder *decoder);
