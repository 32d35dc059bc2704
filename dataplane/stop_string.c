#include "dataplane/stop_string.h"

/* How it works. One automaton of Knuth, Morris and Pratt (1977) per string: `matched` is the length
 * of the longest prefix of the string that the text so far ends with. The longest of all those
 * prefixes is what must be held back, and since it is a prefix of a string that we have, the held
 * text needs no buffer: its string and length are enough. A byte costs one step per string,
 * amortized. */

static void fill_fallback(const char *text, uint32_t len, uint32_t *fallback)
{
    uint32_t n = 0;
    fallback[0] = 0;
    fallback[1] = 0;
    for (uint32_t i = 1; i < len; i++) {
        while (n && text[i] != text[n]) n = fallback[n];
        if (text[i] == text[n]) n++;
        fallback[i + 1] = n;
    }
}

cn_code cn_stop_string_set_init(cn_stop_string_set *set, const char *const *texts,
                                const uint32_t *lens, uint32_t count, cn_arena *arena)
{
    cn_stop_string *strings = cn_arena_take_array(arena, count, sizeof *strings);
    if (!strings) return CN_E_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *fallback = cn_arena_take_array(arena, (size_t)lens[i] + 1, sizeof *fallback);
        if (!fallback) return CN_E_MEMORY;
        fill_fallback(texts[i], lens[i], fallback);
        strings[i] = (cn_stop_string){texts[i], lens[i], fallback};
    }
    *set = (cn_stop_string_set){strings, count};
    return CN_OK;
}

cn_code cn_stop_string_scan_init(cn_stop_string_scan *scan, const cn_stop_string_set *set,
                                 cn_arena *arena)
{
    *scan = (cn_stop_string_scan){.set = set};
    if (set->count == 0) return CN_OK;
    scan->matched = cn_arena_take_array(arena, set->count, sizeof *scan->matched);
    return scan->matched ? CN_OK : CN_E_MEMORY;
}

// Steps every automaton; the longest string that is complete now, or CN_STOP_STRING_NONE.
static int32_t step(cn_stop_string_scan *scan, char c)
{
    int32_t found = CN_STOP_STRING_NONE;
    for (uint32_t i = 0; i < scan->set->count; i++) {
        const cn_stop_string *s = &scan->set->strings[i];
        uint32_t n = scan->matched[i];
        while (n == s->len || (n && s->text[n] != c)) n = s->fallback[n];
        if (s->text[n] == c) n++;
        scan->matched[i] = n;
        if (n == s->len && (found < 0 || s->len > scan->set->strings[found].len))
            found = (int32_t)i;
    }
    return found;
}

static void hold_longest(cn_stop_string_scan *scan)
{
    scan->held_len = 0;
    for (uint32_t i = 0; i < scan->set->count; i++) {
        if (scan->matched[i] <= scan->held_len) continue;
        scan->held_string = i;
        scan->held_len = scan->matched[i];
    }
}

// Appends the first `len` bytes of what was held, followed by the piece.
static void add_prefix(const char *held, size_t held_len, const char *piece, size_t len,
                       cn_buf *out)
{
    const size_t from_held = len < held_len ? len : held_len;
    cn_buf_add(out, held, from_held);
    cn_buf_add(out, piece, len - from_held);
}

int32_t cn_stop_string_push(cn_stop_string_scan *scan, const char *piece, size_t len, bool include,
                            cn_buf *out)
{
    if (scan->set->count == 0) {
        cn_buf_add(out, piece, len);
        return CN_STOP_STRING_NONE;
    }
    const size_t held_len = scan->held_len;
    const char *held = scan->set->strings[scan->held_string].text;
    for (size_t i = 0; i < len; i++) {
        const int32_t found = step(scan, piece[i]);
        if (found < 0) continue;
        const size_t cut = include ? 0 : scan->set->strings[found].len;
        add_prefix(held, held_len, piece, held_len + i + 1 - cut, out);
        scan->held_len = 0;
        return found;
    }
    hold_longest(scan);
    add_prefix(held, held_len, piece, held_len + len - scan->held_len, out);
    return CN_STOP_STRING_NONE;
}

void cn_stop_string_finish(cn_stop_string_scan *scan, cn_buf *out)
{
    if (scan->held_len) {
        cn_buf_add(out, scan->set->strings[scan->held_string].text, scan->held_len);
    }
    scan->held_len = 0;
}
