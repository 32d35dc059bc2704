#include "model/template_native_int.h"

#include <math.h>
#include <stdio.h>

#include "model/template_format_int.h"
#include "model/template_json_int.h"
#include "model/template_numbers_int.h"
#include "model/template_ops_int.h"
#include "model/template_select_int.h"
#include "model/template_strings_int.h"
#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

/* How it works. Each filter is a function below and a line in the table at the end; the arguments
 * come in the order of that line. Filters on items of sequences are in template_select.c. */

static bool flag(cn_value v) { return !is_missing(v) && cn_template_value_truth(v); }

// The text of any value, as Jinja's soft_str.
static bool soft_text(cn_run *run, cn_value v, cn_text *text)
{
    const cn_value string = cn_template_text_string(run, v);
    *text = text_of(string);
    return !is_bad(string);
}

// Texts

static cn_value filter_upper(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_upper(run, text);
    return cn_template_run_end(run, mark);
}

static cn_value filter_lower(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_lower(run, text);
    return cn_template_run_end(run, mark);
}

static cn_value filter_capitalize(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_capitalize(run, text);
    return cn_template_run_end(run, mark);
}

static bool separates_words(uint32_t point)
{
    return cn_template_unicode_is_space(point) ||
           (point < 0x80 && point && strchr("-({[<", (int)point));
}

// Words begin behind white space and the characters - ( { [ <.
static cn_value filter_title(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    size_t from = 0;
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    while (from < text.len && !run->code) {
        size_t first, len, at = from;
        const bool separators = separates_words(
            cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &first));
        for (; at < text.len; at += len) {
            const uint32_t point =
                cn_template_unicode_decode((cn_text){text.at + at, text.len - at}, &len);
            if (separates_words(point) != separators) break;
        }
        cn_template_unicode_upper(run, (cn_text){text.at + from, first});
        cn_template_unicode_lower(run, (cn_text){text.at + from + first, at - from - first});
        from = at;
    }
    return cn_template_run_end(run, mark);
}

static cn_value filter_trim(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text, chars = {0};
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    if (!is_missing(a[1]) && a[1].kind != CN_NONE &&
        !cn_template_strings_want(run, a[1], "trim's characters", &chars)) {
        return make_bad();
    }
    text = cn_template_strings_strip(text, chars, CN_STRIP_LEFT | CN_STRIP_RIGHT);
    return make_text(text.at, text.len);
}

static cn_value filter_replace(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text, old, new;
    int64_t count;
    (void)args;
    const cn_value limit = a[3].kind == CN_NONE ? make_missing() : a[3];
    if (!soft_text(run, a[0], &text) || !soft_text(run, a[1], &old) ||
        !soft_text(run, a[2], &new) ||
        !cn_template_strings_want_int(run, limit, "replace's count", -1, &count)) {
        return make_bad();
    }
    return cn_template_strings_replace(run, text, old, new, count);
}

static cn_value filter_center(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    int64_t width;
    (void)args;
    if (!soft_text(run, a[0], &text) ||
        !cn_template_strings_want_int(run, a[1], "center's width", 80, &width)) {
        return make_bad();
    }
    return cn_template_strings_center(run, text, width, (cn_text){" ", 1});
}

// What indent puts before lines: spaces, or the given text.
static bool indention(cn_run *run, cn_value width, cn_value *out)
{
    int64_t spaces;
    if (is_string(width)) {
        *out = width;
        return true;
    }
    if (!cn_template_strings_want_int(run, width, "indent's width", 4, &spaces)) return false;
    *out = cn_template_ops_binary(run, CN_OP_MULTIPLY, make_text(" ", 1), make_int(spaces));
    return !is_bad(*out);
}

static cn_value filter_indent(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_value indent;
    cn_text text;
    const bool first = flag(a[2]), blank = flag(a[3]);
    (void)args;
    if (!indention(run, a[1], &indent)) return make_bad();
    if (!cn_template_strings_want(run, a[0], "indent's text", &text)) return make_bad();
    const cn_value lines = cn_template_strings_lines(run, text, false);
    if (is_bad(lines)) return lines;
    // Jinja appends a newline before it splits: a text that ends in one keeps it.
    size_t end = 0, at = 0;
    for (uint32_t i = 0; i < lines.len; i++) {
        at += cn_template_unicode_line((cn_text){text.at + at, text.len - at}, &end) + end;
    }
    const uint32_t count = lines.len + (end != 0 || !lines.len);
    const size_t mark = cn_template_run_begin(run);
    for (uint32_t i = 0; i < count; i++) {
        const cn_value line = i < lines.len ? lines.as.items[i] : make_text("", 0);
        const bool indented = i ? blank || line.len : first;
        if (i && !cn_template_run_emit(run, "\n", 1)) break;
        if (indented && !cn_template_run_emit(run, indent.as.text, indent.len)) break;
        if (!cn_template_run_emit(run, line.as.text, line.len)) break;
    }
    return cn_template_run_end(run, mark);
}

static cn_value filter_truncate(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text, end = {"...", 3};
    int64_t length, leeway;
    (void)args;
    if (!cn_template_strings_want_int(run, a[1], "truncate's length", 255, &length) ||
        (!is_missing(a[3]) && !cn_template_strings_want(run, a[3], "truncate's end", &end)) ||
        !cn_template_strings_want_int(run, a[4].kind == CN_NONE ? make_missing() : a[4],
                                      "truncate's leeway", 5, &leeway)) {
        return make_bad();
    }
    const int64_t end_points = (int64_t)cn_template_value_points(end);
    if (length < end_points || leeway < 0 || leeway > INT32_MAX || length > INT32_MAX) {
        return cn_template_run_invalid(run, "truncate() wants a length of %lld or more",
                                       (long long)end_points);
    }
    const int64_t points = cn_template_value_length(a[0]);
    if (points >= 0 && points <= length + leeway) return a[0];
    if (!cn_template_strings_want(run, a[0], "truncate's text", &text)) return make_bad();
    size_t kept = cn_template_value_offset(text, (size_t)(length - end_points));
    if (!flag(a[2])) {
        size_t space = kept;
        while (space && text.at[space - 1] != ' ') space--;
        if (space) kept = space - 1;
    }
    const cn_value head = make_text(text.at, kept);
    return cn_template_ops_binary(run, CN_OP_ADD, head, make_text(end.at, end.len));
}

static cn_value filter_wordcount(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    int64_t words = 0;
    (void)args;
    if (!soft_text(run, a[0], &text) || !cn_template_run_charge_bytes(run, text.len)) {
        return make_bad();
    }
    while (text.len) {
        size_t step = cn_template_unicode_word(text);
        words += step != 0;
        if (!step) step = cn_template_value_offset(text, 1);
        text = (cn_text){text.at + step, text.len - step};
    }
    return make_int(words);
}

static cn_value filter_string(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return cn_template_text_string(run, a[0]);
}

static cn_value marked(cn_value text)
{
    text.flags |= CN_MARKUP;
    return text;
}

static cn_value filter_safe(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const cn_value text = cn_template_text_string(run, a[0]);
    return is_bad(text) ? text : marked(text);
}

static cn_value filter_forceescape(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text text;
    (void)args;
    if (!soft_text(run, a[0], &text)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_text_escape(run, text);
    const cn_value escaped = cn_template_run_end(run, mark);
    return is_bad(escaped) ? escaped : marked(escaped);
}

static cn_value filter_escape(cn_run *run, const cn_value *a, const cn_args *args)
{
    if (is_string(a[0]) && (a[0].flags & CN_MARKUP)) return a[0];
    return filter_forceescape(run, a, args);
}

static bool quote(cn_run *run, cn_text text, bool in_query)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.at[i];
        const bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                           (c && strchr("_.-~", c)) || (c == '/' && !in_query);
        const char coded[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (plain && !cn_template_run_emit(run, text.at + i, 1)) return false;
        if (plain) continue;
        if (c == ' ' && in_query ? !cn_template_run_emit(run, "+", 1)
                                 : !cn_template_run_emit(run, coded, 3)) {
            return false;
        }
    }
    return true;
}

static bool quote_pairs(cn_run *run, cn_value pairs)
{
    cn_walk walk;
    cn_value pair;
    if (!cn_template_value_walk(run, pairs, &walk)) return false;
    for (bool first = true; cn_template_value_next(run, &walk, &pair); first = false) {
        cn_text text;
        const cn_value list = cn_template_value_list(run, pair);
        if (is_bad(list)) return false;
        if (list.len != 2) {
            cn_template_run_invalid(run, "urlencode() wants pairs");
            return false;
        }
        if (!first && !cn_template_run_emit(run, "&", 1)) return false;
        if (!soft_text(run, list.as.items[0], &text) || !quote(run, text, true) ||
            !cn_template_run_emit(run, "=", 1) || !soft_text(run, list.as.items[1], &text) ||
            !quote(run, text, true)) {
            return false;
        }
    }
    return true;
}

static cn_value filter_urlencode(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_value pairs = a[0];
    cn_text text;
    (void)args;
    if (pairs.kind == CN_DICT) {
        pairs = (cn_value){.kind = CN_VIEW, .flags = CN_VIEW_ITEMS, .as.dict = pairs.as.dict};
    }
    const bool scalar = is_string(pairs) || is_number(pairs) || pairs.kind == CN_NONE;
    const size_t mark = cn_template_run_begin(run);
    if (!scalar) quote_pairs(run, pairs);
    else if (soft_text(run, pairs, &text)) quote(run, text, false);
    return cn_template_run_end(run, mark);
}

static cn_value filter_format(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_value values = make_items(CN_TUPLE, a + 1, args->positional_count - 1);
    cn_text text;
    if (args->named_count) {
        if (values.len) {
            return cn_template_run_invalid(
                run, "can't handle positional and keyword arguments at the same time");
        }
        cn_dict *dict = cn_template_value_dict(run, args->named_count);
        for (uint32_t i = 0; dict && i < args->named_count; i++) {
            const cn_text name = args->named[i].name;
            cn_template_value_put(run, dict, make_text(name.at, name.len), args->named[i].value);
        }
        if (!dict || run->code) return make_bad();
        values = make_dict(CN_DICT, dict);
    }
    if (!soft_text(run, a[0], &text)) return make_bad();
    return cn_template_format_percent(run, make_text(text.at, text.len), values);
}

// Numbers

static cn_value filter_abs(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    if (a[0].kind == CN_FLOAT) return make_float(fabs(a[0].as.real));
    if (is_whole(a[0])) {
        return whole_of(a[0]) < 0 ? cn_template_ops_unary(run, CN_OP_NEGATE, a[0])
                                  : make_int(whole_of(a[0]));
    }
    if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
    return cn_template_run_invalid(run, "bad operand type for abs(): '%s'",
                                   cn_template_value_type(a[0]));
}

static cn_value whole_part(cn_run *run, double real, cn_value absent)
{
    if (isnan(real)) return absent;
    if (fabs(real) < 0x1p63) return make_int((int64_t)real);
    return cn_template_run_invalid(run, "an integer is beyond 64 bits");
}

static cn_value filter_int(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value absent = is_missing(a[1]) ? make_int(0) : a[1];
    int64_t base, whole;
    double real;
    (void)args;
    if (!cn_template_strings_want_int(run, a[2], "int's base", 10, &base)) return make_bad();
    if (is_whole(a[0])) return make_int(whole_of(a[0]));
    if (a[0].kind == CN_FLOAT) return whole_part(run, a[0].as.real, absent);
    if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
    if (!is_string(a[0])) return absent;
    if (cn_template_numbers_int(text_of(a[0]), (int)base, &whole)) return make_int(whole);
    if (!cn_template_numbers_float(text_of(a[0]), &real) || isinf(real)) return absent;
    return whole_part(run, real, absent);
}

static cn_value filter_float(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value absent = is_missing(a[1]) ? make_float(0) : a[1];
    double real;
    (void)args;
    if (is_number(a[0])) return make_float(real_of(a[0]));
    if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
    if (!is_string(a[0]) || !cn_template_numbers_float(text_of(a[0]), &real)) return absent;
    return make_float(real);
}

static cn_value filter_round(cn_run *run, const cn_value *a, const cn_args *args)
{
    int64_t digits;
    const cn_text method = is_string(a[2]) ? text_of(a[2]) : text_from("common");
    (void)args;
    if (!cn_template_strings_want_int(run, a[1], "round's precision", 0, &digits)) {
        return make_bad();
    }
    if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
    if (!is_number(a[0])) {
        return cn_template_run_invalid(run, "round() wants a number, not %s",
                                       cn_template_value_type(a[0]));
    }
    if (text_is(method, "common")) {
        if (a[0].kind == CN_FLOAT) {
            return make_float(cn_template_numbers_round(a[0].as.real, digits));
        }
        return make_int(digits >= 0 ? whole_of(a[0])
                                    : cn_template_numbers_round_int(whole_of(a[0]), digits));
    }
    const double scale = pow(10, (double)digits), scaled = real_of(a[0]) * scale;
    // Python's ceil and floor give ints, which have no negative zero.
    if (text_is(method, "ceil")) return make_float((ceil(scaled) + 0.0) / scale);
    if (text_is(method, "floor")) return make_float((floor(scaled) + 0.0) / scale);
    return cn_template_run_invalid(run, "method must be common, ceil or floor");
}

static cn_value filter_filesizeformat(cn_run *run, const cn_value *a, const cn_args *args)
{
    static const char prefixes[] = "kMGTPEZY";
    const cn_value size = filter_float(run, (cn_value[2]){a[0], make_none()}, args);
    const bool binary = flag(a[1]);
    const double base = binary ? 1024 : 1000;
    char text[64];
    if (is_bad(size) || size.kind != CN_FLOAT) {
        return cn_template_run_invalid(run, "filesizeformat() wants a number");
    }
    const double bytes = size.as.real;
    if (bytes == 1) return make_text("1 Byte", 6);
    int len;
    if (bytes < base) {
        len = snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes) + 0.0);
    } else {
        size_t i = 0;
        double unit = base * base;
        for (; bytes >= unit && i < sizeof prefixes - 2; i++) unit *= base;
        const char letter = binary && i == 0 ? 'K' : prefixes[i];
        len = snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / unit, letter,
                       binary ? "i" : "");
    }
    char *copy = cn_template_run_take(run, (size_t)len, 1);
    if (!copy) return make_bad();
    memcpy(copy, text, (size_t)len);
    return make_text(copy, (size_t)len);
}

// Everything

static cn_value filter_default(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run;
    (void)args;
    if (!is_undefined(a[0]) && !(flag(a[2]) && !cn_template_value_truth(a[0]))) return a[0];
    return is_missing(a[1]) ? make_text("", 0) : a[1];
}

static cn_value filter_length(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const int64_t length = cn_template_value_length(a[0]);
    if (length >= 0) return make_int(length);
    return cn_template_run_invalid(run, "object of type '%s' has no len()",
                                   cn_template_value_type(a[0]));
}

static cn_value filter_list(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return cn_template_value_list(run, a[0]);
}

static cn_value filter_attr(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_text name;
    (void)args;
    if (!cn_template_strings_want(run, a[1], "attr's name", &name)) return make_bad();
    if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
    const cn_value found = cn_template_ops_member(run, a[0], name);
    return is_missing(found) ? make_sentence("there is no such attribute") : found;
}

static bool json_separators(cn_run *run, cn_value v, cn_json_style *style)
{
    if (is_missing(v) || v.kind == CN_NONE) return true;
    const cn_value pair = cn_template_value_list(run, v);
    if (is_bad(pair)) return false;
    if (pair.len == 2) {
        return cn_template_strings_want(run, pair.as.items[0], "a separator",
                                        &style->item_separator) &&
               cn_template_strings_want(run, pair.as.items[1], "a separator",
                                        &style->key_separator);
    }
    cn_template_run_invalid(run, "tojson() wants two separators, not %u", pair.len);
    return false;
}

static cn_value filter_tojson(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_json_style style = {.item_separator = {", ", 2}, .key_separator = {": ", 2},
                           .ascii_only = flag(a[1]), .sorted = flag(a[4])};
    (void)args;
    if (!is_missing(a[2]) && a[2].kind != CN_NONE) {
        cn_value indent;
        if (!indention(run, a[2], &indent)) return make_bad();
        style.lines = true;
        style.indent = text_of(indent);
        style.item_separator = (cn_text){",", 1};
    }
    if (!json_separators(run, a[3], &style)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    cn_template_json_write(run, a[0], &style);
    return cn_template_run_end(run, mark);
}

static const cn_native filters[] = {
    {"abs", filter_abs, 1, 1, {"x"}},
    {"attr", filter_attr, 2, 2, {"obj", "name"}},
    {"capitalize", filter_capitalize, 1, 1, {"s"}},
    {"center", filter_center, 1, 2, {"value", "width"}},
    {"count", filter_length, 1, 1, {"obj"}},
    {"d", filter_default, 1, 3, {"value", "default_value", "boolean"}},
    {"default", filter_default, 1, 3, {"value", "default_value", "boolean"}},
    {"e", filter_escape, 1, 1, {"s"}},
    {"escape", filter_escape, 1, 1, {"s"}},
    {"filesizeformat", filter_filesizeformat, 1, 2, {"value", "binary"}},
    {"float", filter_float, 1, 2, {"value", "default"}},
    {"forceescape", filter_forceescape, 1, 1, {"value"}},
    {"format", filter_format, 1, CN_VARIADIC, {"value"}},
    {"indent", filter_indent, 1, 4, {"s", "width", "first", "blank"}},
    {"int", filter_int, 1, 3, {"value", "default", "base"}},
    {"length", filter_length, 1, 1, {"obj"}},
    {"list", filter_list, 1, 1, {"value"}},
    {"lower", filter_lower, 1, 1, {"s"}},
    {"replace", filter_replace, 3, 4, {"s", "old", "new", "count"}},
    {"round", filter_round, 1, 3, {"value", "precision", "method"}},
    {"safe", filter_safe, 1, 1, {"value"}},
    {"string", filter_string, 1, 1, {"s"}},
    {"title", filter_title, 1, 1, {"s"}},
    {"tojson", filter_tojson, 1, 5, {"x", "ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", filter_trim, 1, 2, {"value", "chars"}},
    {"truncate", filter_truncate, 1, 5, {"s", "length", "killwords", "end", "leeway"}},
    {"upper", filter_upper, 1, 1, {"s"}},
    {"urlencode", filter_urlencode, 1, 1, {"value"}},
    {"wordcount", filter_wordcount, 1, 1, {"s"}},
    // Jinja has these, and no chat template needs them.
    {"pprint", NULL, 0, 0, {NULL}},
    {"random", NULL, 0, 0, {NULL}},
    {"striptags", NULL, 0, 0, {NULL}},
    {"urlize", NULL, 0, 0, {NULL}},
    {"wordwrap", NULL, 0, 0, {NULL}},
    {"xmlattr", NULL, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

const cn_native *cn_template_filters_find(cn_text name)
{
    const cn_native *found = cn_template_native_find(filters, name);
    return found ? found : cn_template_native_find(cn_template_select_filters, name);
}
