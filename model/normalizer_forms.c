#include "model/normalizer_int.h"

#include <string.h>

#include <utf8proc.h>

#include "model/tokenizer_unicode_int.h"

/* How it works. Text that a form leaves alone is most text, so it is recognised first and not
 * copied. The rest is cut where nothing can reach across (in front of ASCII, and around characters
 * that the library's older Unicode does not know: they are copied as they are) and each section is
 * decomposed, put into canonical order and composed. utf8proc decomposes and composes; the order is
 * ours, since utf8proc's is quadratic in the number of marks on a letter, which a prompt could abuse. */

typedef struct section {
    int32_t *points;                 // decomposed
    size_t count, capacity;
} section;

/* Below this, and in the CJK and Hangul blocks, no character changes under composition. */
static bool is_stable(int32_t c, int forms)
{
    if (c < 0x80) return true;
    if (forms & UTF8PROC_COMPAT) return false;
    if (!(forms & UTF8PROC_COMPOSE)) return c >= 0x3400 && c <= 0x9FFF;
    return c < 0x300 || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3);
}

/* Offset of the first character that may change, or that something behind it may change. */
static size_t stable_len(const char *text, size_t len, int forms)
{
    size_t before = 0;               // start of the last stable character
    for (size_t at = 0, step; at < len; at += step) {
        if (!is_stable(cn_tokenizer_unicode_at(text + at, &step), forms)) return before;
        before = at;
    }
    return len;
}

static bool add_points(section *s, cn_arena *arena, int32_t c, int forms)
{
    enum { EXPANSION_MAX = 18 };     // U+FDFA under NFKD, the longest there is
    if (s->capacity - s->count < EXPANSION_MAX) {
        const size_t capacity = s->capacity ? s->capacity * 2 : 256;
        int32_t *points = cn_arena_take(arena, capacity * sizeof *points);
        if (!points) return false;
        if (s->count) memcpy(points, s->points, s->count * sizeof *points);
        s->points = points;
        s->capacity = capacity;
    }
    int last = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, s->points + s->count, EXPANSION_MAX,
                                                       (utf8proc_option_t)forms, &last);
    if (n < 0 || n > EXPANSION_MAX) return false;
    s->count += (size_t)n;
    return true;
}

static int class_of(int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Stable order of a run of marks by their class: by insertion while it is short, else by counting.
static bool order_marks(int32_t *marks, size_t count, cn_arena *arena)
{
    enum { INSERTION_MAX = 16 };
    if (count <= INSERTION_MAX) {
        for (size_t i = 1; i < count; i++) {
            const int32_t c = marks[i];
            size_t at = i;
            for (; at > 0 && class_of(marks[at - 1]) > class_of(c); at--) marks[at] = marks[at - 1];
            marks[at] = c;
        }
        return true;
    }
    size_t starts[257] = {0};
    int32_t *sorted = cn_arena_take(arena, count * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < count; i++) starts[class_of(marks[i]) + 1]++;
    for (int i = 1; i < 257; i++) starts[i] += starts[i - 1];
    for (size_t i = 0; i < count; i++) sorted[starts[class_of(marks[i])]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *sorted);
    return true;
}

static bool order(section *s, cn_arena *arena)
{
    for (size_t at = 0; at < s->count;) {
        size_t end = at;
        while (end < s->count && class_of(s->points[end]) > 0) end++;
        if (end - at > 1 && !order_marks(s->points + at, end - at, arena)) return false;
        at = end + 1;
    }
    return true;
}

typedef struct writer {
    cn_arena *arena;
    char *bytes;
    size_t len, capacity;
} writer;

static bool write_room(writer *w, size_t bytes)
{
    if (bytes <= w->capacity - w->len) return true;
    const size_t capacity = (w->len + bytes) * 2;
    char *grown = cn_arena_take(w->arena, capacity);
    if (!grown) return false;
    if (w->len) memcpy(grown, w->bytes, w->len);
    w->bytes = grown;
    w->capacity = capacity;
    return true;
}

static bool write_bytes(writer *w, const char *text, size_t len)
{
    if (!write_room(w, len)) return false;
    memcpy(w->bytes + w->len, text, len);
    w->len += len;
    return true;
}

static bool write_section(writer *w, section *s, int forms)
{
    if (!order(s, w->arena)) return false;
    utf8proc_ssize_t count = (utf8proc_ssize_t)s->count;
    if (forms & UTF8PROC_COMPOSE) {
        count = utf8proc_normalize_utf32(s->points, count, (utf8proc_option_t)forms);
    }
    if (count < 0 || !write_room(w, (size_t)count * 4)) return false;
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        w->len += (size_t)utf8proc_encode_char(s->points[i],
                                               (utf8proc_uint8_t *)w->bytes + w->len);
    }
    s->count = 0;
    return true;
}

// Writes one section, which begins at `text`, and returns its length; 0: no memory.
static size_t normalize_section(writer *w, section *s, const char *text, size_t len, int forms)
{
    size_t at = 0, step;
    for (; at < len; at += step) {
        const int32_t c = cn_tokenizer_unicode_at(text + at, &step);
        if (at > 0 && c < 0x80) break;
        if (cn_tokenizer_unicode_is_inert(c)) {
            if (!write_section(w, s, forms) || !write_bytes(w, text + at, step)) return 0;
            return at + step;
        }
        if (!add_points(s, w->arena, c, forms)) return 0;
    }
    return write_section(w, s, forms) ? at : 0;
}

cn_code cn_normalizer_forms_run(const cn_normalizer_step *step, cn_tokenizer_work *work,
                                cn_tokenizer_text *text)
{
    section s = {0};
    writer w = {.arena = work->arena};
    size_t at = 0;
    while (at < text->len) {
        const size_t same = stable_len(text->at + at, text->len - at, step->forms);
        if (same == text->len) return CN_OK;
        if (same && !write_bytes(&w, text->at + at, same)) return cn_tokenizer_work_memory(work);
        at += same;
        if (at == text->len) break;
        const size_t done = normalize_section(&w, &s, text->at + at, text->len - at, step->forms);
        if (done == 0) return cn_tokenizer_work_memory(work);
        at += done;
    }
    text->at = w.bytes;
    text->len = w.len;
    return CN_OK;
}
