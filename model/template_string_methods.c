#include "model/template_methods_int.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "model/template_format_int.h"
#include "model/template_ops_int.h"
#include "model/template_strings_int.h"
#include "model/template_unicode_int.h"

static cn_value from_text(cn_text text) { return make_text(text.at, text.len); }

static cn_text character_at(cn_text text, size_t at)
{
    const cn_text rest = {text.at + at, text.len - at};
    return (cn_text){rest.at, cn_template_value_offset(rest, 1)};
}

// Cases

static cn_value upper(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_upper(run, text_of(a[0]));
    return cn_template_run_end(run, mark);
}

static cn_value lower(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_lower(run, text_of(a[0]));
    return cn_template_run_end(run, mark);
}

static cn_value capitalize(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_capitalize(run, text_of(a[0]));
    return cn_template_run_end(run, mark);
}

static cn_value casefold(cn_run *run, const cn_value *a, const cn_args *args)
{
    utf8proc_uint8_t *folded = NULL;
    (void)args;
    const utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)a[0].as.text, a[0].len,
                                              &folded, UTF8PROC_CASEFOLD);
    if (len < 0) return cn_template_run_fail(run, CN_E_MEMORY, "no memory for casefold()");
    char *copy = cn_template_run_take(run, (size_t)len, 1);
    if (copy && len) memcpy(copy, folded, (size_t)len);
    free(folded);
    return copy ? make_text(copy, (size_t)len) : make_bad();
}

static bool has_case(uint32_t point)
{
    return cn_template_unicode_is_upper(point) || cn_template_unicode_is_lower(point) ||
           cn_template_unicode_is_title(point);
}

// Letters behind what has no case begin a word.
static cn_value title(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_text text = text_of(a[0]);
    size_t from = 0, len;
    (void)args;
    const size_t mark = cn_template_run_begin(run);
    while (from < text.len && !run->code) {
        size_t at = from;
        for (; at < text.len; at += len) {
            const cn_text rest = {text.at + at, text.len - at};
            if (!has_case(cn_template_unicode_decode(rest, &len))) break;
        }
        cn_template_unicode_capitalize(run, (cn_text){text.at + from, at - from});
        const cn_text between = at < text.len ? character_at(text, at) : (cn_text){text.at + at, 0};
        cn_template_run_emit(run, between.at, between.len);
        from = at + between.len;
    }
    return cn_template_run_end(run, mark);
}

static cn_value swapcase(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_text text = text_of(a[0]);
    size_t len;
    (void)args;
    const size_t mark = cn_template_run_begin(run);
    for (size_t at = 0; at < text.len; at += len) {
        const cn_text one = character_at(text, at);
        const uint32_t point = cn_template_unicode_decode(one, &len);
        if (cn_template_unicode_is_upper(point)) cn_template_unicode_lower(run, one);
        else if (cn_template_unicode_is_lower(point)) cn_template_unicode_upper(run, one);
        else cn_template_run_emit(run, one.at, one.len);
        if (run->code) break;
    }
    return cn_template_run_end(run, mark);
}

// Searching

// Where a start or end argument points to in a text of `length` code points; a start may lie beyond.
static int64_t place_of(cn_value index, int64_t length, int64_t if_none)
{
    if (!is_whole(index)) return if_none;
    const int64_t at = whole_of(index);
    return at >= 0 ? at : at < -length ? 0 : at + length;
}

// The part of a[0] that optional start and end arguments leave; *from is its first code point, or
// -1 where the start lies beyond the end: as in Python, not even the empty text is found there.
static bool part_of(cn_run *run, const cn_value *a, cn_value start, cn_value end, cn_text *part,
                    int64_t *from)
{
    const cn_value slice = cn_template_ops_slice(run, a[0], start, end, make_missing());
    if (is_bad(slice)) return false;
    *part = text_of(slice);
    const int64_t length = cn_template_value_length(a[0]);
    const int64_t to = place_of(end, length, length);
    *from = place_of(start, length, 0);
    if (*from > (to < length ? to : length)) *from = -1;
    return true;
}

static const char *last_of(cn_text text, cn_text wanted)
{
    if (wanted.len > text.len) return NULL;
    for (size_t at = text.len - wanted.len + 1; at-- > 0;) {
        if (memcmp(text.at + at, wanted.at, wanted.len) == 0) return text.at + at;
    }
    return NULL;
}

static const char *first_of(cn_text text, cn_text wanted)
{
    return wanted.len ? memmem(text.at, text.len, wanted.at, wanted.len) : text.at;
}

// Index in code points, -1 if it is not there; false if the render has failed.
static bool search(cn_run *run, const cn_value *a, bool from_end, int64_t *index)
{
    cn_text wanted, part;
    int64_t from;
    if (!cn_template_strings_want(run, a[1], "what is searched", &wanted) ||
        !part_of(run, a, a[2], a[3], &part, &from) ||
        !cn_template_run_charge_bytes(run, part.len)) {
        return false;
    }
    const char *found = from_end ? last_of(part, wanted) : first_of(part, wanted);
    *index = -1;
    if (found && from >= 0) {
        *index =
            from + (int64_t)cn_template_value_points((cn_text){part.at, (size_t)(found - part.at)});
    }
    return true;
}

static cn_value find(cn_run *run, const cn_value *a, const cn_args *args)
{
    int64_t index;
    (void)args;
    return search(run, a, false, &index) ? make_int(index) : make_bad();
}

static cn_value rfind(cn_run *run, const cn_value *a, const cn_args *args)
{
    int64_t index;
    (void)args;
    return search(run, a, true, &index) ? make_int(index) : make_bad();
}

static cn_value found_index(cn_run *run, const cn_value *a, bool from_end)
{
    int64_t index;
    if (!search(run, a, from_end, &index)) return make_bad();
    return index >= 0 ? make_int(index) : cn_template_run_invalid(run, "substring not found");
}

static cn_value index_of(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return found_index(run, a, false);
}

static cn_value rindex_of(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return found_index(run, a, true);
}

static cn_value count(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text wanted, part;
    int64_t from, times = 0;
    (void)args;
    if (!cn_template_strings_want(run, a[1], "what is counted", &wanted) ||
        !part_of(run, a, a[2], a[3], &part, &from) ||
        !cn_template_run_charge_bytes(run, part.len)) {
        return make_bad();
    }
    if (from < 0) return make_int(0);
    if (!wanted.len) return make_int((int64_t)cn_template_value_points(part) + 1);
    for (const char *found; part.len && (found = first_of(part, wanted)); times++) {
        part.len -= (size_t)(found - part.at) + wanted.len;
        part.at = found + wanted.len;
    }
    return make_int(times);
}

static bool has_end(cn_text text, cn_text end, bool at_start)
{
    if (end.len > text.len) return false;
    return memcmp(at_start ? text.at : text.at + text.len - end.len, end.at, end.len) == 0;
}

// a[1] is a string or a tuple of strings.
static cn_value has_any_end(cn_run *run, const cn_value *a, bool at_start)
{
    const cn_value one[] = {a[1]};
    const cn_value ends = a[1].kind == CN_TUPLE ? a[1] : make_items(CN_TUPLE, one, 1);
    cn_text part, end;
    int64_t from;
    if (!part_of(run, a, a[2], a[3], &part, &from)) return make_bad();
    for (uint32_t i = 0; i < ends.len; i++) {
        if (!cn_template_strings_want(run, ends.as.items[i], "a prefix or suffix", &end)) {
            return make_bad();
        }
        if (from >= 0 && has_end(part, end, at_start)) return make_bool(true);
    }
    return make_bool(false);
}

static cn_value startswith(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return has_any_end(run, a, true);
}

static cn_value endswith(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return has_any_end(run, a, false);
}

// Cutting

static cn_value strip_ends(cn_run *run, const cn_value *a, uint32_t ends)
{
    cn_text chars = {0};
    if (!is_missing(a[1]) && a[1].kind != CN_NONE &&
        !cn_template_strings_want(run, a[1], "strip's characters", &chars)) {
        return make_bad();
    }
    if (!cn_template_run_charge_bytes(run, a[0].len)) return make_bad();
    return from_text(cn_template_strings_strip(text_of(a[0]), chars, ends));
}

static cn_value strip(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return strip_ends(run, a, CN_STRIP_LEFT | CN_STRIP_RIGHT);
}

static cn_value lstrip(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return strip_ends(run, a, CN_STRIP_LEFT);
}

static cn_value rstrip(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return strip_ends(run, a, CN_STRIP_RIGHT);
}

static cn_value removeprefix(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text = text_of(a[0]), end;
    (void)args;
    if (!cn_template_strings_want(run, a[1], "the prefix", &end)) return make_bad();
    if (!has_end(text, end, true)) return a[0];
    return make_text(text.at + end.len, text.len - end.len);
}

static cn_value removesuffix(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text = text_of(a[0]), end;
    (void)args;
    if (!cn_template_strings_want(run, a[1], "the suffix", &end)) return make_bad();
    if (!has_end(text, end, false)) return a[0];
    return make_text(text.at, text.len - end.len);
}

// Splitting. Pieces are found one by one and collected in a growing list.

typedef struct pieces {
    cn_value *items;
    uint32_t count, capacity;
} pieces;

static bool add_piece(cn_run *run, pieces *p, const char *at, size_t len)
{
    if (p->count == p->capacity) {
        const uint32_t capacity = p->capacity ? p->capacity * 2 : 8;
        cn_value *items = cn_template_run_take(run, capacity, sizeof *items);
        if (!items) return false;
        if (p->count) memcpy(items, p->items, p->count * sizeof *items);
        p->items = items;
        p->capacity = capacity;
    }
    p->items[p->count++] = make_text(at, len);
    return cn_template_run_charge(run, 1);
}

static bool split_text(cn_run *run, cn_text text, cn_text separator, int64_t most, pieces *p)
{
    while (most--) {
        const char *found = text.len ? first_of(text, separator) : NULL;
        if (!found) break;
        if (!add_piece(run, p, text.at, (size_t)(found - text.at))) return false;
        text.len -= (size_t)(found - text.at) + separator.len;
        text.at = found + separator.len;
    }
    return add_piece(run, p, text.at, text.len);
}

static size_t word_len(cn_text text)
{
    size_t at = 0, len;
    for (; at < text.len; at += len) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
        if (cn_template_unicode_is_space(point)) break;
    }
    return at;
}

static bool split_space(cn_run *run, cn_text text, int64_t most, pieces *p)
{
    for (;;) {
        const size_t space = cn_template_unicode_space(text);
        text = (cn_text){text.at + space, text.len - space};
        if (!text.len) return true;
        if (most-- == 0) return add_piece(run, p, text.at, text.len);
        const size_t word = word_len(text);
        if (!add_piece(run, p, text.at, word)) return false;
        text = (cn_text){text.at + word, text.len - word};
    }
}

static bool rsplit_text(cn_run *run, cn_text text, cn_text separator, int64_t most, pieces *p)
{
    while (most--) {
        const char *found = last_of(text, separator);
        if (!found) break;
        const char *piece = found + separator.len;
        if (!cn_template_run_charge_bytes(run, (uint64_t)(text.at + text.len - piece))) {
            return false;
        }
        if (!add_piece(run, p, piece, (size_t)(text.at + text.len - piece))) return false;
        text.len = (size_t)(found - text.at);
    }
    return add_piece(run, p, text.at, text.len);
}

static bool rsplit_space(cn_run *run, cn_text text, int64_t most, pieces *p)
{
    for (;;) {
        text.len -= cn_template_unicode_space_back(text);
        if (!text.len) return true;
        if (most-- == 0) return add_piece(run, p, text.at, text.len);
        size_t from = text.len, len;
        while (from) {
            size_t before = from - 1;
            while (before && ((unsigned char)text.at[before] & 0xC0) == 0x80) before--;
            const cn_text one = {text.at + before, from - before};
            if (cn_template_unicode_is_space(cn_template_unicode_decode(one, &len))) break;
            from = before;
        }
        if (!add_piece(run, p, text.at + from, text.len - from)) return false;
        text.len = from;
    }
}

static cn_value split_any(cn_run *run, const cn_value *a, bool from_end)
{
    const cn_text text = text_of(a[0]);
    const bool by_space = is_missing(a[1]) || a[1].kind == CN_NONE;
    cn_text separator = {0};
    int64_t most;
    pieces p = {0};
    if (!cn_template_strings_want_int(run, a[2], "maxsplit", -1, &most)) return make_bad();
    if (!by_space && !cn_template_strings_want(run, a[1], "the separator", &separator)) {
        return make_bad();
    }
    if (!by_space && !separator.len) return cn_template_run_invalid(run, "empty separator");
    if (most < 0) most = INT64_MAX;
    bool ok;
    if (from_end) {
        ok = by_space ? rsplit_space(run, text, most, &p)
                      : rsplit_text(run, text, separator, most, &p);
    } else {
        ok = by_space ? split_space(run, text, most, &p)
                      : split_text(run, text, separator, most, &p);
    }
    if (!ok || !cn_template_run_charge_bytes(run, text.len)) return make_bad();
    for (uint32_t i = 0; from_end && i < p.count / 2; i++) {
        const cn_value swap = p.items[i];
        p.items[i] = p.items[p.count - 1 - i];
        p.items[p.count - 1 - i] = swap;
    }
    return make_items(CN_LIST, p.items, p.count);
}

static cn_value split(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return split_any(run, a, false);
}

static cn_value rsplit(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return split_any(run, a, true);
}

static cn_value splitlines(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const bool keep_ends = !is_missing(a[1]) && cn_template_value_truth(a[1]);
    return cn_template_strings_lines(run, text_of(a[0]), keep_ends);
}

static cn_value parted(cn_run *run, const cn_value *a, bool from_end)
{
    const cn_text text = text_of(a[0]);
    cn_text separator;
    if (!cn_template_strings_want(run, a[1], "the separator", &separator)) return make_bad();
    if (!separator.len) return cn_template_run_invalid(run, "empty separator");
    cn_value *parts = cn_template_run_take(run, 3, sizeof *parts);
    if (!parts || !cn_template_run_charge_bytes(run, text.len)) return make_bad();
    const char *found = from_end ? last_of(text, separator) : first_of(text, separator);
    parts[0] = parts[1] = parts[2] = make_text("", 0);
    if (found) {
        const size_t before = (size_t)(found - text.at);
        parts[0] = make_text(text.at, before);
        parts[1] = make_text(found, separator.len);
        parts[2] = make_text(found + separator.len, text.len - before - separator.len);
    } else {
        parts[from_end ? 2 : 0] = a[0];
    }
    return make_items(CN_TUPLE, parts, 3);
}

static cn_value partition(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return parted(run, a, false);
}

static cn_value rpartition(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return parted(run, a, true);
}

// Building

static cn_value join(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return cn_template_strings_join(run, text_of(a[0]), a[1]);
}

static cn_value replace(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text old, new;
    int64_t most;
    (void)args;
    if (!cn_template_strings_want(run, a[1], "what is replaced", &old) ||
        !cn_template_strings_want(run, a[2], "the replacement", &new) ||
        !cn_template_strings_want_int(run, a[3], "replace's count", -1, &most)) {
        return make_bad();
    }
    return cn_template_strings_replace(run, text_of(a[0]), old, new, most);
}

// Spaces that are missing to the width a[1], and the character to fill with.
static bool padding(cn_run *run, const cn_value *a, int64_t *space, cn_text *fill)
{
    int64_t width;
    *fill = (cn_text){" ", 1};
    if (!cn_template_strings_want_int(run, a[1], "the width", 0, &width)) return false;
    if (!is_missing(a[2])) {
        if (!cn_template_strings_want(run, a[2], "the fill character", fill)) return false;
        if (cn_template_value_points(*fill) != 1) {
            cn_template_run_invalid(run, "the fill character must be exactly one character long");
            return false;
        }
    }
    const int64_t points = (int64_t)cn_template_value_points(text_of(a[0]));
    *space = width > points ? width - points : 0;
    return cn_template_run_charge(run, (uint64_t)*space);
}

static cn_value ljust(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text fill;
    int64_t space;
    (void)args;
    if (!padding(run, a, &space, &fill)) return make_bad();
    return cn_template_strings_pad(run, text_of(a[0]), 0, space, fill);
}

static cn_value rjust(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text fill;
    int64_t space;
    (void)args;
    if (!padding(run, a, &space, &fill)) return make_bad();
    return cn_template_strings_pad(run, text_of(a[0]), space, 0, fill);
}

static cn_value center(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text fill;
    int64_t space;
    (void)args;
    if (!padding(run, a, &space, &fill)) return make_bad();
    return cn_template_strings_center(run, text_of(a[0]), whole_of(a[1]), fill);
}

static cn_value zfill(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value plain[] = {a[0], a[1], make_missing()};
    const cn_text text = text_of(a[0]);
    const bool sign = text.len && (text.at[0] == '+' || text.at[0] == '-');
    cn_text fill;
    int64_t space;
    (void)args;
    if (!padding(run, plain, &space, &fill)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_run_emit(run, text.at, sign);
    for (; space > 0 && !run->code; space--) cn_template_run_emit(run, "0", 1);
    cn_template_run_emit(run, text.at + sign, text.len - sign);
    return cn_template_run_end(run, mark);
}

static cn_value format(cn_run *run, const cn_value *a, const cn_args *args)
{
    return cn_template_format_braces(run, text_of(a[0]), args);
}

// Kinds of characters

// Whether there are characters, and each `is` of the kind.
static cn_value all(cn_value v, bool (*is)(uint32_t), bool when_empty)
{
    size_t len;
    for (size_t at = 0; at < v.len; at += len) {
        if (!is(cn_template_unicode_decode((cn_text){v.as.text + at, v.len - at}, &len))) {
            return make_bool(false);
        }
    }
    return make_bool(v.len || when_empty);
}

static bool is_alnum_point(uint32_t point)
{
    return cn_template_unicode_is_alpha(point) || cn_template_unicode_is_numeric(point) ||
           cn_template_unicode_is_digit(point);
}

static bool is_ascii_point(uint32_t point) { return point < 0x80; }

static cn_value isalnum_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], is_alnum_point, false);
}

static cn_value isalpha_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_alpha, false);
}

static cn_value isascii_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], is_ascii_point, true);
}

static cn_value isdecimal_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_decimal, false);
}

static cn_value isdigit_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_digit, false);
}

static cn_value isnumeric_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_numeric, false);
}

static cn_value isprintable_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_printable, true);
}

static cn_value isspace_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return all(a[0], cn_template_unicode_is_space, false);
}

static cn_value by_test(cn_run *run, const cn_value *a, const char *name)
{
    const cn_args args = {.positional = a, .positional_count = 1};
    return cn_template_native_call(run, cn_template_tests_find(text_from(name)), &args);
}

static cn_value islower_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return by_test(run, a, "lower");
}

static cn_value isupper_(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return by_test(run, a, "upper");
}

const cn_native cn_template_string_methods[] = {
    {"capitalize", capitalize, 1, 1, {NULL}},
    {"casefold", casefold, 1, 1, {NULL}},
    {"center", center, 2, 3, {NULL}},
    {"count", count, 2, 4, {NULL}},
    {"endswith", endswith, 2, 4, {NULL}},
    {"find", find, 2, 4, {NULL}},
    {"format", format, 1, CN_VARIADIC, {NULL}},
    {"index", index_of, 2, 4, {NULL}},
    {"isalnum", isalnum_, 1, 1, {NULL}},
    {"isalpha", isalpha_, 1, 1, {NULL}},
    {"isascii", isascii_, 1, 1, {NULL}},
    {"isdecimal", isdecimal_, 1, 1, {NULL}},
    {"isdigit", isdigit_, 1, 1, {NULL}},
    {"islower", islower_, 1, 1, {NULL}},
    {"isnumeric", isnumeric_, 1, 1, {NULL}},
    {"isprintable", isprintable_, 1, 1, {NULL}},
    {"isspace", isspace_, 1, 1, {NULL}},
    {"isupper", isupper_, 1, 1, {NULL}},
    {"join", join, 2, 2, {NULL}},
    {"ljust", ljust, 2, 3, {NULL}},
    {"lower", lower, 1, 1, {NULL}},
    {"lstrip", lstrip, 1, 2, {NULL}},
    {"partition", partition, 2, 2, {NULL}},
    {"removeprefix", removeprefix, 2, 2, {NULL}},
    {"removesuffix", removesuffix, 2, 2, {NULL}},
    {"replace", replace, 3, 4, {NULL}},
    {"rfind", rfind, 2, 4, {NULL}},
    {"rindex", rindex_of, 2, 4, {NULL}},
    {"rjust", rjust, 2, 3, {NULL}},
    {"rpartition", rpartition, 2, 2, {NULL}},
    {"rsplit", rsplit, 1, 3, {"self", "sep", "maxsplit"}},
    {"rstrip", rstrip, 1, 2, {NULL}},
    {"split", split, 1, 3, {"self", "sep", "maxsplit"}},
    {"splitlines", splitlines, 1, 2, {"self", "keepends"}},
    {"startswith", startswith, 2, 4, {NULL}},
    {"strip", strip, 1, 2, {NULL}},
    {"swapcase", swapcase, 1, 1, {NULL}},
    {"title", title, 1, 1, {NULL}},
    {"upper", upper, 1, 1, {NULL}},
    {"zfill", zfill, 2, 2, {NULL}},
    // Python has these, and no chat template needs them.
    {"encode", NULL, 0, 0, {NULL}},
    {"expandtabs", NULL, 0, 0, {NULL}},
    {"format_map", NULL, 0, 0, {NULL}},
    {"isidentifier", NULL, 0, 0, {NULL}},
    {"istitle", NULL, 0, 0, {NULL}},
    {"maketrans", NULL, 0, 0, {NULL}},
    {"translate", NULL, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};
