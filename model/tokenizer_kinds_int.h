/* model/tokenizer_kinds_int.h: how the four pluggable parts of tokenizer.json are read: normalizer,
 * pre_tokenizer, post_processor, decoder. Each is null, one object with a "type", or a Sequence of
 * such; a part has a table of the types it reads, and a new kind is a new line there.
 *
 * Threads: one at a time.
 * Memory:  nothing is kept. */
#pragma once

#include "model/json_file.h"

typedef struct cn_tokenizer_kind {
    const char *type;                // NULL ends the table
    cn_code (*read)(void *part, const cn_json_object *object, cn_err *err);
} cn_tokenizer_kind;

/* Calls the reader of each step of `root`.`field` in order; `list` is the name of the array in a
 * Sequence. Errors: CN_E_UNSUPPORTED (a type that is not in the table), CN_E_FORMAT, a reader's. */
cn_code cn_tokenizer_kinds_read(const cn_json_object *root, const char *field, const char *list,
                                const cn_tokenizer_kind *kinds, void *part, cn_err *err);

typedef struct cn_tokenizer_word {
    const char *word;                // NULL ends the table
    int value;
} cn_tokenizer_word;

/* A string field with a fixed set of values; *value stays where the field is absent. */
cn_code cn_tokenizer_kinds_word(const cn_json_object *object, const char *field,
                                const cn_tokenizer_word *words, int *value, cn_err *err);
/* A string field that must be there. */
cn_code cn_tokenizer_kinds_text(const cn_json_object *object, const char *field, const char **value,
                                cn_err *err);
/* A boolean field that must be there. */
cn_code cn_tokenizer_kinds_flag(const cn_json_object *object, const char *field, bool *value,
                                cn_err *err);
