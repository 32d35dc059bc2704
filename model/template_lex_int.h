/* model/template_lex_int.h: template text to tokens.
 * Does all that Jinja decides on characters: where tags begin and end, trim_blocks and
 * lstrip_blocks, the signs - and + at tags, raw blocks, comments, escapes in strings.
 *
 * Threads: any, nothing is kept.
 * Memory:  tokens and their text live in the given arena. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/template_value_int.h"

typedef enum cn_token_kind {
    CN_TOKEN_END,                // of the template
    CN_TOKEN_DATA,               // text between tags
    CN_TOKEN_PRINT_BEGIN,
    CN_TOKEN_PRINT_END,
    CN_TOKEN_TAG_BEGIN,
    CN_TOKEN_TAG_END,
    CN_TOKEN_NAME,
    CN_TOKEN_STRING,
    CN_TOKEN_INT,
    CN_TOKEN_FLOAT,
    CN_TOKEN_OPERATOR,
} cn_token_kind;

typedef struct cn_token {
    cn_token_kind kind;
    uint32_t line;
    cn_text text;                // DATA, NAME, STRING (unescaped), OPERATOR
    cn_value number;             // INT, FLOAT
} cn_token;

typedef struct cn_tokens {
    cn_token *at;                // the last one is END
    uint32_t count;
} cn_tokens;

/* Splits `text`. `name` starts error texts. Errors: CN_E_FORMAT, CN_E_MEMORY. */
cn_code cn_template_lex_split(const char *name, cn_text text, cn_arena *arena, cn_tokens *out,
                              cn_err *err);
