/* model/pre_tokenizer_int.h: the field "pre_tokenizer" of tokenizer.json: normalized text to the
 * words that are merged one by one.
 *
 * Threads: immutable after read.
 * Memory:  a step owns its pattern; what run rewrites is in the caller's arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_pattern_int.h"
#include "model/tokenizer_work_int.h"

enum { CN_PRE_TOKENIZER_STEPS_MAX = 16 };

typedef enum cn_pre_tokenizer_behavior {
    CN_PRE_TOKENIZER_REMOVED,
    CN_PRE_TOKENIZER_ISOLATED,
    CN_PRE_TOKENIZER_MERGED_WITH_PREVIOUS,
    CN_PRE_TOKENIZER_MERGED_WITH_NEXT,
    CN_PRE_TOKENIZER_CONTIGUOUS,
} cn_pre_tokenizer_behavior;

typedef enum cn_pre_tokenizer_prepend {
    CN_PRE_TOKENIZER_NEVER,
    CN_PRE_TOKENIZER_FIRST,          // only where the input begins
    CN_PRE_TOKENIZER_ALWAYS,
} cn_pre_tokenizer_prepend;

typedef struct cn_pre_tokenizer_step {
    cn_tokenizer_pattern *pattern;   // cuts at its matches
    bool (*is_cut)(int32_t c);       // or at the characters of a class
    int behavior;                    // cn_pre_tokenizer_behavior
    bool invert;                     // what lies between the matches are the matches
    int prepend;                     // cn_pre_tokenizer_prepend
    bool marks;                      // spaces become `mark`, which is also what is prepended
    bool passes;                     // does not cut
    char mark[8];
    uint32_t mark_len;
} cn_pre_tokenizer_step;

typedef struct cn_pre_tokenizer {
    bool byte_level;                 // the last step is ByteLevel: words are bytes to the model
    uint32_t count;
    cn_pre_tokenizer_step steps[CN_PRE_TOKENIZER_STEPS_MAX];
} cn_pre_tokenizer;

/* close must follow, even after an error. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_pre_tokenizer_read(const cn_json_object *root, cn_pre_tokenizer *pre, cn_err *err);
void cn_pre_tokenizer_close(cn_pre_tokenizer *pre);

/* Takes the words one after another; they stay valid until the arena goes. */
typedef cn_code cn_pre_tokenizer_sink(const void *sink, cn_tokenizer_work *work, const char *word,
                                      size_t len);

/* Cuts *text into words. Errors: CN_E_LIMIT, CN_E_MEMORY, and the sink's, which end the walk. */
cn_code cn_pre_tokenizer_run(const cn_pre_tokenizer *pre, cn_tokenizer_work *work,
                             const cn_tokenizer_text *text, cn_pre_tokenizer_sink *take,
                             const void *sink);
