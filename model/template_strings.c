#include "model/template_strings_int.h"

#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

bool cn_template_strings_want(cn_run *run, cn_value v, const char *what, cn_text *text)
{
    if (is_string(v)) {
        *text = text_of(v);
        return true;
    }
    if (is_undefined(v)) cn_template_run_undefined(run, v);
    else cn_template_run_invalid(run, "%s must be str, not %s", what, cn_template_value_type(v));
    return false;
}

bool cn_template_strings_want_int(cn_run *run, cn_value v, const char *what, int64_t absent,
                                  int64_t *out)
{
    *out = absent;
    if (is_missing(v)) return true;
    if (is_whole(v)) {
        *out = whole_of(v);
        return true;
    }
    if (is_undefined(v)) cn_template_run_undefined(run, v);
    else cn_template_run_invalid(run, "%s must be int, not %s", what, cn_template_value_type(v));
    return false;
}

static bool is_among(cn_text character, cn_text chars)
{
    for (size_t at = 0, len; at < chars.len; at += len) {
        cn_template_unicode_decode((cn_text){chars.at + at, chars.len - at}, &len);
        if (len == character.len && memcmp(chars.at + at, character.at, len) == 0) return true;
    }
    return false;
}

static bool to_strip(cn_text character, cn_text chars)
{
    size_t len;
    if (chars.at) return is_among(character, chars);
    return cn_template_unicode_is_space(cn_template_unicode_decode(character, &len));
}

cn_text cn_template_strings_strip(cn_text text, cn_text chars, uint32_t ends)
{
    while ((ends & CN_STRIP_LEFT) && text.len) {
        const cn_text first = {text.at, cn_template_value_offset(text, 1)};
        if (!to_strip(first, chars)) break;
        text.at += first.len;
        text.len -= first.len;
    }
    while ((ends & CN_STRIP_RIGHT) && text.len) {
        size_t from = text.len - 1;
        while (from && ((unsigned char)text.at[from] & 0xC0) == 0x80) from--;
        if (!to_strip((cn_text){text.at + from, text.len - from}, chars)) break;
        text.len = from;
    }
    return text;
}

// An empty `old` stands before every character and at the end.
static bool replace_empty(cn_run *run, cn_text text, cn_text new, int64_t count)
{
    size_t at = 0;
    while (at < text.len && count) {
        const size_t len = cn_template_value_offset((cn_text){text.at + at, text.len - at}, 1);
        if (!cn_template_run_emit(run, new.at, new.len)) return false;
        if (!cn_template_run_emit(run, text.at + at, len)) return false;
        if (!cn_template_run_charge(run, 1)) return false;
        at += len;
        count--;
    }
    if (!cn_template_run_emit(run, text.at + at, text.len - at)) return false;
    return at < text.len || !count || cn_template_run_emit(run, new.at, new.len);
}

static bool replace_found(cn_run *run, cn_text text, cn_text old, cn_text new, int64_t count)
{
    for (; count; count--) {
        const char *found = text.len ? memmem(text.at, text.len, old.at, old.len) : NULL;
        if (!found) break;
        const size_t before = (size_t)(found - text.at);
        if (!cn_template_run_charge(run, 1) || !cn_template_run_emit(run, text.at, before) ||
            !cn_template_run_emit(run, new.at, new.len)) {
            return false;
        }
        text.at = found + old.len;
        text.len -= before + old.len;
    }
    return cn_template_run_emit(run, text.at, text.len);
}

cn_value cn_template_strings_replace(cn_run *run, cn_text text, cn_text old, cn_text new,
                                     int64_t count)
{
    const size_t mark = cn_template_run_begin(run);
    if (old.len) replace_found(run, text, old, new, count);
    else replace_empty(run, text, new, count);
    return cn_template_run_end(run, mark);
}

cn_value cn_template_strings_pad(cn_run *run, cn_text text, int64_t left, int64_t right,
                                 cn_text fill)
{
    const size_t mark = cn_template_run_begin(run);
    bool ok = true;
    for (; ok && left > 0; left--) ok = cn_template_run_emit(run, fill.at, fill.len);
    ok = ok && cn_template_run_emit(run, text.at, text.len);
    for (; ok && right > 0; right--) ok = cn_template_run_emit(run, fill.at, fill.len);
    return cn_template_run_end(run, mark);
}

cn_value cn_template_strings_center(cn_run *run, cn_text text, int64_t width, cn_text fill)
{
    const int64_t points = (int64_t)cn_template_value_points(text);
    const int64_t space = width > points ? width - points : 0;
    const int64_t left = space / 2 + (space & width & 1);
    if (!cn_template_run_charge(run, (uint64_t)space)) return make_bad();
    return cn_template_strings_pad(run, text, left, space - left, fill);
}

cn_value cn_template_strings_lines(cn_run *run, cn_text text, bool keep_ends)
{
    size_t count = 0, end;
    for (size_t at = 0; at < text.len; count++) {
        at += cn_template_unicode_line((cn_text){text.at + at, text.len - at}, &end);
        at += end;
    }
    cn_value *lines = cn_template_run_take(run, count, sizeof *lines);
    if (!lines) return make_bad();
    for (size_t i = 0, at = 0; i < count; i++) {
        const size_t len = cn_template_unicode_line((cn_text){text.at + at, text.len - at}, &end);
        lines[i] = make_text(text.at + at, len + (keep_ends ? end : 0));
        at += len + end;
    }
    return make_items(CN_LIST, lines, count);
}

cn_value cn_template_strings_join(cn_run *run, cn_text separator, cn_value v)
{
    cn_walk walk;
    cn_value item;
    if (!cn_template_value_walk(run, v, &walk)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    for (bool first = true; cn_template_value_next(run, &walk, &item); first = false) {
        cn_text text;
        if (!cn_template_strings_want(run, item, "an item to join", &text)) break;
        if (!first && !cn_template_run_emit(run, separator.at, separator.len)) break;
        if (!cn_template_run_emit(run, text.at, text.len)) break;
    }
    return cn_template_run_end(run, mark);
}
