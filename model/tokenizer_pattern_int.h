/* model/tokenizer_pattern_int.h: a pattern of tokenizer.json, a literal string or a regular
 * expression in the syntax of Oniguruma, and its matches in a text.
 *
 * Threads: a pattern is immutable after open; a scan belongs to one thread.
 * Memory:  a pattern owns its compiled code; a scan may take a copy of the text from the arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_work_int.h"

typedef struct cn_tokenizer_pattern cn_tokenizer_pattern;

/* Reads the field "pattern" of `object`: {"String": text} or {"Regex": expression}.
 * Errors: CN_E_FORMAT, CN_E_UNSUPPORTED (a construct whose meaning differs), CN_E_MEMORY. */
cn_code cn_tokenizer_pattern_read(const cn_json_object *object, cn_tokenizer_pattern **out,
                                  cn_err *err);
/* Compiles an expression that stands in our sources. Errors: CN_E_MEMORY. */
cn_code cn_tokenizer_pattern_open(const char *regex, cn_tokenizer_pattern **out);
void cn_tokenizer_pattern_close(cn_tokenizer_pattern *pattern);

typedef struct cn_tokenizer_scan {
    const cn_tokenizer_pattern *pattern;
    cn_tokenizer_work *work;
    const char *text;                // or its shadow: same offsets
    size_t len, at;
    size_t last_end;                 // end of the last match, SIZE_MAX before the first
} cn_tokenizer_scan;

cn_code cn_tokenizer_pattern_scan(const cn_tokenizer_pattern *pattern, cn_tokenizer_work *work,
                                  const char *text, size_t len, cn_tokenizer_scan *scan);

/* The next match as offsets into the text; *found is false at the end. An empty match right behind
 * the last match does not count. Errors: CN_E_LIMIT (the expression needs too many steps). */
cn_code cn_tokenizer_pattern_next(cn_tokenizer_scan *scan, bool *found, size_t *start,
                                  size_t *end);

/* Replaces *text by a copy in the arena with `content` in place of every match. */
cn_code cn_tokenizer_pattern_replace(const cn_tokenizer_pattern *pattern, cn_tokenizer_work *work,
                                     const char *content, size_t content_len,
                                     cn_tokenizer_text *text);
