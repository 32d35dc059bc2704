/* model/normalizer_int.h: the field "normalizer" of tokenizer.json: text to the text that is cut and
 * merged.
 *
 * Threads: immutable after read.
 * Memory:  a step owns its pattern; what run writes is in the caller's arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_pattern_int.h"
#include "model/tokenizer_work_int.h"

enum { CN_NORMALIZER_STEPS_MAX = 16 };

typedef struct cn_normalizer_step cn_normalizer_step;
typedef cn_code cn_normalizer_run_fn(const cn_normalizer_step *step, cn_tokenizer_work *work,
                                     cn_tokenizer_text *text);

struct cn_normalizer_step {
    cn_normalizer_run_fn *run;
    cn_tokenizer_pattern *pattern;   // Replace
    const char *content;             // Replace, Prepend; borrowed from the tokenizer's arena
    size_t content_len;
    int forms;                       // options of utf8proc
    bool left, right;                // Strip
};

typedef struct cn_normalizer {
    cn_arena *arena;                 // of the tokenizer, while it is read
    uint32_t count;
    cn_normalizer_step steps[CN_NORMALIZER_STEPS_MAX];
} cn_normalizer;

/* close must follow, even after an error. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_normalizer_read(const cn_json_object *root, cn_arena *arena, cn_normalizer *normalizer,
                           cn_err *err);
void cn_normalizer_close(cn_normalizer *normalizer);

/* Replaces *text by its normal form. Errors: CN_E_MEMORY, CN_E_LIMIT. */
cn_code cn_normalizer_run(const cn_normalizer *normalizer, cn_tokenizer_work *work,
                          cn_tokenizer_text *text);

/* Writes the Unicode normalization form that `forms` says (normalizer_forms.c). */
cn_normalizer_run_fn cn_normalizer_forms_run;
