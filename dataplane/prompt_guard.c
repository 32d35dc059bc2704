#include "dataplane/prompt_guard.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* How it works. The mark is one of Unicode's noncharacters U+FDD0 to U+FDEF, which no text needs:
 * the first that the request does not contain. It is put behind the first character of every
 * special token that a string spells out, and of every beginning of one at a string's end, so that
 * two strings which the template joins cannot spell it either:
 *
 *     content   a <|end|> b <        marked   a <^|end|> b <^
 *     rendered  <|user|>a <^|end|> b <^<|end|><|assistant|>
 *               real    ordinary text   real    real
 *
 * What the tokenizer sees as special in the rendered text is then the template's own. The text is
 * cut at those; a stretch between two of them that has marks loses them and is encoded with
 * split_special, everything else in as few pieces as possible with special tokens recognised. A
 * special token ends a piece for the tokenizer as well, so the cuts change nothing. (For two kinds
 * of tokenizers they do, a little: those that begin a text with a space of their own, and those
 * with special tokens that swallow the white space around them. There a marked stretch, and only
 * that, may differ by a space.)
 *
 * Not covered: a template that puts a client's text inside of its own control tokens (a role is
 * such a text, so roles come from a list), and special tokens of a single character or that begin
 * with a letter or digit.
 *
 * The tokens are sorted, and a match narrows the range of those that fit byte by byte. */

struct cn_prompt_guard {
    const cn_tokenizer *tokenizer;
    uint32_t count;
    const char **tokens;         // sorted, borrowed from the tokenizer
    bool first[256];             // bytes that one of them begins with
};

enum { MARK_BYTES = 3, MARK_COUNT = 32 };

static const cn_prompt_guard_mark no_mark = {""};

// ---- open and close

static int compare_tokens(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Whether an id is a special token that text can spell out and a mark can break. Those that begin
// like a word are left alone, so that names which a template compares ("user") never have a mark.
static bool is_guarded(const cn_tokenizer *tokenizer, int32_t id)
{
    const char *token = cn_tokenizer_token(tokenizer, id);
    if (!token || !*token || !cn_tokenizer_is_special(tokenizer, id)) return false;
    if (isalnum((unsigned char)*token)) return false;
    const size_t len = strlen(token);
    return cn_utf8_len(token, len) < len;
}

cn_code cn_prompt_guard_open(const cn_tokenizer *tokenizer, cn_prompt_guard **out)
{
    const uint32_t vocab_count = cn_tokenizer_vocab_count(tokenizer);
    cn_prompt_guard *guard = calloc(1, sizeof *guard);
    *out = NULL;
    if (!guard) return CN_E_MEMORY;
    guard->tokenizer = tokenizer;
    for (uint32_t id = 0; id < vocab_count; id++) {
        guard->count += is_guarded(tokenizer, (int32_t)id);
    }
    guard->tokens = calloc(guard->count + 1, sizeof *guard->tokens);
    if (!guard->tokens) {
        cn_prompt_guard_close(guard);
        return CN_E_MEMORY;
    }
    uint32_t at = 0;
    for (uint32_t id = 0; id < vocab_count; id++) {
        if (!is_guarded(tokenizer, (int32_t)id)) continue;
        guard->tokens[at] = cn_tokenizer_token(tokenizer, (int32_t)id);
        guard->first[(unsigned char)*guard->tokens[at++]] = true;
    }
    qsort(guard->tokens, guard->count, sizeof *guard->tokens, compare_tokens);
    *out = guard;
    return CN_OK;
}

void cn_prompt_guard_close(cn_prompt_guard *guard)
{
    if (!guard) return;
    free(guard->tokens);
    free(guard);
}

// ---- finding special tokens

typedef struct found {
    size_t len;                  // of the longest token at the place, 0 if there is none
    bool begins;                 // the text ends, and a token might go on
} found;

// First token from `low` on, among those with equal first `at` bytes, whose byte `at` is >= c.
static uint32_t lower_bound(const cn_prompt_guard *guard, uint32_t low, uint32_t high, size_t at,
                            unsigned c)
{
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)guard->tokens[middle][at] < c) low = middle + 1;
        else high = middle;
    }
    return low;
}

static found find_at(const cn_prompt_guard *guard, const char *text, size_t len)
{
    found f = {0, false};
    uint32_t low = 0, high = guard->count;
    for (size_t at = 0;; at++) {
        // A token that is complete sorts before those that go on.
        if (at && guard->tokens[low][at] == '\0') {
            f.len = at;
            if (++low == high) return f;
        }
        if (at == len) {
            f.begins = true;
            return f;
        }
        const unsigned c = (unsigned char)text[at];
        low = c ? lower_bound(guard, low, high, at, c) : high;
        high = c ? lower_bound(guard, low, high, at, c + 1) : high;
        if (low >= high) return f;
    }
}

// The first place from `from` on where a special token stands, or begins at the text's end.
static size_t find_next(const cn_prompt_guard *guard, const char *text, size_t len, size_t from,
                        found *f)
{
    for (size_t at = from; at < len; at++) {
        if (!guard->first[(unsigned char)text[at]]) continue;
        *f = find_at(guard, text + at, len - at);
        if (f->len || f->begins) return at;
    }
    *f = (found){0, false};
    return len;
}

// ---- marking

typedef struct survey {
    const cn_prompt_guard *guard;
    bool needed;
    uint32_t used;               // bit i: U+FDD0 + i occurs
} survey;

static void survey_text(survey *s, const char *text, size_t len)
{
    found f;
    if (find_next(s->guard, text, len, 0, &f) < len) s->needed = true;
    for (const char *at = text; (at = memchr(at, 0xEF, len - (size_t)(at - text))); at++) {
        if (len - (size_t)(at - text) < MARK_BYTES || (unsigned char)at[1] != 0xB7) continue;
        const unsigned index = (unsigned char)at[2] - 0x90u;
        if (index < MARK_COUNT) s->used |= 1u << index;
    }
}

static void survey_value(survey *s, const json_t *value)
{
    size_t i;
    const char *key;
    json_t *member;
    if (json_is_string(value)) {
        survey_text(s, json_string_value(value), json_string_length(value));
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, member) survey_value(s, member);
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, member) {
            survey_text(s, key, strlen(key));
            survey_value(s, member);
        }
    }
}

static void add_marked(const cn_prompt_guard *guard, const cn_prompt_guard_mark *mark,
                       const char *text, size_t len, cn_buf *out)
{
    size_t done = 0;
    for (;;) {
        found f;
        const size_t at = find_next(guard, text, len, done, &f);
        cn_buf_add(out, text + done, at - done);
        if (at == len) return;
        const size_t step = cn_utf8_len(text + at, len - at);
        cn_buf_add(out, text + at, step ? step : 1);
        cn_buf_add(out, mark->text, MARK_BYTES);
        done = at + (step ? step : 1);
    }
}

typedef struct marker {
    const cn_prompt_guard *guard;
    const cn_prompt_guard_mark *mark;
    cn_buf text;
} marker;

static bool mark_string(marker *m, json_t *value)
{
    cn_buf_clear(&m->text);
    add_marked(m->guard, m->mark, json_string_value(value), json_string_length(value), &m->text);
    if (m->text.overflowed) return false;
    return m->text.len == 0 || json_string_setn(value, m->text.data, m->text.len) == 0;
}

static bool mark_value(marker *m, json_t *value);

// Members are taken out and put back in order, under their marked names.
static bool mark_object(marker *m, json_t *object)
{
    const char *key;
    json_t *member;
    json_t *copy = json_copy(object);
    bool ok = copy && json_object_clear(object) == 0;
    if (!ok) {
        json_decref(copy);
        return false;
    }
    json_object_foreach(copy, key, member) {
        ok = ok && mark_value(m, member);
        cn_buf_clear(&m->text);
        add_marked(m->guard, m->mark, key, strlen(key), &m->text);
        cn_buf_add_char(&m->text, '\0');
        ok = ok && !m->text.overflowed && json_object_set(object, m->text.data, member) == 0;
    }
    json_decref(copy);
    return ok;
}

static bool mark_value(marker *m, json_t *value)
{
    size_t i;
    json_t *member;
    if (json_is_string(value)) return mark_string(m, value);
    if (json_is_object(value)) return mark_object(m, value);
    json_array_foreach(value, i, member) {
        if (!mark_value(m, member)) return false;
    }
    return true;
}

cn_code cn_prompt_guard_apply(const cn_prompt_guard *guard, json_t *const *values, uint32_t count,
                              cn_prompt_guard_mark *mark, cn_err *err)
{
    survey s = {.guard = guard};
    *mark = no_mark;
    for (uint32_t i = 0; i < count; i++) survey_value(&s, values[i]);
    if (!s.needed) return CN_OK;
    if (s.used == UINT32_MAX) {
        return cn_err_set_param(err, CN_E_INVALID, "messages",
                                "messages: special tokens beside all of U+FDD0 to U+FDEF; must "
                                "leave one of these noncharacters unused");
    }
    const unsigned index = (unsigned)__builtin_ctz(~s.used);
    *mark = (cn_prompt_guard_mark){{(char)0xEF, (char)0xB7, (char)(0x90 + index), 0}};
    marker m = {.guard = guard, .mark = mark};
    cn_buf_init(&m.text, SIZE_MAX / 2);
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++) ok = !values[i] || mark_value(&m, values[i]);
    cn_buf_close(&m.text);
    return ok ? CN_OK : cn_err_set(err, CN_E_MEMORY, "messages: no memory");
}

static const char *find_mark(const cn_prompt_guard_mark *mark, const char *text, size_t len)
{
    return *mark->text ? memmem(text, len, mark->text, MARK_BYTES) : NULL;
}

size_t cn_prompt_guard_strip(const cn_prompt_guard_mark *mark, char *text, size_t len)
{
    size_t from = 0, to = 0;
    for (const char *at; (at = find_mark(mark, text + from, len - from));) {
        const size_t run = (size_t)(at - (text + from));
        memmove(text + to, text + from, run);
        to += run;
        from += run + MARK_BYTES;
    }
    memmove(text + to, text + from, len - from);
    return to + len - from;
}

// ---- encoding

typedef struct encoder {
    const cn_prompt_guard *guard;
    const cn_prompt_guard_mark *mark;
    cn_encode_options options;   // tokens_max of the whole
    cn_arena *arena;
    int32_t *ids;                // in the arena
    uint32_t count, capacity;
    cn_err *err;
} encoder;

static cn_code append(encoder *e, const cn_token_list *list)
{
    const uint64_t count = (uint64_t)e->count + list->count;
    if (e->options.tokens_max && count > e->options.tokens_max) {
        return cn_err_set(e->err, CN_E_LIMIT, "prompt: more than %u tokens", e->options.tokens_max);
    }
    if (count > e->capacity) {
        const uint32_t capacity = (uint32_t)count * 2;
        int32_t *ids = cn_arena_take_array(e->arena, capacity, sizeof *ids);
        if (!ids) return cn_err_set(e->err, CN_E_MEMORY, "prompt: beyond limit request_bytes");
        if (e->count) memcpy(ids, e->ids, e->count * sizeof *ids);
        e->ids = ids;
        e->capacity = capacity;
    }
    if (list->count) memcpy(e->ids + e->count, list->ids, list->count * sizeof *e->ids);
    e->count = (uint32_t)count;
    return CN_OK;
}

static cn_code encode_piece(encoder *e, const char *text, size_t len, bool split_special)
{
    cn_token_list list;
    cn_encode_options options = e->options;
    options.add_special_tokens = false;
    options.split_special = split_special;
    if (len == 0) return CN_OK;
    const cn_code code =
        cn_tokenizer_encode(e->guard->tokenizer, text, len, &options, e->arena, &list, e->err);
    return code == CN_OK ? append(e, &list) : code;
}

static cn_code encode_marked(encoder *e, const char *text, size_t len)
{
    char *plain = cn_arena_copy(e->arena, text, len);
    if (!plain) return cn_err_set(e->err, CN_E_MEMORY, "prompt: beyond limit request_bytes");
    return encode_piece(e, plain, cn_prompt_guard_strip(e->mark, plain, len), true);
}

/* What the post-processor puts in front of every text: all that it makes of the empty one, which
 * for a tokenizer that also ends texts is too much by what stands behind the first. */
static cn_code encode_front(encoder *e)
{
    cn_token_list list;
    const cn_encode_options options = {.add_special_tokens = true};
    const cn_code code = cn_tokenizer_encode(e->guard->tokenizer, "", 0, &options, e->arena, &list,
                                             e->err);
    if (code != CN_OK) return code;
    if (list.count > 1) list.count = 1;
    return append(e, &list);
}

// The next special token from `from` on, and its length; the text's end and 0 if there is none.
static size_t next_special(const cn_prompt_guard *guard, const char *text, size_t len, size_t from,
                           size_t *token_len)
{
    found f;
    size_t at = from;
    while ((at = find_next(guard, text, len, at, &f)) < len && !f.len) at++;
    *token_len = f.len;
    return at;
}

static cn_code encode_pieces(encoder *e, const char *text, size_t len)
{
    size_t done = 0, stretch = 0, token_len;     // encoded so far; what follows the last special
    for (; stretch < len; stretch += token_len) {
        const size_t start = stretch;
        stretch = next_special(e->guard, text, len, start, &token_len);
        if (!find_mark(e->mark, text + start, stretch - start)) continue;
        cn_code code = encode_piece(e, text + done, start - done, false);
        if (code == CN_OK) code = encode_marked(e, text + start, stretch - start);
        if (code != CN_OK) return code;
        done = stretch;
    }
    return encode_piece(e, text + done, len - done, false);
}

cn_code cn_prompt_guard_encode(const cn_prompt_guard *guard, const cn_prompt_guard_mark *mark,
                               const char *text, size_t len, const cn_encode_options *options,
                               cn_arena *arena, cn_token_list *out, cn_err *err)
{
    if (!find_mark(mark, text, len)) {
        return cn_tokenizer_encode(guard->tokenizer, text, len, options, arena, out, err);
    }
    encoder e = {.guard = guard, .mark = mark, .options = *options, .arena = arena, .err = err};
    cn_code code = options->add_special_tokens ? encode_front(&e) : CN_OK;
    if (code == CN_OK) code = encode_pieces(&e, text, len);
    *out = (cn_token_list){e.ids, e.count};
    return code;
}
