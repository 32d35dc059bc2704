#include "model/tokenizer_pattern_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/tokenizer_syntax_int.h"
#include "model/tokenizer_unicode_int.h"

/* How it works. A literal is found with memmem. An expression is translated from Oniguruma's syntax
 * to PCRE2's (tokenizer_syntax.c), compiled with its JIT and run over a shadow of the text
 * (tokenizer_unicode.c). Match data lives in the caller's arena, so a match allocates nothing on the
 * heap. The JIT counts no steps but backtracks on a stack of 32 KiB; where that is too small the
 * interpreter takes over, under limits of steps and memory. */

enum { STEPS_MAX = 20000000, HEAP_KIB_MAX = 16384 };

struct cn_tokenizer_pattern {
    char *literal;                   // NULL: an expression
    size_t literal_len;
    pcre2_code *code;
    pcre2_match_context *limits;
    bool jit;
};

static cn_code compile(cn_tokenizer_pattern *pattern, const char *regex, size_t len,
                       char why[static 128])
{
    int number;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    pattern->limits = pcre2_match_context_create(NULL);
    if (!context || !pattern->limits) {
        pcre2_compile_context_free(context);
        return CN_E_MEMORY;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pattern->code = pcre2_compile((PCRE2_SPTR)regex, len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                                  PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C, &number, &offset,
                                  context);
    pcre2_compile_context_free(context);
    if (!pattern->code) {
        pcre2_get_error_message(number, (PCRE2_UCHAR *)why, 128);
        return CN_E_FORMAT;
    }
    pcre2_set_match_limit(pattern->limits, STEPS_MAX);
    pcre2_set_depth_limit(pattern->limits, STEPS_MAX);
    pcre2_set_heap_limit(pattern->limits, HEAP_KIB_MAX);
    pattern->jit = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
    return CN_OK;
}

cn_code cn_tokenizer_pattern_open(const char *regex, cn_tokenizer_pattern **out)
{
    char why[128];
    cn_tokenizer_pattern *pattern = calloc(1, sizeof *pattern);
    if (!pattern) return CN_E_MEMORY;
    const cn_code code = compile(pattern, regex, strlen(regex), why);
    if (code == CN_OK) *out = pattern;
    else cn_tokenizer_pattern_close(pattern);
    return code;
}

static cn_code read_literal(const cn_json_object *object, cn_tokenizer_pattern *pattern, cn_err *err)
{
    const char *text = NULL;
    const cn_code code = cn_json_file_string(object, "String", &text, err);
    if (code != CN_OK) return code;
    if (!text || !*text) {
        return cn_json_file_refuse(object, "String", CN_E_UNSUPPORTED, err,
                                   "Cairn reads patterns that are not empty");
    }
    pattern->literal = strdup(text);
    pattern->literal_len = strlen(text);
    return pattern->literal ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", object->file);
}

static cn_code read_regex(const cn_json_object *object, cn_tokenizer_pattern *pattern, cn_err *err)
{
    const char *regex = NULL, *unread;
    char why[128] = "no memory";
    cn_buf translated;
    cn_code code = cn_json_file_string(object, "Regex", &regex, err);
    if (code != CN_OK) return code;
    cn_buf_init(&translated, 1 << 20);
    if (!cn_tokenizer_syntax_translate(regex, &translated, &unread)) {
        cn_buf_close(&translated);
        return cn_json_file_refuse(object, "Regex", CN_E_UNSUPPORTED, err,
                                   "Cairn reads expressions without %s", unread);
    }
    code = translated.overflowed ? CN_E_MEMORY
                                 : compile(pattern, translated.data, translated.len, why);
    cn_buf_close(&translated);
    if (code == CN_OK) return CN_OK;
    return cn_json_file_refuse(object, "Regex", code, err, "must be a regular expression: %s", why);
}

cn_code cn_tokenizer_pattern_read(const cn_json_object *object, cn_tokenizer_pattern **out,
                                  cn_err *err)
{
    cn_json_object child;
    cn_code code = cn_json_file_child(object, "pattern", &child, err);
    if (code != CN_OK) return code;
    const bool is_regex = cn_json_file_find(&child, "Regex");
    if (!is_regex && !cn_json_file_find(&child, "String")) {
        return cn_json_file_refuse(object, "pattern", CN_E_FORMAT, err,
                                   "must be {\"String\": text} or {\"Regex\": expression}");
    }
    cn_tokenizer_pattern *pattern = calloc(1, sizeof *pattern);
    if (!pattern) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", object->file);
    code = is_regex ? read_regex(&child, pattern, err) : read_literal(&child, pattern, err);
    if (code == CN_OK) *out = pattern;
    else cn_tokenizer_pattern_close(pattern);
    return code;
}

void cn_tokenizer_pattern_close(cn_tokenizer_pattern *pattern)
{
    if (!pattern) return;
    pcre2_match_context_free(pattern->limits);
    pcre2_code_free(pattern->code);
    free(pattern->literal);
    free(pattern);
}

static void *take(PCRE2_SIZE bytes, void *arena) { return cn_arena_take(arena, bytes); }

static void keep(void *piece, void *arena)
{
    (void)piece;
    (void)arena;
}

static cn_code prepare(cn_tokenizer_work *work)
{
    if (work->match) return CN_OK;
    pcre2_general_context *memory = pcre2_general_context_create(take, keep, work->arena);
    work->match = memory ? pcre2_match_data_create(1, memory) : NULL;
    return work->match ? CN_OK : cn_tokenizer_work_memory(work);
}

cn_code cn_tokenizer_pattern_scan(const cn_tokenizer_pattern *pattern, cn_tokenizer_work *work,
                                  const char *text, size_t len, cn_tokenizer_scan *scan)
{
    *scan = (cn_tokenizer_scan){pattern, work, text, len, 0, SIZE_MAX};
    if (pattern->literal) return CN_OK;
    scan->text = cn_tokenizer_unicode_shadow(text, len, work->arena);
    return scan->text ? prepare(work) : cn_tokenizer_work_memory(work);
}

static cn_code match_regex(cn_tokenizer_scan *scan, bool *found, size_t *start, size_t *end)
{
    const cn_tokenizer_pattern *pattern = scan->pattern;
    const PCRE2_SPTR text = (PCRE2_SPTR)scan->text;
    int got = PCRE2_ERROR_JIT_STACKLIMIT;
    if (pattern->jit) {
        got = pcre2_jit_match(pattern->code, text, scan->len, scan->at, PCRE2_NO_UTF_CHECK,
                              scan->work->match, pattern->limits);
    }
    if (got == PCRE2_ERROR_JIT_STACKLIMIT) {
        got = pcre2_match(pattern->code, text, scan->len, scan->at,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scan->work->match, pattern->limits);
    }
    *found = got > 0;
    if (got < 0 && got != PCRE2_ERROR_NOMATCH) {
        return cn_err_set(scan->work->err, CN_E_LIMIT, "the tokenizer's expression needs more steps "
                          "or memory than it may use (%d) at byte %zu of a piece of %zu", got,
                          scan->at, scan->len);
    }
    if (*found) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scan->work->match);
        *start = ends[0];
        *end = ends[1];
    }
    return CN_OK;
}

static void match_literal(cn_tokenizer_scan *scan, bool *found, size_t *start, size_t *end)
{
    const cn_tokenizer_pattern *pattern = scan->pattern;
    const char *hit = memmem(scan->text + scan->at, scan->len - scan->at, pattern->literal,
                             pattern->literal_len);
    *found = hit;
    if (!hit) return;
    *start = (size_t)(hit - scan->text);
    *end = *start + pattern->literal_len;
}

cn_code cn_tokenizer_pattern_next(cn_tokenizer_scan *scan, bool *found, size_t *start, size_t *end)
{
    *found = false;
    while (scan->at <= scan->len) {
        if (scan->pattern->literal) {
            match_literal(scan, found, start, end);
        } else {
            const cn_code code = match_regex(scan, found, start, end);
            if (code != CN_OK) return code;
        }
        if (!*found) return CN_OK;
        if (*start != *end || *end != scan->last_end) {
            scan->at = scan->last_end = *end;
            return CN_OK;
        }
        *found = false;
        scan->at += scan->at < scan->len ? cn_tokenizer_unicode_step(scan->text + scan->at) : 1;
    }
    return CN_OK;
}

/* Two passes: the length first, then the text, so that one piece of the arena is enough. */
static cn_code replace_pass(const cn_tokenizer_pattern *pattern, cn_tokenizer_work *work,
                            const char *content, size_t content_len, const cn_tokenizer_text *text,
                            char *out, size_t *out_len)
{
    cn_tokenizer_scan scan;
    size_t len = 0, copied = 0, start, end;
    bool found = true;
    cn_code code = cn_tokenizer_pattern_scan(pattern, work, text->at, text->len, &scan);
    while (code == CN_OK && found) {
        code = cn_tokenizer_pattern_next(&scan, &found, &start, &end);
        if (code != CN_OK) return code;
        if (!found) start = end = text->len;
        if (out) memcpy(out + len, text->at + copied, start - copied);
        len += start - copied;
        copied = end;
        if (found && out) memcpy(out + len, content, content_len);
        if (found) len += content_len;
    }
    *out_len = len;
    return code;
}

cn_code cn_tokenizer_pattern_replace(const cn_tokenizer_pattern *pattern, cn_tokenizer_work *work,
                                     const char *content, size_t content_len,
                                     cn_tokenizer_text *text)
{
    size_t len;
    cn_code code = replace_pass(pattern, work, content, content_len, text, NULL, &len);
    if (code != CN_OK) return code;
    char *out = cn_arena_take(work->arena, len);
    if (!out) return cn_tokenizer_work_memory(work);
    code = replace_pass(pattern, work, content, content_len, text, out, &len);
    text->at = out;
    text->len = len;
    return code;
}
